"""What every test shares: hypothesis without a clock, and no settings of the machine."""

from __future__ import annotations

import os

from hypothesis import settings

# A shared machine is slow at times; that is no failure of a property.
settings.register_profile("kstream", deadline=None, print_blob=True)
settings.load_profile("kstream")

# KSTREAM_SEEDS and KSTREAM_STORM_SECONDS say how much is tested; whatever else is set would
# decide how kstream runs, on this machine only.
for _name in list(os.environ):
    if _name.startswith("KSTREAM_") and _name not in {"KSTREAM_SEEDS", "KSTREAM_STORM_SECONDS"}:
        del os.environ[_name]

"""What every test shares: hypothesis without a clock, and no settings of the machine."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.servers.fixtures", "tests.sharing"]

# A shared machine is slow at times; that is no failure of a property.
settings.register_profile(
    "kstream", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("kstream")

# These say how much is tested; whatever else is set would decide how kstream runs, on this machine
# only.
_KEPT = {"KSTREAM_SEEDS", "KSTREAM_FIRST_SEED", "KSTREAM_STORM_SECONDS"}
for _name in list(os.environ):
    if _name.startswith("KSTREAM_") and _name not in _KEPT:
        del os.environ[_name]

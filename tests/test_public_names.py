"""The names users may rely on, held against ``tests/golden/public_names.txt``.

A change there is a change of the contract. After a wanted one:
``python -m tests.test_public_names`` writes the file anew.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import kstream
import kstream.sync

GOLDEN = Path(__file__).parent / "golden" / "public_names.txt"


def attributes(thing: type) -> Iterator[str]:
    """Yield the public attributes that *thing* has from us, with the arguments of its methods."""
    for name in sorted(dir(thing)):
        if name.startswith("_"):
            continue
        owner = next((kind for kind in thing.__mro__ if name in vars(kind)), None)
        if owner is None or not owner.__module__.startswith("kstream"):
            continue
        member = inspect.getattr_static(thing, name)
        function = getattr(member, "__func__", member)
        if inspect.isfunction(function):
            arguments = ", ".join(inspect.signature(function).parameters)
            yield f"{name}({arguments})"
        else:
            yield name


def public_names() -> str:
    """Return every public name, one a line."""
    written = []
    for module in (kstream, kstream.sync):
        for name in sorted(module.__all__):
            thing = getattr(module, name)
            written.append(f"{module.__name__}.{name}")
            if inspect.isclass(thing):
                written += [f"{module.__name__}.{name}.{item}" for item in attributes(thing)]
    return "\n".join(written) + "\n"


def test_the_public_names_are_those_promised() -> None:
    """ARCHITECTURE 12: public names are golden-tested."""
    assert public_names() == GOLDEN.read_text(encoding="utf-8"), (
        "the public names changed: if that is wanted, run python -m tests.test_public_names"
    )


def test_every_exported_name_exists_and_is_documented() -> None:
    """What is exported is promised, and says what it promises."""
    assert len(set(kstream.__all__)) == len(kstream.__all__)
    for name in kstream.__all__:
        thing = getattr(kstream, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name


if __name__ == "__main__":
    GOLDEN.write_text(public_names(), encoding="utf-8")

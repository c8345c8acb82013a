"""Print what pyproject.toml asks for, one requirement a line: the project, its extras, the dev group.

``--lowest`` pins each direct requirement to the oldest version that is allowed, so that a CI job
can show that the lower bounds are true. ``--runtime`` leaves out the dev group.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def requirements(pyproject: dict[str, Any], *, group: str | None) -> Iterator[str]:
    """Yield each requirement once for every place that names it; *group* may include others."""
    project = pyproject["project"]
    yield from project["dependencies"]
    for extra in project["optional-dependencies"].values():
        # `all` names the other extras of this same project.
        yield from (line for line in extra if not line.startswith(f"{project['name']}["))
    pending = [group] if group else []
    while pending:
        for line in pyproject["dependency-groups"][pending.pop()]:
            if isinstance(line, dict):
                pending.append(line["include-group"])
            else:
                yield line


def _pinned(requirement: str) -> str:
    """Return *requirement* at its lowest version; its marker stays as it is."""
    what, semicolon, marker = requirement.partition(";")
    return what.replace(">=", "==") + semicolon + marker


def main(arguments: list[str]) -> None:
    """Print the requirements, sorted."""
    pyproject = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    lines = sorted(set(requirements(pyproject, group=None if "--runtime" in arguments else "dev")))
    if "--lowest" in arguments:
        lines = [_pinned(line) for line in lines]
    print("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])

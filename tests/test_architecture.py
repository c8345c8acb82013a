"""The layers of the package, as its source has them.

Every import counts: inside functions, inside ``if TYPE_CHECKING``, relative or absolute. A knot
that only the type checker sees is a knot all the same.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "kstream"

VALUES = ["errors", "clock", "keyspace", "shard", "position", "record", "lease", "signals"]
"""Layer 0, in this order: each may import only those before it."""

SHARED = {"sqlite", "aws"}
FAMILIES = {"kinesis", "kafka", "local", "leases", "objects", "sinks", "seen", "observers"}
SURFACE = {
    *("__init__", "__main__", "producer", "consumer", "worker", "hosting", "connect", "settings"),
    *("urls", "codecs", "changes", "sync", "leaving", "operations", "cli"),
}

VENDORS = {
    "msgspec": {""},
    "orjson": {""},
    "typing_extensions": {""},
    "tenacity": {"engine"},
    "click": {"cli"},
    "rich": {"cli"},
    "prometheus_client": {"observers"},
    "pydantic": {"codecs"},
    "uvloop": {"worker"},
    "aiohttp": {"aws", "kinesis"},
    "boto3": {"aws", "objects.s3"},
    "botocore": {"aws", "objects.s3"},
    "compression": {"sinks", "objects"},
    "backports": {"sinks", "objects"},
    "pytest": {"testing"},
    "hypothesis": {"testing"},
}
"""Who may import which library: "" is everybody, else the module or package within kstream."""

CONNECTS = {"connect", "operations"}
"""The surface modules that may name an adapter (others get it from `connect`)."""

MODULES = sorted(PACKAGE.rglob("*.py"))
APPS = sorted([*(ROOT / "consumers").glob("*.py"), *(ROOT / "producers").glob("*.py")])


def dotted(path: Path) -> str:
    """Return a module's name within kstream: ``engine.shard``, ``ports``, ``__init__``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if len(parts) > 1 and parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)


def imports(path: Path) -> Iterator[str]:
    """Yield the absolute name of every module or name that *path* imports."""
    package = ["kstream", *path.relative_to(PACKAGE).parts[:-1]]
    return imported_by(path.read_text(encoding="utf-8"), package)


def imported_by(source: str, package: list[str]) -> Iterator[str]:
    """Yield what *source*, a module of *package*, imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, node.module] if node.module else base)
            # `from . import x` may name a module, `from .m import x` one of its names.
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def inner(name: str) -> str | None:
    """Return the module of ours that an imported *name* lies in, or `None` for another's."""
    parts = name.split(".")
    if parts[0] != "kstream":
        return None
    for end in range(len(parts), 1, -1):
        within = PACKAGE.joinpath(*parts[1:end])
        if within.with_suffix(".py").exists() or (within / "__init__.py").exists():
            return ".".join(parts[1:end])
    return "__init__"


def top(module: str) -> str:
    """Return the first part of a module's name within kstream."""
    return module.partition(".")[0]


def layer(module: str) -> float:
    """Return a module's layer; a fraction orders the values of layer 0 among themselves."""
    first = top(module)
    if first in VALUES:
        return VALUES.index(first) / 100
    layers = {"core": 1.0, "ports": 2.0, "engine": 4.0, "testing": 6.0}
    layers |= dict.fromkeys(SHARED, 3.0) | dict.fromkeys(FAMILIES, 3.1)
    layers |= dict.fromkeys(SURFACE, 5.0)
    assert first in layers, f"kstream/{first} has no layer: put it into one here"
    return layers[first]


def complaints(module: str, imported: str) -> Iterator[str]:
    """Yield what is wrong with *module* importing *imported*, both within kstream."""
    here, there = top(module), top(imported)
    if here == there or here == "testing":
        return
    if there == "testing":
        yield "testing/ is imported by none"
    if layer(imported) > layer(module):
        yield f"layer {layer(module):g} imports layer {layer(imported):g}"
    if here in FAMILIES and there in FAMILIES:
        yield "adapter families do not import each other"
    if here == "engine" and layer(imported) // 1 == 3:
        yield "the engine knows ports, never an adapter"
    if here in SURFACE - CONNECTS - {"cli"} and layer(imported) // 1 == 3:
        yield "only connect and operations name adapters"


def vendor_complaints(module: str, name: str) -> Iterator[str]:
    """Yield what is wrong with *module* importing *name* from outside."""
    root = name.partition(".")[0]
    if root in sys.stdlib_module_names:
        return
    allowed = VENDORS.get(root)
    if allowed is None:
        yield f"{root} is no library of ours: pyproject.toml and VENDORS name those"
    elif top(module) != "testing" and not any(
        home == "" or module == home or module.startswith(f"{home}.") for home in allowed
    ):
        yield f"{root} belongs to {sorted(allowed)}"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_up_the_layers_and_vendors_stay_at_the_edge(path: Path) -> None:
    """ARCHITECTURE 3: a module imports only from layers above its own."""
    module = dotted(path)
    layer(module)
    found = []
    for name in imports(path):
        ours = inner(name)
        wrong = vendor_complaints(module, name) if ours is None else complaints(module, ours)
        found += [f"{module} imports {name}: {why}" for why in wrong]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "imported", "why"),
    [
        ("core.lineage", "ports.stream", "imports layer"),
        ("errors", "clock", "imports layer"),
        ("shard", "position", "imports layer"),
        ("ports.stream", "local.stream", "imports layer"),
        ("local.stream", "leases.memory", "families"),
        ("sqlite.file", "local.stream", "imports layer"),
        ("engine.shard", "sqlite.file", "never an adapter"),
        ("engine.shard", "worker", "imports layer"),
        ("worker", "local.stream", "only connect"),
        ("connect", "testing.loop", "imported by none"),
    ],
)
def test_the_judge_of_layers_finds_each_kind_of_knot(module: str, imported: str, why: str) -> None:
    """A check that cannot fail proves nothing."""
    assert any(why in complaint for complaint in complaints(module, imported))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("engine.shard", "click"),
        ("worker", "tenacity"),
        ("clock", "attrs"),
    ],
)
def test_the_judge_of_vendors_finds_one_in_the_wrong_place(module: str, name: str) -> None:
    """A check that cannot fail proves nothing."""
    assert list(vendor_complaints(module, name))


def test_the_judge_sees_imports_in_functions_and_for_type_checking() -> None:
    """A type-level knot is a knot."""
    source = (
        "from ..errors import LeaseLost\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from ..engine import shard\n"
        "def late():\n    import tenacity\n"
    )
    found = set(imported_by(source, ["kstream", "core"]))
    assert {"kstream.errors.LeaseLost", "kstream.engine.shard", "tenacity"} <= found


def test_core_is_pure() -> None:
    """ARCHITECTURE 3: no ``async``, no clock, no input or output in ``core/``."""
    impure = {"asyncio", "time", "datetime", "os", "pathlib", "socket", "logging"}
    for path in sorted((PACKAGE / "core").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not any(
            isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await)
            for node in ast.walk(tree)
        ), path
        assert not {name.split(".")[0] for name in imports(path)} & impure, path
        assert "kstream.clock.Clock" not in set(imports(path)), path


@pytest.mark.parametrize("path", APPS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_apps_use_only_what_kstream_exports(path: Path) -> None:
    """ARCHITECTURE 2: ``consumers/`` and ``producers/`` double as documentation."""
    import kstream

    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            source = node.module or ""
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            source, names = "", [alias.name for alias in node.names]
        else:
            continue
        root = (source or names[0]).split(".")[0]
        if root == "kstream":
            assert source in {"kstream", "kstream.sync"}, f"{path.name}: {source} {names}"
            exported = __import__(source, fromlist=["__all__"]).__all__
            assert set(names) <= set(exported), f"{path.name} uses {names} of {source}"
        else:
            known = {"click", "rich", "msgspec", "pydantic", "consumers", "producers"}
            assert root in known or root in sys.stdlib_module_names, f"{path.name} imports {root}"
    assert kstream.__all__


def test_importing_kstream_loads_no_adapter() -> None:
    """ARCHITECTURE 3: adapters are imported lazily, by `connect`."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import kstream, sys; print('\\n'.join(sys.modules))"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout.split()
    assert "kstream.worker" in loaded
    adapters = SHARED | FAMILIES | {"testing", "cli", "operations"}
    ours = [name for name in loaded if name.startswith("kstream.")]
    assert not [name for name in ours if name.split(".")[1] in adapters]
    vendors = {"click", "rich", "prometheus_client", "sqlite3", "pydantic", "aiohttp", "botocore"}
    assert not vendors & {name.split(".")[0] for name in loaded}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_every_module_says_what_it_is_and_what_it_exports(path: Path) -> None:
    """House habits: docstring, ``from __future__ import annotations``, ``__all__``, no star."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path} has no docstring"
    statements = tree.body[1:]
    if not statements:
        return  # a package's __init__ may be its docstring alone
    assert isinstance(statements[0], ast.ImportFrom), f"{path}: the future import comes first"
    assert statements[0].module == "__future__"
    names = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert "__all__" in names or path.stem == "__main__", f"{path} has no __all__"
    assert not any(name.endswith(".*") for name in imports(path))

"""The wheel holds the package and nothing else, and works where the source is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import kstream

pytest.importorskip("hatchling", reason="the build backend is not installed")

ROOT = Path(__file__).parent.parent
INPUTS = ("kstream", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel offline, from a copy: nothing is left behind in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in INPUTS:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source / name)
    (source / "tests").mkdir()
    (source / "tests" / "stray.py").write_text("raise SystemExit('not for users')\n")
    _run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
        + ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), "."],
        source,
    )
    [built] = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_its_metadata_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    metadata = f"kstream-{kstream.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"kstream", metadata}
    modules = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "kstream").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("kstream/")} == modules
    assert "kstream/py.typed" in names
    assert f"{metadata}/licenses/LICENSE" in names
    assert wheel.name == f"kstream-{kstream.__version__}-py3-none-any.whl", "pure Python"


def test_the_metadata_names_what_is_needed_and_what_it_offers(wheel: Path) -> None:
    metadata = f"kstream-{kstream.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        points = archive.read(f"{metadata}/entry_points.txt").decode()
        text = archive.read(f"{metadata}/METADATA").decode()
    assert "kstream = kstream.cli:main" in points
    assert "kstream = kstream.testing.plugin" in points
    assert "Requires-Python: >=3.11" in text
    needed = [line for line in text.splitlines() if line.startswith("Requires-Dist")]
    assert not [line for line in needed if "pytest" in line or "hypothesis" in line]


def test_an_empty_environment_with_the_wheel_works_without_the_source(
    wheel: Path, tmp_path: Path
) -> None:
    """Install it, then produce and read with the command and with the library."""
    place = tmp_path / "venv"
    venv.create(place, with_pip=False, symlinks=True)
    scripts = place / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / Path(sys.executable).name
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)], tmp_path)
    # The dependencies are those of this environment. It may hold an editable kstream, whose .pth
    # file counts only in a site directory, which PYTHONPATH is not.
    dependencies = {"PYTHONPATH": sysconfig.get_path("purelib")}

    where = "import kstream, kstream.sync, kstream.testing.simulation; print(kstream.__file__)"
    found = Path(_run([str(python), "-c", where], tmp_path, dependencies).strip())
    assert found.is_relative_to(place.resolve())

    command = str(scripts / "kstream")
    _run([command, "streams", "create", "local:shop.db#orders"], tmp_path, dependencies)
    _run([command, "put", "local:shop.db#orders", "hello", "-k", "ann"], tmp_path, dependencies)
    read = _run([command, "tail", "local:shop.db#orders"], tmp_path, dependencies)
    assert read == "hello\n"


def _run(command: list[str], place: Path, more: dict[str, str] | None = None) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("KSTREAM_")}
    kept.pop("PYTHONPATH", None)
    done = subprocess.run(
        command,
        cwd=place,
        env=kept | (more or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout

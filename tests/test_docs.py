"""The tables of docs/ are those of the code, and the tests that docs/ shows are run as tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import botocore.session
import orjson
import pytest
from click import Group
from prometheus_client.metrics import MetricWrapperBase

import kstream
from kstream.cli.program import loaded
from kstream.observers.prometheus import PrometheusObserver
from kstream.settings import KNOBS, Settings
from kstream.testing import GAPS, conformance
from tests.test_readme import ROOT, blocks

DOCS = ROOT / "docs"


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under *heading* of a page, without its head."""
    section = (DOCS / page).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    lines = section.split("\n## ")[0].splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("|---"))
    found = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line[1:-1].split("|")])
    return found


def test_the_table_of_settings_is_that_of_the_code() -> None:
    defaults = Settings()
    listed = rows("operating.md", "Settings")
    assert [cells[0].strip("`") for cells in listed] == list(KNOBS)
    for name, variable, default, _ in listed:
        field, parse = KNOBS[name.strip("`")]
        assert variable == f"`KSTREAM_{name.strip('`').upper()}`"
        assert parse(default.strip("`")) == getattr(defaults, field)


def test_the_table_of_metrics_is_that_of_the_code() -> None:
    declared = {}
    for metric in vars(PrometheusObserver()).values():
        if isinstance(metric, MetricWrapperBase):
            declared[metric._name] = (metric._type, tuple(metric._labelnames))
    # Gauges that ask a function are registered and not kept.
    for family in PrometheusObserver().registry.collect():
        declared.setdefault(family.name, (family.type, ()))
    listed = {}
    for name, kind, labels, _ in rows("operating.md", "Metrics"):
        series = name.strip("`")
        assert series.endswith("_total") == (kind == "counter")
        names = tuple(label for label in labels.split(", ") if label)
        listed[series.removesuffix("_total")] = (kind, names)
    assert listed == declared


def test_every_public_error_that_the_docs_name_exists() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    named = set(re.findall(r"`([A-Z]\w*(?:Error|Loss|Full|Store|Lost|Object|Found))`", text))
    assert named
    assert {name for name in named if not hasattr(kstream, name)} == set()


def test_every_suite_that_the_docs_name_exists() -> None:
    listed = rows("testing.md", "Your adapter against the ports")
    modules = set()
    for _, suite, _ in listed:
        module, name = suite.strip("`").split(".")
        modules.add(module)
        source = Path(next(iter(conformance.__path__))) / f"{module}.py"
        assert f"class {name}" in source.read_text(encoding="utf-8")
    ports = {path.stem for path in (ROOT / "kstream/ports").glob("*.py")}
    assert {cells[0].strip("`").split(".")[1] for cells in listed} <= ports


def test_every_option_that_the_docs_name_exists() -> None:
    """Each ``$ kstream ...`` line: its verbs and its options."""
    lines = [line for _, _, code in blocks("console") for line in code.splitlines()]
    calls = [line.split("kstream ", 1)[1] for line in lines if "kstream " in line and "$" in line]
    assert len(calls) > 20
    for call in calls:
        words = call.partition(" #")[0].split()
        command = loaded()
        while isinstance(command, Group):
            command = command.commands[words.pop(0)]  # type: ignore[assignment]  # a group or a command
        known = {name for option in command.params for name in option.opts}
        used = {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z].*", word)}
        assert used <= known, call


def test_the_permissions_that_the_docs_name_exist() -> None:
    """A policy with a misspelled action allows nothing, and says so nowhere."""
    named = re.findall(
        r"\b(kinesis|dynamodb|s3):([A-Z][a-z]\w+)", (DOCS / "iam.md").read_text("utf-8")
    )
    assert len(named) > 30
    models = {
        service: set(botocore.session.Session().get_service_model(service).operation_names)
        for service in ("kinesis", "dynamodb", "s3")
    }
    streams = botocore.session.Session().get_service_model("dynamodbstreams")
    models["dynamodb"] |= set(streams.operation_names)  # one prefix for both
    models["s3"] |= {"ListBucket"}  # what ListObjectsV2 is allowed by
    assert {
        f"{service}:{action}" for service, action in named if action not in models[service]
    } == set()
    for _, _, code in blocks("json"):
        assert orjson.loads(code)["Version"] == "2012-10-17"


def test_what_the_fakes_do_not_do_is_what_they_say() -> None:
    section = (DOCS / "testing.md").read_text("utf-8").split("\n## What the fakes do not do\n")[1]
    section = section.split("\n## ")[0]
    listed: dict[str, list[str]] = {}
    for line in section.splitlines():
        if line.startswith("`") and line.endswith("`:"):
            listed[line.strip("`:")] = []
        elif line.startswith("- "):
            listed[list(listed)[-1]].append(line.removeprefix("- "))
    assert listed == {name: list(gaps) for name, gaps in GAPS.items()}


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    assert {page for page in pages if f"]({page})" not in index} == set()


def test_every_link_to_a_heading_leads_to_one() -> None:
    for page in (*DOCS.glob("*.md"), ROOT / "README.md"):
        links = re.findall(r"\]\(([^)#\s:]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
        for target, anchor in links:
            text = (page.parent / target if target else page).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            anchors = {
                re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings
            }
            assert anchor in anchors, f"{page.name}: {target}#{anchor}"


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, id=f"{path.name}:{line}")
        for path, line, code in blocks("python")
        if re.search(r"^(def test_|class Test)", code, re.MULTILINE)
    ],
)
def test_what_is_shown_as_a_test_passes_as_one(code: str, tmp_path: Path) -> None:
    (tmp_path / "test_shown.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--kstream-seed=3"]
    ran = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr

"""Precedence, origins and refusals of settings."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from kstream.errors import ConfigError
from kstream.ports.leases import Pace
from kstream.settings import KNOBS, Settings, load_settings, override

PLACES = ["argument", "URL", "KSTREAM_SYNC", "kstream.toml"]


@pytest.mark.parametrize(
    "given",
    [subset for size in range(5) for subset in combinations(PLACES, size)],
    ids=lambda given: "+".join(given) or "nothing",
)
def test_the_first_place_that_says_something_wins(given: tuple[str, ...], tmp_path: Path) -> None:
    """ARCHITECTURE 11: argument > URL query > KSTREAM_* > kstream.toml > default."""
    if "kstream.toml" in given:
        (tmp_path / "kstream.toml").write_text('sync = "4s"\n')
    resolved = load_settings(
        {"sync": "1s"} if "argument" in given else {"sync": None},
        query={"sync": "2s", "durability": "full"} if "URL" in given else {},
        environ={"KSTREAM_SYNC": "3s"} if "KSTREAM_SYNC" in given else {},
        directory=tmp_path,
    )
    expected = {"argument": 1.0, "URL": 2.0, "KSTREAM_SYNC": 3.0, "kstream.toml": 4.0}
    winner = given[0] if given else "default"
    assert resolved.settings.sync_s == expected.get(winner, Settings().sync_s)
    assert Path(resolved.origins["sync_s"]).name == winner
    assert resolved.origins["budget_bytes"] == "default"


def test_whole_settings_stand_as_they_are(tmp_path: Path) -> None:
    mine = Settings(sync_s=9.0)
    assert load_settings(mine, environ={"KSTREAM_SYNC": "3s"}, directory=tmp_path).settings is mine


def test_every_field_has_a_knob_and_every_knob_a_field() -> None:
    assert {field for field, _ in KNOBS.values()} == set(Settings.__struct_fields__)


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("patience", "soon"),
        ("patience", "0s"),
        ("patience", True),
        ("patience", float("inf")),
        ("patience", float("nan")),
        ("budget", "1KiB"),
        ("budget", "big"),
        ("budget", True),
        ("budget", 3.5),
        ("metrics_port", "70000"),
        ("metrics_port", "-1"),
        ("metrics_port", "²"),
        ("metrics_host", " "),
        ("log_format", "xml"),
        ("log_level", "loud"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(knob: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"argument: {knob} = "):
        load_settings({knob: value}, environ={}, directory=tmp_path)


def test_an_unknown_setting_is_refused_in_arguments_and_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="argument: unknown setting 'patiense'"):
        load_settings({"patiense": 1}, environ={}, directory=tmp_path)
    (tmp_path / "kstream.toml").write_text("patiense = 1\n")
    with pytest.raises(ConfigError, match=r"kstream\.toml: unknown setting 'patiense'"):
        load_settings(environ={}, directory=tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "kstream.toml").write_text("patience = = 1\n")
    with pytest.raises(ConfigError, match=r"kstream\.toml cannot be read"):
        load_settings(environ={}, directory=tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        load_settings(environ={"KSTREAM_CONFIG": str(tmp_path / "none.toml")})


def test_a_variable_that_means_nothing_is_reported(tmp_path: Path) -> None:
    resolved = load_settings(
        environ={"KSTREAM_PATIENSE": "1", "KSTREAM_SYNC": "1"}, directory=tmp_path
    )
    assert resolved.ignored == ("KSTREAM_PATIENSE",)


def test_the_engine_is_tuned_in_proportion() -> None:
    """A shorter patience keeps room for two missed beats, and a margin before others may act."""
    for patience in (0.5, 6.0, 60.0):
        tuning = Settings(patience_s=patience, budget_bytes=2 << 20).tuning()
        assert tuning.patience == patience
        assert tuning.beat * 3 + tuning.margin <= patience
        assert tuning.fetch <= 2 << 20


def test_a_lease_store_that_is_paid_for_is_asked_at_its_pace_where_nobody_said_otherwise() -> None:
    pace = Pace(patience=7.0, beat=2.5, sync=0.75, checkpoint=10.0, idle_checkpoint=600.0)
    resolved = load_settings({"checkpoint": "2s"}, environ={}).paced(pace)
    settings = resolved.settings
    assert (settings.patience_s, settings.sync_s, settings.checkpoint_s) == (7.0, 0.75, 2.0)
    assert resolved.origins["sync_s"] == "default of the lease store"
    assert resolved.origins["checkpoint_s"] == "argument"
    tuning = settings.tuning(pace)
    assert (tuning.beat, tuning.idle_checkpoint) == (2.5, 600.0)
    assert override(resolved, {"patience": "14s"}, "test").settings.tuning(pace).beat == 5.0
    assert load_settings(environ={}).paced(None).settings == Settings()

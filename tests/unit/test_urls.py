"""What a URL says, and what is refused before anything is opened."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstream.errors import ConfigError
from kstream.urls import Location, parse_url


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("local:app.db#orders", Location("local", "app.db", "orders")),
        ("local:/var/a b.db#orders", Location("local", "/var/a b.db", "orders")),
        ("LOCAL:app.db#o?patience=4s", Location("local", "app.db", "o", {"patience": "4s"})),
        ("local:app.db?patience=4s#o", Location("local", "app.db", "o", {"patience": "4s"})),
        ("local:a%23b%3Fc.db#o", Location("local", "a#b?c.db", "o")),
        ("memory:orders", Location("memory", "orders")),
        ("file:///var/out", Location("file", "/var/out")),
        (
            "file:out?format=raw&compression=",
            Location("file", "out", "", {"format": "raw", "compression": ""}),
        ),
        ("kinesis://orders?region=x", Location("kinesis", "orders", "", {"region": "x"})),
    ],
)
def test_a_url_is_taken_apart(text: str, location: Location) -> None:
    assert parse_url(text) == location


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("orders", "not a URL"),
        ("", "not a URL"),
        ("local:", "lacks what follows"),
        ("local:#orders", "lacks what follows"),
        ("local://host/app.db#o", "names a host"),
        ("memory:o?patience", "not a query"),
        ("memory:o?patience=1&patience=2", "twice"),
    ],
)
def test_what_is_no_url_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "kafka://me:hunter2@broker:9092/orders",
        "local://me:hunter2@/x#o",
        "memory:o?password=hunter2",
    ],
)
def test_a_url_with_a_secret_is_refused_without_repeating_it(text: str) -> None:
    """ARCHITECTURE 11: no secrets in URLs."""
    with pytest.raises(ConfigError) as refused:
        parse_url(text)
    assert "hunter2" not in str(refused.value)


def test_an_unknown_query_key_is_an_error_that_names_the_known_ones() -> None:
    """ARCHITECTURE 11: an unknown query key is an error."""
    with pytest.raises(
        ConfigError, match=r"unknown query key 'patiense' \(known: patience, sync\)"
    ):
        parse_url("memory:o?patiense=1s").check_query({"sync", "patience"})


def test_a_scheme_of_a_later_version_is_told_from_one_that_never_was() -> None:
    with pytest.raises(ConfigError, match="not in this version"):
        parse_url("kafka://orders").check_scheme({"local", "memory"}, "stream")
    with pytest.raises(ConfigError, match=r"no scheme of a stream \(known: local:, memory:\)"):
        parse_url("lokal:orders").check_scheme({"local", "memory"}, "stream")


@given(st.text())
def test_any_text_is_a_location_or_a_config_error(text: str) -> None:
    """Nothing else comes out: the CLI shows a ConfigError as two lines, not a traceback."""
    try:
        location = parse_url(text)
    except ConfigError:
        return
    assert location.path

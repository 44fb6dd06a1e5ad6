"""The documentation keeps up with the package: names, defaults, figures, commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.sockets import StarletteSocket

import wsmanager

PROJECT = Path(__file__).resolve().parents[1]
DOCS = PROJECT / "docs"

pytestmark = pytest.mark.skipif(
    not (DOCS / "conf.py").exists(), reason="the documentation is not beside these tests"
)

UNITS = {"": 1, " KiB": 1 << 10, " MiB": 1 << 20}


def documented() -> set[str]:
    """The last part of every name that a directive of the reference documents."""
    found = set()
    for page in DOCS.glob("reference/*.rst"):
        text = page.read_text()
        found |= {
            name.rpartition(".")[2]
            for name in re.findall(r"^\.\. auto(?!module)\w+:: (?:wsmanager\.)?(\S+)", text, re.M)
        }
        for names in re.findall(r"^   :members: (.+)$", text, re.M):
            found |= {name.strip() for name in names.split(",")}
    return found


def test_every_public_name_is_in_the_reference() -> None:
    explained = {"__version__", "WebSocketManager"}  # the one speaks for itself
    assert "another name" in (DOCS / "reference" / "managers.rst").read_text()
    assert set(wsmanager.__all__) - documented() <= explained


def stated_defaults(text: str) -> dict[str, float]:
    """The numbers in brackets of a docstring's parameters: ``(1,024)``, ``(2 MiB)``."""
    found = {}
    for name, what in re.findall(r":param (\w+): (.*?)(?=\n\s*:(?:param|raises)|\Z)", text, re.S):
        numbers = re.findall(r"\((\d[\d,.]*)((?: [KM]iB)?)\)", what)
        if numbers:
            number, unit = numbers[0]
            found[name] = float(number.replace(",", "")) * UNITS[unit]
    return found


def test_the_defaults_are_those_that_are_documented() -> None:
    settings = wsmanager.get_config()
    stated = stated_defaults(wsmanager.configure.__doc__ or "")
    assert len(stated) >= 15
    for name, value in stated.items():
        assert settings[name] == value, name


def test_control_a_wrong_default_is_seen() -> None:
    text = ":param a: the most of it (1,024); more is\n    an error.\n:param b: bytes (2 MiB)."
    assert stated_defaults(text) == {"a": 1024, "b": 2 << 20}


def test_the_table_of_limits_has_the_defaults() -> None:
    """``docs/operations.rst``, "Sizing of limits"."""
    text = (DOCS / "operations.rst").read_text()
    rows = re.findall(r"^``(\w+)``\s+([\d,.]+)((?: [KM]iB)?)(?: s)?\s", text, re.M)
    settings = wsmanager.get_config()
    assert len(rows) >= 7
    for name, number, unit in rows:
        assert settings[name] == float(number.replace(",", "")) * UNITS[unit], name


async def test_the_envelopes_are_as_the_page_shows_them() -> None:
    """``docs/reference/events.rst``: its message, sent in each envelope, is the event shown."""
    text = (DOCS / "reference" / "events.rst").read_text()
    blocks = re.findall(r"^\.\. code-block:: json\n\n((?:   .*\n)+)", text, re.M)
    message, *shown = map(json.loads, blocks)
    socket = StarletteSocket()
    manager = wsmanager.get_websocket_manager("ann")
    manager.add_connection(socket, thread_id="chat")
    for envelope in ("payload", "mixed", "data", "flat"):
        wsmanager.configure(envelope=envelope)
        await manager.send_to_thread("chat", message)
    for event, expected in zip(socket.events, shown, strict=True):
        assert list(event) == list(expected)
        assert {**event, "id": "", "timestamp": ""} == {**expected, "id": "", "timestamp": ""}


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.rst")), ids=lambda page: page.stem)
def test_files_and_targets_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    makefile = (PROJECT / "Makefile").read_text()
    for path in set(re.findall(r"``((?:src|examples|docs|ci|tests|benchmarks)/[\w./-]+)``", text)):
        assert (PROJECT / path).exists(), path
    for target in set(re.findall(r"(?:``|\$ )make ([a-z-]+)", text)):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for name in set(re.findall(r"``(\w+\.c)``", text)):
        assert (PROJECT / "src" / "_wsmanager" / name).exists(), name
    for image in re.findall(r"^\.\. (?:image|figure):: (\S+)", text, re.M):
        assert (page.parent / image).exists(), image

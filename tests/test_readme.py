"""The README's own words are tried out: its example, its table, its file names."""

from __future__ import annotations

import importlib.util
import re
import types
import uuid
from pathlib import Path

import httpx
import pytest
from support.clients import open_tab
from support.servers import UvicornServer

import wsmanager

PROJECT = Path(__file__).resolve().parents[1]
README = PROJECT / "README.rst"

pytestmark = pytest.mark.skipif(not README.exists(), reason="the README is not beside these tests")


def example() -> str:
    """The Python block of the README that makes an application."""
    text = README.read_text()
    blocks = re.findall(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text, re.M)
    (block,) = [block for block in blocks if "FastAPI()" in block]
    return "\n".join(line[3:] for line in block.splitlines()).strip() + "\n"


@pytest.mark.parametrize("ws", ["auto", "wsmanager.uvicorn:WebSocketProtocol"])
async def test_the_example_works_as_it_stands(ws: str) -> None:
    """Executed word for word, on a real server, with a real client."""
    module = types.ModuleType("readme_example")
    exec(compile(example(), str(README), "exec"), module.__dict__)
    with UvicornServer(module.app, ws=ws) as server:
        url = server.url.removesuffix("/ws") + "/ws/ann"
        tab = await open_tab(url, "ann")
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.post(f"{server.http}/run/ann")
        assert response.status_code == 200, response.text
        (event,) = await tab.read(1)
        assert event["type"] == "agent_started"
        assert event["agent_name"] == "demo"
        await tab.client.close()


def test_the_example_is_the_one_in_the_examples_folder() -> None:
    assert example().strip() == (PROJECT / "examples" / "fastapi_app.py").read_text().strip()


def test_the_example_is_short() -> None:
    lines = [line for line in example().splitlines() if line.strip()]
    assert len(lines) <= 25


def test_a_context_is_what_the_readme_says_it_is() -> None:
    """An id itself is a ``str`` only; within a context it may be an ``int`` or a ``UUID``."""
    text = " ".join(README.read_text().split())
    (inside, bare) = re.findall(
        r"in which the id is (.*?); or it is the id itself, as (.*?)\. ", text
    )[0]
    allowed = {"str": "ann", "int": 5, "UUID": uuid.UUID(int=5)}
    assert set(re.findall(r"``(\w+)``", inside)) == set(allowed)
    assert re.findall(r"``(\w+)``", bare) == ["str"]
    for kind, user_id in allowed.items():
        for context in ({"user_id": user_id}, types.SimpleNamespace(user_id=user_id)):
            assert wsmanager.get_websocket_manager(context).user_id == str(user_id)
        if kind == "str":
            assert wsmanager.get_websocket_manager(user_id).user_id == user_id
        else:
            with pytest.raises(wsmanager.InvalidUserContext):
                wsmanager.get_websocket_manager(user_id)


def test_names_in_the_readme_exist() -> None:
    """Every ``wsmanager.name`` and every ``file`` that the README mentions is there."""
    text = README.read_text()
    for dotted in set(re.findall(r"``wsmanager\.([a-z_]+)[`(]", text)):
        module = importlib.util.find_spec(f"wsmanager.{dotted}")
        assert hasattr(wsmanager, dotted) or module is not None, dotted
    for target in set(re.findall(r"``(?:make|MAKE) ([a-z-]+)``", text)):
        assert re.search(rf"^{target}:", (PROJECT / "Makefile").read_text(), re.M), target
    pictures = set(re.findall(r"^\.\. image:: (\S+)", text, re.M))
    named = set(re.findall(r"``((?:src|examples|docs|ci|tests|benchmarks)/[\w./]+)``", text))
    for path in named | pictures:
        assert (PROJECT / path).exists(), path

"""The pytest plugin in real sessions of its own: with each async plugin, with none, and failing."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import wsmanager

pytest_plugins = ["pytester"]

Session = Callable[..., pytest.RunResult]

SYNC = """
import pytest
import wsmanager
from wsmanager import get_manager_registry_status, get_websocket_manager
from wsmanager.testing import FakeStarlette, blocking


@pytest.mark.parametrize("turn", range(3))
def test_registry_is_the_tests_own(wsm_registry, turn):
    assert get_manager_registry_status()["total_registered_managers"] == 0
    get_websocket_manager("ann")
    wsmanager.configure(max_event_bytes=5000)


def test_configuration_is_back():
    assert wsmanager.get_config()["max_event_bytes"] != 5000


@pytest.mark.wsmanager_config(max_event_bytes=77)
def test_marker(wsm_registry):
    assert wsmanager.get_config()["max_event_bytes"] == 77


def test_events(wsm_recorder):
    ann, bob = wsm_recorder.connect("ann"), wsm_recorder.connect("bob", FakeStarlette())
    get_websocket_manager("ann").emit_event("agent_started", {"agent_name": "x"})
    blocking.assert_event(ann, "agent_started", agent_name="x")
    blocking.assert_no_event(bob)
    blocking.assert_isolated(ann, bob)
    assert wsm_recorder.types == {"ann": ["agent_started"], "bob": []}


def test_loop(wsm_loop, wsm_registry):
    async def double(n):
        return 2 * n

    assert wsm_loop.run(double(2)) == 4
    manager = get_websocket_manager("ann")
    from wsmanager.testing import FakeText

    ann = FakeText()
    wsm_loop.call(manager.add_connection, ann)
    manager.emit_event("hi", {})
    blocking.assert_event(ann, "hi")
"""

ASYNC = """
import pytest
from wsmanager import get_websocket_manager
from wsmanager.testing import FakeAiohttp, assert_event, assert_events_in_order, assert_isolated

{mark}


async def test_one(wsm_recorder):
    ann, bob = wsm_recorder.connect("ann"), wsm_recorder.connect("bob", FakeAiohttp())
    manager = get_websocket_manager("ann")
    await manager.emit_event("agent_started", {{"agent_name": "x"}})
    manager.emit_event("agent_completed", {{"agent_name": "x"}})
    await assert_event(ann, "agent_started", agent_name="x")
    await assert_events_in_order(ann, "agent_started", "agent_completed", exact=True)
    await assert_isolated(ann, bob)


async def test_two_starts_empty(wsm_recorder):
    assert len(get_websocket_manager("ann")) == 0
    assert wsm_recorder.events == {{}}
"""


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Run files in a pytest of their own, with the plugins named and no others."""

    def run(
        source: str, *arguments: str, plugins: str = "wsmanager.testing.plugin", ini: str = ""
    ) -> pytest.RunResult:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        monkeypatch.setenv(
            "PYTHONPATH",
            os.pathsep.join(
                filter(
                    None,
                    [str(Path(wsmanager.__file__).parents[1]), os.environ.get("PYTHONPATH", "")],
                )
            ),
        )
        pytester.makeini(
            f"[pytest]\naddopts = --strict-markers --strict-config -p no:cacheprovider\nfilterwarnings = error\n{ini}\n"
        )
        pytester.makepyfile(source)
        named = [word for plugin in plugins.split() for word in ("-p", plugin)]
        return pytester.runpytest_subprocess(*named, *arguments, timeout=100)

    return run


def test_with_no_async_plugin_at_all(session: Session) -> None:
    session(SYNC).assert_outcomes(passed=7)


def test_control_a_registry_that_is_not_isolated_is_seen(session: Session) -> None:
    """The same tests without the fixture fail."""
    result = session(SYNC.replace("(wsm_registry, turn)", "(turn)"))
    result.assert_outcomes(passed=4, failed=3)


@pytest.mark.parametrize(
    ("plugin", "ini", "mark"),
    [
        ("pytest_asyncio.plugin", "asyncio_mode = auto", ""),
        ("pytest_asyncio.plugin", "asyncio_mode = strict", "pytestmark = pytest.mark.asyncio"),
        (
            "anyio.pytest_plugin",
            "",
            "pytestmark = pytest.mark.anyio\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'",
        ),
    ],
    ids=["asyncio-auto", "asyncio-strict", "anyio"],
)
def test_with_async_plugins(session: Session, plugin: str, ini: str, mark: str) -> None:
    if plugin.startswith("pytest_asyncio"):
        ini += "\nasyncio_default_fixture_loop_scope = function"
    result = session(ASYNC.format(mark=mark), plugins=f"wsmanager.testing.plugin {plugin}", ini=ini)
    result.assert_outcomes(passed=2)


def test_with_xdist(session: Session) -> None:
    """Each worker has a registry of its own; the tests are dealt out to two."""
    pytest.importorskip("xdist")
    result = session(
        SYNC, "-n", "2", plugins="wsmanager.testing.plugin xdist.plugin",
        ini="wsmanager_timeout = 10",
    )  # fmt: skip
    result.assert_outcomes(passed=7)


FAILING = """
import pytest
from wsmanager import get_websocket_manager
from wsmanager.testing import blocking


def test_missing(wsm_recorder):
    ann = wsm_recorder.connect("ann")
    get_websocket_manager("ann").emit_event("agent_thinking", {"thought": "what-did-arrive"})
    blocking.assert_event(ann, "agent_thinking")
    blocking.assert_event(ann, "agent_completed")


def test_noise(wsm_recorder):
    ann = wsm_recorder.connect("ann")
    get_websocket_manager("ann").emit_event("noise", {})
    blocking.assert_event(ann, "noise")
    blocking.assert_no_event(ann)


def test_leak(wsm_recorder):
    ann, bob = wsm_recorder.connect("ann"), wsm_recorder.connect("bob")
    get_websocket_manager("ann").emit_event("secret", {})
    blocking.assert_event(ann, "secret")
    bob.take(ann.messages[0])
    blocking.assert_isolated(ann, bob)


def test_order(wsm_recorder):
    ann = wsm_recorder.connect("ann")
    for kind in ("b", "a"):
        get_websocket_manager("ann").emit_event(kind, {})
    blocking.assert_events_in_order(ann, "a", "b")
"""


def test_control_failing_assertions_fail_and_say_what_arrived(session: Session) -> None:
    result = session(FAILING, ini="wsmanager_timeout = 0.1\nwsmanager_quiet = 0.01")
    result.assert_outcomes(failed=4)
    out = result.stdout.str()
    for words in (
        "no event 'agent_completed' within 0.1 s",
        "what-did-arrive",
        "was to arrive, but one did",
        "got an event of 'ann'",
        "not a < b within 0.1 s",
    ):
        assert words in out
    assert "_checks.py" not in out.split("short test summary")[0].replace("E  ", ""), (
        "the trace ends where the test called"
    )


def test_wrong_options_and_markers_are_named(session: Session) -> None:
    source = "def test_x(wsm_registry): pass"
    result = session(source, ini="wsmanager_timeout = soon")
    result.assert_outcomes(errors=1)
    assert "wsmanager_timeout is a number of seconds above 0, not 'soon'" in result.stdout.str()
    marked = "import pytest\n@pytest.mark.wsmanager_config(5)\n" + source
    assert "are given by name" in session(marked).stdout.str()


def test_help_names_the_options_and_loads_no_framework(
    session: Session, pytester: pytest.Pytester
) -> None:
    """What a team that does not use the kit pays: the package, and nothing of its libraries."""
    loaded = """
import sys

def test_nothing_more_is_loaded():
    ours = {name for name in sys.modules if name.startswith("wsmanager.testing")}
    assert ours == {"wsmanager.testing", "wsmanager.testing.plugin"}, ours
    foreign = {"starlette", "fastapi", "aiohttp", "websockets", "uvicorn"} & set(sys.modules)
    assert not foreign, foreign
"""
    session(loaded).assert_outcomes(passed=1)
    out = pytester.runpytest_subprocess("-p", "wsmanager.testing.plugin", "--help").stdout.str()
    assert "wsmanager_timeout" in out and "wsmanager_quiet" in out
    fixtures = pytester.runpytest_subprocess(
        "-p", "wsmanager.testing.plugin", "--fixtures"
    ).stdout.str()
    assert "wsm_recorder" in fixtures and "wsm_registry" in fixtures and "wsm_loop" in fixtures


@pytest.mark.parametrize("how", ["", "-p wsmanager.testing.plugin", "-p wsmanager", "conftest"])
def test_found_by_its_entry_point(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    """Installed, it is there by itself; asked for again under either name, it is there once."""
    paths = [str(Path(wsmanager.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    if not any(
        point.value == "wsmanager.testing.plugin"
        for point in importlib.metadata.entry_points(group="pytest11")
    ):
        # Run from the tree: what an installation leaves behind is made here.
        info = tmp_path / "meta" / "wsmanager-0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wsmanager\nVersion: 0\n")
        (info / "entry_points.txt").write_text("[pytest11]\nwsmanager = wsmanager.testing.plugin\n")
        paths.append(str(info.parent))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    if how == "conftest":
        pytester.makeconftest('pytest_plugins = ["wsmanager.testing.plugin"]')
    pytester.makepyfile("def test_x(wsm_recorder): assert wsm_recorder.users == []")
    words = how.split() if how.startswith("-p") else []
    result = pytester.runpytest_subprocess(*words, "-p", "no:cacheprovider", timeout=100)
    result.assert_outcomes(passed=1)


def run_script(script: str, folder: Path) -> None:
    """In a process of its own, which has to end well."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_helpers_need_no_pytest(tmp_path: Path) -> None:
    """Importing wsmanager.testing without pytest gives them; the plugin says what it lacks."""
    script = """
import sys

sys.modules["pytest"] = None
from wsmanager import get_websocket_manager
from wsmanager.testing import Recorder, blocking, isolated_registry

with isolated_registry():
    recorder = Recorder()
    ann = recorder.connect("ann")
    get_websocket_manager("ann").emit_event("hi", {})
    blocking.assert_event(ann, "hi")
    recorder.close()
try:
    import wsmanager.testing.plugin
except ImportError as error:
    assert "wsmanager[testing]" in str(error)
else:
    raise SystemExit("the plugin was imported without pytest")
"""
    run_script(script, tmp_path)


@pytest.mark.parametrize(
    ("missing", "name", "words"),
    [
        ("starlette", "FakeStarlette", "wsmanager[fastapi]"),
        ("websockets", "FakeWebsockets", "pip install websockets"),
        ("aiohttp", "FakeAiohttp", "pip install aiohttp"),
    ],
)
def test_a_fake_without_its_library_says_so(
    tmp_path: Path, missing: str, name: str, words: str
) -> None:
    script = f"""
import sys

sys.modules["{missing}"] = None
import wsmanager.testing as kit

kit.FakeText(), kit.FakeAsgi(), kit.slow_client(1)
try:
    kit.{name}
except ImportError as error:
    assert {words!r} in str(error) and "FakeText" in str(error), error
else:
    raise SystemExit("no error")
"""
    run_script(script, tmp_path)


def test_every_name_is_there() -> None:
    import wsmanager.testing as kit

    assert dir(kit) == sorted(kit.__all__)
    for name in kit.__all__:
        assert getattr(kit, name) is not None
    with pytest.raises(AttributeError, match="no_such"):
        kit.no_such  # noqa: B018

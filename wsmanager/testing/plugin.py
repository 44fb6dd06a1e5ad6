"""The pytest plugin: fixtures, markers and ini options.

It is found by its entry point; ``-p wsmanager.testing.plugin`` loads it where
entry points are off. Nothing is done to a test that asks for no fixture of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

try:
    import pytest
except ImportError as _missing:
    raise ImportError(
        "wsmanager.testing.plugin is a plugin of pytest, which is not installed: "
        "pip install 'wsmanager[testing]'. The helpers of wsmanager.testing work without it."
    ) from _missing

pytest.register_assert_rewrite("wsmanager.testing.asserts", "wsmanager.testing.blocking")

if TYPE_CHECKING:
    from .loops import LoopThread
    from .recorder import Recorder

__all__: list[str] = []

_INI = {
    "wsmanager_timeout": ("timeout", "seconds that an assertion of wsmanager.testing waits", 2.0),
    "wsmanager_quiet": ("quiet", "seconds that assert_no_event watches", 0.05),
}


_NAMES = ("wsmanager", "wsmanager.testing.plugin")
"""Its entry point's name, and the one that ``-p`` and ``pytest_plugins`` give it."""


def pytest_plugin_registered(plugin: object, manager: pytest.PytestPluginManager) -> None:
    """Asked for under both of its names, it is there once: pytest makes an error of it otherwise."""
    if plugin is sys.modules[__name__]:
        for name in _NAMES:
            if name != manager.get_name(plugin):
                manager.set_blocked(name)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The ini options."""
    for name, (_, text, default) in _INI.items():
        parser.addini(name, f"{text} ({default:g})", default=str(default))


def pytest_configure(config: pytest.Config) -> None:
    """The markers, for --strict-markers."""
    config.addinivalue_line(
        "markers",
        "wsmanager_config(**settings): what wsm_registry gives to wsmanager.configure for this test",
    )


def _seconds(config: pytest.Config, name: str) -> float:
    text = config.getini(name)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise pytest.UsageError(f"{name} is a number of seconds above 0, not {text!r}")
    return seconds


@pytest.fixture
def wsm_registry(request: pytest.FixtureRequest) -> Iterator[None]:
    """An empty registry for this test, and the configuration as it was after it.

    ``@pytest.mark.wsmanager_config(max_event_bytes=100)`` configures it.
    """
    from ._checks import Waits
    from .registry import isolated_registry

    before = Waits.timeout, Waits.quiet
    Waits.timeout = _seconds(request.config, "wsmanager_timeout")
    Waits.quiet = _seconds(request.config, "wsmanager_quiet")
    settings: dict[str, object] = {}
    for mark in reversed(list(request.node.iter_markers("wsmanager_config"))):
        if mark.args:
            raise pytest.UsageError("the settings of wsmanager_config are given by name")
        settings.update(mark.kwargs)
    try:
        with isolated_registry(**settings):
            yield
    finally:
        Waits.timeout, Waits.quiet = before


@pytest.fixture
def wsm_loop() -> Iterator[LoopThread]:
    """An event loop running in a thread of its own, for a test that is a plain function."""
    from .loops import LoopThread

    with LoopThread() as thread:
        yield thread


@pytest.fixture
def wsm_recorder(wsm_registry: None) -> Iterator[Recorder]:
    """Fake clients of users and what they saw; the registry is this test's own."""
    from .recorder import Recorder

    recorder = Recorder()
    try:
        yield recorder
    finally:
        recorder.close()

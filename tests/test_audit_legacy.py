"""WSM007 and what ``wsmanager shim`` wrote: every import of it is told, with what replaces it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from audit_data.trees import check

import wsmanager.compat
from wsmanager.__main__ import main
from wsmanager.audit import Finding, Settings, audit
from wsmanager.shim.text import NAMES

ONLY = Settings(select=frozenset({"WSM007"}))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package of shims in a project, among modules of its own."""
    shim(tmp_path, "app.websocket_core", "manager", "unified_manager", "extra")
    (tmp_path / "s/app/websocket_core/real.py").write_text("x = 1\n")
    (tmp_path / "s/app/real.py").write_text("x = 1\n")
    return tmp_path


def shim(folder: Path, package: str, *modules: str) -> None:
    (folder / "pyproject.toml").touch()
    (folder / "s").mkdir(exist_ok=True)
    options = [option for name in modules for option in ("--module", name)]
    command = ["shim", str(folder / "s"), "--package", package, "--only", *options]
    assert main(command) == 0


def shims(folder: Path) -> str:
    """The files there are, as a tree for :func:`check`."""
    return "".join(
        f"=== {path.relative_to(folder).as_posix()}\n{path.read_text()}"
        for path in sorted(folder.rglob("*.py"))
    )


def told(folder: Path, source: str, *paths: str) -> list[str]:
    """What is said of *source* in a file of its own."""
    (folder / "use.py").write_text(source)
    return [
        finding.message
        for finding in audit([folder / path for path in paths] or [folder], ONLY).findings
    ]


def test_every_kind_of_import(project: Path) -> None:
    check(
        project,
        shims(project)
        + """
=== use.py
from app.websocket_core import create_agent_websocket_bridge, CRITICAL_EVENTS  # ! WSM007
from app.websocket_core.manager import UserExecutionContext  # ! WSM007
from app.websocket_core.extra import get_manager  # ! WSM007
import app.websocket_core.unified_manager  # ! WSM007
import app.real, app.websocket_core.manager as m  # ! WSM007
from app import websocket_core, real  # ! WSM007
from app.websocket_core import (  # ! WSM007
    real,
    extra,
)
from app.websocket_core.manager import *  # ! WSM007
from app.websocket_core.manager import (IsolatedWebSocketManager  # ! WSM007
    as Manager)
def f():
    from app.websocket_core import manager  # ! WSM007
    importlib.import_module("app.websocket_core.manager")  # ! WSM007
    @patch("app.websocket_core.extra.get_manager")  # ! WSM007
    def inner(): ...
import app, app.real, app.websocket_core.real
from app.websocket_core import real
from app.websocket_core.real import x
from elsewhere.websocket_core import real
from wsmanager import get_websocket_manager
from wsmanager.compat import get_manager
log = logging.getLogger("app.websocket_core.manager")
=== s/app/inside.py
from .websocket_core import get_manager  # ! WSM007
from .websocket_core.manager import CRITICAL_EVENTS  # ! WSM007
from . import websocket_core  # ! WSM007
from . import (  # ! WSM007
    websocket_core,
)
from .real import x
from . import real
=== s/app/websocket_core/beside.py
from .manager import get_manager  # ! WSM007
from . import manager, real  # ! WSM007
from ..websocket_core import extra  # ! WSM007
from . import real
""",
        "WSM007",
    )


@pytest.mark.parametrize("package", ["app.sockets", "sockets", "app.deep.hub"])
def test_a_path_that_does_not_say_websocket(tmp_path: Path, package: str) -> None:
    shim(tmp_path, package, "extra")
    parent, _, name = package.rpartition(".")
    source = f"""
import {package}
import {package}.extra
from {package} import CRITICAL_EVENTS
from {package}.extra import get_manager
from {parent or "."} import {name}
from {parent or "."} \\
    import {name}
from {parent or "."} import (
    {name},
)
patch("{package}.extra.get_manager")
patch("{package}.get_manager")
"""
    folder = tmp_path if parent else tmp_path / "s"
    (folder / "use.py").write_text(source)
    report = audit([tmp_path], ONLY)
    lines = [finding.line for finding in report.findings]
    assert lines == [2, 3, 4, 5, 6, 7, 9, 12, 13]


def test_the_replacement_is_by_the_table_of_the_shim(project: Path) -> None:
    assert told(
        project,
        "from app.websocket_core import create_agent_websocket_bridge, CRITICAL_EVENTS, Delivery\n"
        "from app.websocket_core.manager import UserExecutionContext, get_websocket_manager\n"
        "from app.websocket_core.extra import get_manager\n"
        "from app.websocket_core.extra import get_manager_registry_status\n"
        "from app.websocket_core.extra import MAX_CONNECTIONS_PER_USER\n"
        "import app.websocket_core.unified_manager\n"
        "from app.websocket_core import nothing\n"
        "import app.websocket_core.gone\n"
        "from app.websocket_core.gone import get_manager\n",
    ) == [
        "app.websocket_core is a legacy path of create_agent_websocket_bridge, CRITICAL_EVENTS, "
        "Delivery: from wsmanager import AgentWebSocketBridge as create_agent_websocket_bridge, "
        "AGENT_EVENTS as CRITICAL_EVENTS, Delivery",
        "app.websocket_core.manager is a legacy path of UserExecutionContext, get_websocket_manager: "
        "from wsmanager.compat import UserExecutionContext; "
        "from wsmanager import get_websocket_manager",
        "app.websocket_core.extra is a legacy path of get_manager: "
        "from wsmanager import get_websocket_manager as get_manager",
        "app.websocket_core.extra is a legacy path of get_manager_registry_status: "
        "from wsmanager.compat import get_manager_registry_status",
        "app.websocket_core.extra is a legacy path of MAX_CONNECTIONS_PER_USER: "
        "from wsmanager import get_config; "
        'MAX_CONNECTIONS_PER_USER = get_config()["max_connections_per_user"]',
        "app.websocket_core.unified_manager is a legacy path: "
        "import what is used of it from wsmanager",
        "app.websocket_core is a legacy path, and has no nothing",
        "app.websocket_core is a legacy path, and has no gone",
        "app.websocket_core is a legacy path, and has no gone",
    ]


def test_every_name_of_a_shim_has_a_replacement_that_is_the_same(project: Path) -> None:
    lines = "".join(f"from app.websocket_core.extra import {name}\n" for name in NAMES)
    messages = told(project, lines)
    assert len(messages) == len(NAMES)
    with pytest.warns(DeprecationWarning):
        old = {name: getattr(wsmanager.compat, name, None) for name in NAMES}
    for name, message in zip(NAMES, messages, strict=True):
        advised = message.partition(": ")[2].replace("; ", "\n")
        ast.parse(advised)
        space: dict[str, object] = {}
        exec(advised, space)
        assert name in space
        assert old[name] is None or space[name] == old[name]


def test_the_advice_is_followed_until_nothing_is_said(project: Path) -> None:
    """Then the shims can go, and the program runs without them."""
    use = project / "use.py"
    use.write_text(
        "import asyncio\n"
        "from app.websocket_core import CRITICAL_EVENTS, create_manager\n"
        "from app.websocket_core.extra import get_manager_registry_status\n"
        "async def main():\n"
        "    create_manager('ann').emit_event(CRITICAL_EVENTS[0])\n"
        "    assert (await get_manager_registry_status())['total_registered_managers'] == 1\n"
        "asyncio.run(main())\n"
    )

    def findings() -> list[Finding]:
        report = audit([project], Settings(select=frozenset({"WSM007", "WSM011"})))
        return [f for f in report.findings if not f.path.endswith("__init__.py")]

    lines = use.read_text().split("\n")
    for finding in findings():
        if finding.rule == "WSM007":
            lines[finding.line - 1] = finding.message.partition(": ")[2]
    use.write_text("\n".join(lines))
    left = findings()
    assert {finding.rule for finding in left} == {"WSM011"}
    for finding in left:
        Path(finding.path).unlink()
    assert findings() == []
    done = subprocess.run(
        [sys.executable, "-W", "error", str(use)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_shim_outside_the_audited_paths(project: Path) -> None:
    """A hook names the changed files only."""
    source = (
        "from app.websocket_core.manager import UserExecutionContext\nimport app.websocket_core\n"
    )
    (project / "s/changed.py").write_text(source)
    whole, alone = (audit([path], ONLY).findings for path in (project, project / "s/changed.py"))
    assert len(whole) == 2
    assert [found.message for found in alone] == [found.message for found in whole]


def test_it_can_be_silenced(project: Path) -> None:
    source = "import app.websocket_core.manager  # noqa: WSM007\n"
    assert told(project, source) == []


def test_a_tree_without_shims_is_as_before(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        === app/__init__.py
        === app/websocket_core/__init__.py
        from .manager import get_manager
        === app/websocket_core/manager.py
        def get_manager(): ...
        === use.py
        import app.websocket_core.manager
        from app.websocket_core import get_manager, manager
        from app.websocket_core.manager import get_websocket_manager  # ! WSM007
        """,
        "WSM007",
    )


def test_the_header_alone_is_no_legacy_path(project: Path) -> None:
    """The packages above hold nothing, and stay as long as something is in them."""
    head = (project / "s/app/__init__.py").read_text()
    assert re.fullmatch(r"# Written by `wsmanager shim`.*\n", head)
    assert told(project, "import app\nfrom app import real\n") == []

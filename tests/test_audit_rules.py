"""The other rules: WSM002 to WSM008, each with what it reports and what it lets pass."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from audit_data.trees import check, only

import wsmanager
from wsmanager.audit import Settings
from wsmanager.audit.names import REPLACEMENTS
from wsmanager.audit.resolve import OWN_PLAIN
from wsmanager.shim.text import _FROM_COMPAT

#: rule -> trees in which every mark and nothing else of that rule is expected
TREES = {
    "WSM002": """
        === use.py
        from app.sockets import get_websocket_manager_async, get_websocket_manager_async as later
        import asyncio
        async def wrong(ctx):
            get_websocket_manager_async(ctx)  # ! WSM002
            get_websocket_manager_async(ctx).emit_event("a")  # ! WSM002
            m = later(ctx)  # ! WSM002
            m.emit_event("a")
            unused = later(ctx)  # ! WSM002
        async def right(ctx, call):
            a = await get_websocket_manager_async(ctx)
            a.emit_event("a")
            b = later(ctx)
            (await b).emit_event("a")
            c = later(ctx)
            call(c)
            later(ctx).close()
            d = asyncio.create_task(later(ctx))
            await asyncio.gather(later(1), later(2))
            return later(ctx)
        """,
    "WSM003": """
        === app/one.py
        import enum
        from typing import Protocol
        class WebSocketManager:  # ! WSM003
            pass
        class _UnifiedWebSocketManagerImplementation(WebSocketManager):  # ! WSM003
            pass
        class WebSocketManagerMode(enum.Enum):
            UNIFIED = 1
        class AnyWebSocketManager(Protocol):
            pass
        class WebSocketManagerError(Exception):
            pass
        === tests/test_one.py
        class MockWebSocketManager:
            pass
        class TestWebSocketManager:
            pass
        def test_it():
            class LocalWebSocketManager:  # ! WSM003
                pass
        """,
    "WSM004": """
        === app/one.py
        class WebSocketManager:
            @classmethod
            def create(cls):
                return WebSocketManager()
        def get_websocket_manager(ctx):
            return WebSocketManager()
        === use.py
        from app import one
        from app.one import WebSocketManager
        from wsmanager import UnifiedWebSocketManager
        m = WebSocketManager()  # ! WSM004
        n = one.WebSocketManager()  # ! WSM004
        o = UnifiedWebSocketManager()  # ! WSM004
        p = MockWebSocketManager()
        q = WebSocketManager
        def test(WebSocketManager=dict):
            isinstance(m, WebSocketManager)
        """,
    "WSM005": """
        === app/one.py
        class WebSocketManager:
            async def send_to_user(self, user, message): ...
            async def emit_event(self, kind): ...
            def broadcast(self, message): ...
        def get_websocket_manager(ctx):
            return WebSocketManager()
        === use.py
        from app.one import WebSocketManager, get_websocket_manager
        async def f(ctx, websocket_manager):
            manager = get_websocket_manager(ctx)
            manager.send_to_user(1, 2)  # ! WSM005
            await manager.send_to_user(1, 2)
            manager.broadcast(1)
            own_manager = WebSocketManager()
            own_manager.emit_event("a")  # ! WSM005
            websocket_manager.emit_event("a")  # ! WSM005
            connection_manager.emit_event("a")
            task = manager.send_to_user(1, 2)
        === new.py
        from wsmanager import get_websocket_manager
        async def f(ctx, websocket_manager):
            manager = get_websocket_manager(ctx)
            manager.emit_event("a")
            websocket_manager.emit_event("a")
        === short.py
        from typing import Optional
        import app.one
        from app.one import WebSocketManager, get_websocket_manager
        from wsmanager import UnifiedWebSocketManager
        class Mailer:
            async def send_mail(self): ...
        class Hub(WebSocketManager):
            async def emit_agent(self, event): ...
        class MockWebSocketManager:
            async def send_to_user(self, user, message): ...
        async def f(ctx, a: WebSocketManager, b: "WebSocketManager | None" = None, *,
                    c: Optional[app.one.WebSocketManager] = None, d: UnifiedWebSocketManager, e=None):
            m = WebSocketManager(); m.send_to_user(1, 2)  # ! WSM005
            a.send_to_user(1, 2)  # ! WSM005
            b.send_to_user(1, 2)  # ! WSM005
            if c: c.emit_event("a")  # ! WSM005
            hub = Hub()
            hub.emit_agent(1)  # ! WSM005
            hub.send_to_user(1, 2)  # ! WSM005
            made: WebSocketManager = ctx.make()
            made.send_to_user(1, 2)  # ! WSM005
            w = get_websocket_manager(ctx)
            w.emit_event("a")  # ! WSM005
            await m.send_to_user(1, 2)
            m.broadcast(1)
            d.send_to_user(1, 2)
            e.send_to_user(1, 2)
            x = m.send_to_user(1, 2)
            mailer = Mailer()
            mailer.send_mail()
            mock = MockWebSocketManager()
            mock.send_to_user(1, 2)
        class Service:
            field: WebSocketManager
            def __init__(self, given: WebSocketManager, other):
                self.own = Hub()
                self.given = given
                self.other: WebSocketManager = other
                self.unknown = other
            async def f(self):
                self.own.emit_agent(1)  # ! WSM005
                self.given.emit_event("a")  # ! WSM005
                self.field.emit_event("a")  # ! WSM005
                self.other.emit_event("a")  # ! WSM005
                await self.own.emit_agent(1)
                self.unknown.emit_event("a")
                await self.own.emit_agent(
                    1)
        """,
    "WSM006": """
        === app/one.py
        import asyncio
        import threading
        _REGISTRY_LOCK = threading.Lock()
        guard = threading.RLock()
        async def get_websocket_manager_async(ctx):
            with _REGISTRY_LOCK:  # ! WSM006
                await check()
            with guard:  # ! WSM006
                if ctx:
                    await check()
        async def uses(ctx, other):
            get_websocket_manager(ctx)
            with self._lock:  # ! WSM006
                await check()
            with _REGISTRY_LOCK:
                ctx.append(1)
            with _REGISTRY_LOCK:
                async def inner():
                    await check()
            async with alock:
                await check()
            with open("lock") as file:
                await check()
        async def unrelated():
            with _REGISTRY_LOCK:
                await check()
        """,
    "WSM007": """
        === use.py
        from app.websocket_core.websocket_manager import get_websocket_manager  # ! WSM007
        from app.websocket_core import create_websocket_manager, other  # ! WSM007
        from app.agents.agent_websocket_bridge import AgentWebSocketBridge  # ! WSM007
        from app.websocket_core.utils import something
        from app.hub import get_websocket_manager
        from wsmanager import get_websocket_manager
        from wsmanager.compat import create_websocket_manager
        from .websocket_manager import get_websocket_manager
        def f():
            from websocket import WebSocketManager  # ! WSM007
        """,
    "WSM008": """
        === app/messages.py
        def create_error_message(code, text, *, user): ...
        === use.py
        from wsmanager import create_server_message, create_error_message
        from wsmanager import create_server_message as make
        import wsmanager
        from app.messages import create_error_message as theirs
        def f(kind, data, mapping, args, words):
            create_server_message()  # ! WSM008
            create_server_message("kind")  # ! WSM008
            create_server_message({"data": 1})  # ! WSM008
            create_server_message(kind, data, None, 4)  # ! WSM008
            make(kind, payload=data)  # ! WSM008
            create_server_message(kind, data, type=kind)  # ! WSM008
            create_error_message("code")  # ! WSM008
            wsmanager.create_error_message()  # ! WSM008
            theirs("code", "text")  # ! WSM008
            theirs("code", "text", 3, user=1)  # ! WSM008
            create_server_message(kind, data)
            create_server_message(kind, data, "id")
            create_server_message(kind, data=data, correlation_id="id")
            create_server_message(mapping)
            create_server_message({"type": "a"})
            create_server_message({**mapping})
            create_server_message(*args)
            create_server_message(**words)
            create_error_message("code", "text")
            create_error_message(error_code="code", error_message="text", details=data)
            create_error_message("code", "text", {}, ["try again"])
            theirs("code", text="text", user=1)
        === other.py
        from unrelated import create_server_message
        create_server_message(1, 2, 3, 4, 5)
        """,
}


@pytest.mark.parametrize("rule", TREES)
def test_rule(tmp_path: Path, rule: str) -> None:
    report = check(tmp_path, TREES[rule], rule)
    assert all(finding.message for finding in only(report, rule))


def test_duplicates_are_listed(tmp_path: Path) -> None:
    tree = "".join(
        f"=== app/m{n}.py\nclass Other{n}WebSocketManager:  # ! WSM003\n    pass\n"
        for n in range(11)
    )
    report = check(tmp_path, tree)
    message = report.findings[0].message
    assert "the tree has 11" in message
    assert "and 5 more" in message
    assert "m1.py:1" in message


def test_a_legacy_import_names_its_replacement(tmp_path: Path) -> None:
    report = check(
        tmp_path,
        """
        === use.py
        from old.websocket_core import get_websocket_manager, create_websocket_manager  # ! WSM007
        from old.hub import get_websocket_manager  # ! WSM007
        """,
        settings=Settings(legacy_modules=("old.hub",)),
    )
    assert (
        "from wsmanager import get_websocket_manager; "
        "from wsmanager.compat import create_websocket_manager"
    ) in report.findings[0].message


def test_a_status_that_was_awaited_is_awaited_still(tmp_path: Path) -> None:
    report = check(
        tmp_path,
        """
        === use.py
        from app.websocket_core.manager import get_manager_registry_status  # ! WSM007
        """,
    )
    assert report.findings[0].message.endswith(
        "from wsmanager.compat import get_manager_registry_status"
    )


def test_a_replacement_is_awaitable_if_a_shim_has_it_so() -> None:
    """What a shim gives under an old name and what the audit advises for it are one thing."""
    for name, home in REPLACEMENTS.items():
        where = "wsmanager.compat" if name in _FROM_COMPAT else "wsmanager"
        assert home == where, name


def test_awaits_of_our_own_plain_functions(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        === use.py
        import asyncio
        import wsmanager
        from wsmanager import broadcast, get_manager_registry_status, reset_manager_registry as reset
        from wsmanager import compat, drain
        from wsmanager.compat import get_manager_registry_status as status, get_manager
        from wsmanager.compat import reset_websocket_manager_registry, check_websocket_service_available
        async def f(ctx):
            await get_manager_registry_status()  # ! WSM010
            await reset()  # ! WSM010
            await wsmanager.broadcast({})  # ! WSM010
            await asyncio.gather(broadcast({}), status())  # ! WSM010
            await reset_websocket_manager_registry()  # ! WSM010
            await get_manager(ctx)  # ! WSM001 fixable
            await status()
            await compat.get_manager_registry_status()
            await check_websocket_service_available()
            await drain()
            broadcast({})
            try:
                await broadcast({})
            except TypeError:
                pass
        """,
    )


def test_what_is_called_plain_is_plain() -> None:
    wsmanager.get_websocket_manager("ann")
    calls: dict[str, tuple[Any, ...]] = {
        "broadcast": ({"type": "x"},),
        "create_error_message": ("code", "text"),
        "create_server_message": ("x", {}),
    }
    for name in OWN_PLAIN - {"install_drain"}:
        assert not inspect.isawaitable(getattr(wsmanager, name)(*calls.get(name, ()))), name
    others = {
        name
        for name in wsmanager.__all__
        if inspect.isroutine(getattr(wsmanager, name))
        and not inspect.iscoroutinefunction(getattr(wsmanager, name))
    }
    assert others - {"get_websocket_manager", "get_websocket_manager_async"} == OWN_PLAIN


def test_compat_is_asynchronous(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        === use.py
        from wsmanager.compat import create_websocket_manager
        async def f(ctx):
            await create_websocket_manager(ctx)
        """,
    )

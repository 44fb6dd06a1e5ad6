"""The other rules: WSM002 to WSM008, each with what it reports and what it lets pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from audit_data.trees import check, only

from wsmanager.audit import Settings

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

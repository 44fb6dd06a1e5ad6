"""Awaits that are right, WSM009 for those worth a note, and WSM010 for poisoned aliases."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from audit_data.trees import FACTORY, check, only

RULES = "WSM001 WSM009 WSM010"

RIGHT = {
    "the result's methods": """
        import asyncio
        from app.sockets import get_websocket_manager
        async def f(ctx):
            await get_websocket_manager(ctx).broadcast(1)
            asyncio.create_task(get_websocket_manager().send(1))
            await asyncio.gather(*[get_websocket_manager(c).send(1) for c in ctx])
        """,
    "the asynchronous factory": """
        import asyncio
        from app.sockets import get_websocket_manager_async as g, get_websocket_manager_async
        async def f(ctx):
            await get_websocket_manager_async(ctx)
            await g(ctx)
            asyncio.create_task(g(ctx))
        """,
    "a coroutine that returns it": """
        import asyncio
        from app.sockets import get_websocket_manager
        async def create(ctx):
            return get_websocket_manager(ctx)
        async def f(ctx):
            await create(ctx)
            asyncio.create_task(create(ctx))
            await asyncio.gather(*[create(c) for c in ctx])
        """,
    "a parameter of that name": """
        async def f(get_websocket_manager):
            await get_websocket_manager()
        """,
    "a mock": """
        from unittest.mock import AsyncMock
        async def f(ctx, registry):
            get_websocket_manager = AsyncMock(return_value=1)
            await get_websocket_manager(ctx)
        """,
    "mocks and their attributes": """
        from unittest.mock import AsyncMock, MagicMock
        class Service:
            def setup(self):
                self.registry = MagicMock()
                self.hub = object()
                self.hub.get_websocket_manager = AsyncMock()
            async def go(self, ctx, hub):
                await self.registry.get_websocket_manager(ctx)
                await self.hub.get_websocket_manager(ctx)
                hub.get_websocket_manager = AsyncMock(return_value=1)
                await hub.get_websocket_manager(ctx)
        """,
    "bound to something else": """
        from app.sockets import get_websocket_manager
        async def f(ctx, other):
            m = get_websocket_manager(ctx)
            m = other(m)
            await m
        """,
    "an async wrapper by decorator": """
        import functools
        def to_async(function):
            @functools.wraps(function)
            async def wrapper(*args):
                return function(*args)
            return wrapper
        @to_async
        def get_mgr(ctx):
            return ctx
        async def f(ctx):
            await get_mgr(ctx)
        """,
    "a plain function that returns a coroutine": """
        import asyncio
        async def fetch():
            return 1
        def start():
            return fetch()
        def later():
            return asyncio.sleep(1)
        def unknown(client):
            return client.get("/")
        def annotated() -> "asyncio.Future[int]":
            ...
        async def f(client):
            await start()
            await later()
            await unknown(client)
            await annotated()
        """,
    "awaitable classes": """
        class Lazy:
            def __await__(self):
                yield
        class Derived(Lazy):
            pass
        async def f():
            await Lazy()
            await Derived()
        """,
    "a class derived from who knows what": """
        from elsewhere import Base
        class Thing(Base):
            pass
        async def f():
            await Thing()
        """,
    "abstract and stub functions": """
        def stub(): ...
        def abstract():
            raise NotImplementedError
        async def f():
            await stub()
            await abstract()
        """,
    "a variable that starts as None": """
        _task = None
        _later = None
        def current():
            return _task
        def start(loop):
            global _later
            _later = loop.create_task(1)
            return _later
        async def f(loop):
            await current()
            await start(loop)
        """,
    "generators": """
        import types
        @types.coroutine
        def wait():
            yield
        async def f():
            await wait()
        """,
    "a name that another thing takes": """
        from app.sockets import get_websocket_manager
        class Holder:
            async def get_websocket_manager(self):
                return get_websocket_manager()
        async def f(x):
            await x.get()
        """,
}


@pytest.mark.parametrize("shape", RIGHT)
def test_right_awaits_are_not(tmp_path: Path, shape: str) -> None:
    check(
        tmp_path, FACTORY + "=== app/use.py\n" + textwrap.dedent(RIGHT[shape]).lstrip("\n"), RULES
    )


#: The factory of a tree that has it as a coroutine function; indented as the trees are.
ASYNC_FACTORY = """
        === app/sockets.py
        async def get_websocket_manager(ctx):
            return 1"""

INFORMATION = {
    "defined async": f"""{ASYNC_FACTORY}
        === app/use.py
        from app.sockets import get_websocket_manager as make
        async def f(ctx):
            await make(ctx)  # ! WSM009
        """,
    "defined async somewhere, imported from nowhere": f"""{ASYNC_FACTORY}
        === app/use.py
        from lost.sockets import get_websocket_manager
        async def f(ctx):
            await get_websocket_manager(ctx)  # ! WSM009
        """,
    "an async method": """
        === use.py
        class Service:
            async def get_websocket_manager(self):
                return 1
            async def go(self):
                await self.get_websocket_manager()  # ! WSM009
        async def f(service):
            await service.get_websocket_manager()  # ! WSM009
        """,
    "expected by the test": """
        === test_it.py
        import contextlib
        import unittest
        import pytest
        import asyncio
        from app.sockets import get_websocket_manager
        async def test_raises():
            with pytest.raises(TypeError, match="await"):
                await get_websocket_manager()  # ! WSM009
            with pytest.raises((ValueError, TypeError)):
                await get_websocket_manager()  # ! WSM009
            with pytest.raises(expected_exception=TypeError):
                await get_websocket_manager()  # ! WSM009
            with pytest.raises(Exception, match="can't be used in 'await' expression"):
                await get_websocket_manager()  # ! WSM009
            with contextlib.suppress(TypeError):
                await get_websocket_manager()  # ! WSM009
            try:
                await get_websocket_manager()  # ! WSM009
            except TypeError:
                pass
            try:
                await get_websocket_manager()  # ! WSM009
            except (AttributeError, TypeError) as error:
                print(error)
            with pytest.raises(TypeError):
                asyncio.create_task(get_websocket_manager())  # ! WSM009
        class TestIt(unittest.IsolatedAsyncioTestCase):
            async def test_it(self):
                with self.assertRaises(TypeError) as caught:
                    await get_websocket_manager()  # ! WSM009
                with self.assertRaisesRegex(TypeError, "await"):
                    await get_websocket_manager()  # ! WSM009
        @pytest.mark.xfail(raises=TypeError)
        async def test_later():
            await get_websocket_manager()  # ! WSM009
        def test_helper():
            async def wrong():
                await get_websocket_manager()  # ! WSM009
            with pytest.raises(TypeError):
                asyncio.run(wrong())
        """,
    "guarded": """
        === use.py
        import asyncio
        import inspect
        from app.sockets import get_websocket_manager
        async def one(ctx):
            if asyncio.iscoroutinefunction(get_websocket_manager):
                return await get_websocket_manager(ctx)  # ! WSM009
            else:
                return get_websocket_manager(ctx)
        async def two(ctx):
            m = get_websocket_manager(ctx)
            if inspect.isawaitable(m):
                m = await m  # ! WSM009
            return m
        async def three(ctx):
            m = get_websocket_manager(ctx)
            return await m if hasattr(m, "__await__") else m  # ! WSM009
        async def four(ctx):
            m = get_websocket_manager(ctx)
            if not inspect.isawaitable(m):
                return m
            return await m  # ! WSM009
        async def five(ctx):
            m = get_websocket_manager(ctx)
            if not (ctx and asyncio.iscoroutine(m)):
                return await m  # ! WSM001 fixable
        async def other(ctx, call):
            if asyncio.iscoroutinefunction(call):
                return await get_websocket_manager(ctx)  # ! WSM001 fixable
        async def six(ctx):
            m = get_websocket_manager(ctx)
            if ctx and not inspect.isawaitable(m):
                return await m  # ! WSM001 fixable
        """,
    "patched": """
        === test_it.py
        from unittest.mock import AsyncMock, patch
        async def test_it():
            with patch("app.sockets.get_websocket_manager", new_callable=AsyncMock):
                from app.sockets import get_websocket_manager
                await get_websocket_manager()  # ! WSM009
        @patch("app.sockets.get_websocket_manager", AsyncMock())
        async def test_that(mocked):
            import app.sockets
            await app.sockets.get_websocket_manager()  # ! WSM009
        async def test_so(monkeypatch):
            monkeypatch.setattr("app.sockets.get_websocket_manager", AsyncMock())
            import app.sockets
            await app.sockets.get_websocket_manager()  # ! WSM009
        """,
    "imports that disagree": """
        === use.py
        try:
            from lost.sockets import get_websocket_manager
        except ImportError:
            async def get_websocket_manager(ctx):
                return 1
        async def f(ctx):
            await get_websocket_manager(ctx)  # ! WSM009
        """,
}


@pytest.mark.parametrize("shape", INFORMATION)
def test_information(tmp_path: Path, shape: str) -> None:
    check(tmp_path, INFORMATION[shape], RULES)


def test_a_handler_behind_a_wider_one_is_not_reached(tmp_path: Path) -> None:
    check(
        tmp_path,
        """
        === use.py
        from app import get_websocket_manager
        async def f():
            try:
                await get_websocket_manager()  # ! WSM001 fixable
            except Exception:
                pass
            except TypeError:
                pass
        """,
    )


POISONED = {
    "an alias of a plain function": """
        === app/sockets.py
        def make_manager(ctx):
            return {"ctx": ctx}
        === app/use.py
        from app.sockets import make_manager as get_websocket_manager
        async def f(ctx):
            await get_websocket_manager(ctx)  # ! WSM010
        """,
    "re-exported": """
        === app/__init__.py
        from .sockets import create_websocket_manager
        === app/sockets.py
        class Manager:
            pass
        def create_websocket_manager(ctx):
            "Not the factory."
            if ctx is None:
                raise ValueError("no context")
            try:
                return Manager()
            except RuntimeError:
                return Manager()
        === use.py
        from app import create_websocket_manager
        async def f(ctx):
            await create_websocket_manager(ctx)  # ! WSM010
        """,
    "a class": """
        === app/sockets.py
        class Manager: ...
        create = Manager
        === use.py
        import app.sockets as s
        from app.sockets import create
        async def f(ctx):
            await create(ctx)  # ! WSM010
            await s.create(ctx)  # ! WSM010
        """,
    "by its annotation": """
        === app/sockets.py
        class Manager: ...
        _one = None
        def current() -> Manager:
            return _one
        === use.py
        from app.sockets import current
        async def f():
            await current()  # ! WSM010
        """,
    "a class method behind an alias": """
        === app/context.py
        class UserContext:
            @classmethod
            def from_request(cls, user):
                return cls(user)
        def create_context(user):
            if not user:
                raise ValueError("no user")
            try:
                context = UserContext.from_request(user)
            except KeyError:
                context = UserContext(user)
            return context
        === use.py
        async def f(user):
            from app.context import create_context as create_websocket_manager
            return await create_websocket_manager(user)  # ! WSM010
        """,
    "a factory by its name, whatever it returns": """
        === app/context.py
        def create_context(user, registry):
            return registry.lookup(user)
        def scheduled(user, loop):
            return loop.create_task(user)
        === use.py
        from app.context import create_context as create_websocket_manager
        from app.context import create_context as something_else
        from app.context import scheduled as get_ws_manager
        async def f(user):
            await create_websocket_manager(user, 1)  # ! WSM010
            await something_else(user, 1)
            await get_ws_manager(user, 1)
        """,
    "in the same file, given to a task": """
        === use.py
        import asyncio
        def setup():
            print("ready")
        async def f():
            await setup()  # ! WSM010
            asyncio.create_task(setup())  # ! WSM010
        """,
}


@pytest.mark.parametrize("shape", POISONED)
def test_poisoned_aliases(tmp_path: Path, shape: str) -> None:
    report = check(tmp_path, POISONED[shape], RULES)
    for finding in only(report, "WSM010"):
        assert (
            "whose result cannot be awaited" in finding.message
            or "does not seem" in finding.message
        )

"""WSM001: wrong awaits in every shape they take."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from audit_data.trees import FACTORY, check

from wsmanager.audit import Settings

RULES = "WSM001 WSM009 WSM010"

WRONG = {
    "direct": """
        from app.sockets import get_websocket_manager
        async def f(ctx):
            return await get_websocket_manager(user_context=ctx)  # ! WSM001 fixable
        """,
    "statement of its own": """
        from app.sockets import get_websocket_manager
        async def f(ctx):
            await get_websocket_manager(ctx)  # ! WSM001 fixable
        """,
    "several lines": """
        from app.sockets import get_websocket_manager
        async def f(ctx):
            m = await get_websocket_manager(  # ! WSM001 fixable
                user_context=ctx,
            )
        """,
    "import alias": """
        from app.sockets import get_websocket_manager as create_websocket_manager
        async def f(ctx):
            return await create_websocket_manager(ctx)  # ! WSM001 fixable
        """,
    "import inside the function": """
        async def f(ctx):
            from app.sockets import get_websocket_manager as factory
            return await factory(ctx)  # ! WSM001 fixable
        """,
    "outside the tree": """
        from elsewhere.websockets import get_websocket_manager
        async def f(ctx):
            return await get_websocket_manager(ctx)  # ! WSM001 fixable
        """,
    "of wsmanager itself": """
        import wsmanager
        from wsmanager import get_websocket_manager as g
        async def f(ctx):
            await g(ctx)  # ! WSM001 fixable
            await wsmanager.get_websocket_manager(ctx)  # ! WSM001 fixable
        """,
    "module attribute": """
        import app.sockets
        import app.sockets as s
        from app import sockets
        async def f(ctx):
            await app.sockets.get_websocket_manager(ctx)  # ! WSM001 fixable
            await s.get_websocket_manager(ctx)  # ! WSM001 fixable
            await sockets.get_websocket_manager(ctx)  # ! WSM001 fixable
        """,
    "star import": """
        from app.sockets import *
        async def f(ctx):
            await get_websocket_manager(ctx)  # ! WSM001 fixable
        """,
    "local name of the result": """
        from app.sockets import get_websocket_manager
        async def f(ctx):
            m = get_websocket_manager(ctx)
            m.add_connection(1)
            return await m  # ! WSM001 fixable
        """,
    "local name of the factory": """
        from app.sockets import get_websocket_manager
        make = get_websocket_manager
        async def f(ctx):
            local = make
            a = await local(ctx)  # ! WSM001 fixable
            b = await make(ctx)  # ! WSM001 fixable
        """,
    "walrus": """
        from app.sockets import get_websocket_manager
        async def f(ctx):
            if await (m := get_websocket_manager(ctx)):  # ! WSM001 fixable
                pass
        """,
    "wrapper": """
        from app.sockets import get_websocket_manager
        def get_mgr(ctx):
            "The manager."
            return get_websocket_manager(ctx)
        async def f(ctx):
            return await get_mgr(ctx)  # ! WSM001 fixable
        """,
    "wrapper of a wrapper, by a local": """
        from app.sockets import get_websocket_manager
        def one(ctx):
            manager = get_websocket_manager(ctx)
            return manager
        two = lambda ctx: one(ctx)
        async def f(ctx):
            return await two(ctx)  # ! WSM001 fixable
        """,
    "nested wrapper": """
        from app.sockets import get_websocket_manager
        async def f(ctx):
            def get():
                return get_websocket_manager(ctx)
            return await get()  # ! WSM001 fixable
        """,
    "wrapper with another outcome is not mended": """
        from app.sockets import get_websocket_manager
        def get_mgr(ctx, cached):
            if cached:
                return cached
            return get_websocket_manager(ctx)
        async def f(ctx):
            return await get_mgr(ctx, 0)  # ! WSM001
        """,
    "partial": """
        import functools
        from app.sockets import get_websocket_manager
        async def f(ctx):
            make = functools.partial(get_websocket_manager, ctx)
            return await make()  # ! WSM001 fixable
        """,
    "method that returns it": """
        from app.sockets import get_websocket_manager
        class Service:
            def _manager(self):
                return get_websocket_manager(self.ctx)
            async def go(self):
                return await self._manager()  # ! WSM001 fixable
        """,
    "method of that name": """
        class Base:
            def get_websocket_manager(self, ctx):
                return self._managers[ctx]
        class Service(Base):
            async def go(self, ctx):
                await self.get_websocket_manager(ctx)  # ! WSM001 fixable
        async def f(ctx, service: Service):
            await Service().get_websocket_manager(ctx)  # ! WSM001 fixable
            await service.get_websocket_manager(ctx)  # ! WSM001 fixable
        """,
    "method of something unknown": """
        async def f(ctx, registry):
            await registry.get_websocket_manager(ctx)  # ! WSM001 fixable
        """,
    "attribute of self": """
        from app.sockets import get_websocket_manager
        class Service:
            factory = staticmethod(get_websocket_manager)
            def __init__(self, ctx):
                self.make = get_websocket_manager
                self.manager = get_websocket_manager(ctx)
            async def go(self, ctx):
                await self.make(ctx)  # ! WSM001 fixable
                await self.manager  # ! WSM001 fixable
                await self.factory(ctx)  # ! WSM001 fixable
        """,
    "property": """
        from app.sockets import get_websocket_manager
        class Service:
            @property
            def manager(self):
                return get_websocket_manager(self.ctx)
            async def go(self):
                return await self.manager  # ! WSM001 fixable
        """,
    "getattr and importlib": """
        import importlib
        import sys
        from importlib import import_module
        import app.sockets as s
        async def f(ctx):
            await getattr(s, "get_websocket_manager")(ctx)  # ! WSM001 fixable
            make = getattr(s, "get_websocket_manager")
            await make(ctx)  # ! WSM001 fixable
            module = importlib.import_module("app.sockets")
            await module.get_websocket_manager(ctx)  # ! WSM001 fixable
            await getattr(import_module("app.sockets"), "get_websocket_manager")(ctx)  # ! WSM001 fixable
            old = __import__("app.sockets", fromlist=["x"])
            await old.get_websocket_manager(ctx)  # ! WSM001 fixable
            await sys.modules["app.sockets"].get_websocket_manager(ctx)  # ! WSM001 fixable
        """,
    "globals": """
        from app.sockets import get_websocket_manager
        async def f(ctx):
            await globals()["get_websocket_manager"](ctx)  # ! WSM001 fixable
        """,
    "given to asyncio": """
        import asyncio
        from asyncio import gather, run
        from app.sockets import get_websocket_manager
        async def f(ctx, loop):
            asyncio.create_task(get_websocket_manager(ctx))  # ! WSM001
            loop.create_task(get_websocket_manager(ctx))  # ! WSM001
            await asyncio.ensure_future(get_websocket_manager(ctx))  # ! WSM001
            await asyncio.wait_for(get_websocket_manager(ctx), 5)  # ! WSM001
            await asyncio.wait_for(timeout=5, fut=get_websocket_manager(ctx))  # ! WSM001
            await asyncio.shield(get_websocket_manager(ctx))  # ! WSM001
            await asyncio.gather(
                get_websocket_manager(1),  # ! WSM001
                get_websocket_manager(2),  # ! WSM001
            )
            await gather(*[get_websocket_manager(c) for c in ctx])  # ! WSM001
            await gather(*(get_websocket_manager(c) for c in ctx))  # ! WSM001
            await gather(*map(get_websocket_manager, ctx))  # ! WSM001
            async with asyncio.TaskGroup() as tg:
                tg.create_task(get_websocket_manager(ctx))  # ! WSM001
            asyncio.run_coroutine_threadsafe(get_websocket_manager(ctx), loop)  # ! WSM001
            await asyncio.wait([get_websocket_manager(ctx)])  # ! WSM001
        def g(ctx):
            run(get_websocket_manager(ctx))  # ! WSM001
            asyncio.run(get_websocket_manager(ctx))  # ! WSM001
            asyncio.get_event_loop().run_until_complete(get_websocket_manager(ctx))  # ! WSM001
        """,
    "lists given to gather": """
        import asyncio
        from app.sockets import get_websocket_manager
        async def f(ctx):
            tasks = [get_websocket_manager(c) for c in ctx]  # ! WSM001
            tasks.append(get_websocket_manager(0))  # ! WSM001
            tasks += [get_websocket_manager(1)]  # ! WSM001
            await asyncio.gather(*tasks, return_exceptions=True)
        async def g(ctx):
            named = {c: get_websocket_manager(c) for c in ctx}  # ! WSM001
            await asyncio.gather(*named.values())
        async def h(ctx):
            pair = [get_websocket_manager(0)] + [get_websocket_manager(1)]  # ! WSM001
            await asyncio.gather(*pair)
        """,
    "by way of a name": """
        import asyncio
        from app.sockets import get_websocket_manager
        async def f(ctx):
            coro = get_websocket_manager(ctx)
            await asyncio.wait_for(coro, 1)  # ! WSM001
        """,
    "conditional import": """
        try:
            from app.sockets import get_websocket_manager
        except ImportError:
            get_websocket_manager = None
        async def f(ctx):
            await get_websocket_manager(ctx)  # ! WSM001 fixable
        """,
    "conditional import of two places": """
        try:
            from app.sockets import get_websocket_manager as make
        except ImportError:
            from old.sockets import get_websocket_manager as make
        async def f(ctx):
            await make(ctx)  # ! WSM001 fixable
        """,
    "a fallback that never runs": """
        try:
            from app.sockets import get_websocket_manager
        except ImportError:
            async def get_websocket_manager(*args):
                return None
        async def f(ctx):
            await get_websocket_manager(ctx)  # ! WSM001 fixable
        """,
    "in one branch only": """
        from app.sockets import get_websocket_manager
        async def f(ctx, other):
            await (get_websocket_manager(ctx) if ctx else other)  # ! WSM001
            await (other or get_websocket_manager(ctx))  # ! WSM001
        """,
    "nested awaits": """
        from app.sockets import get_websocket_manager
        async def f(ctx):
            await get_websocket_manager(await get_websocket_manager(ctx))  # ! WSM001 fixable
        """,
    "masked by a wide except": """
        from app.sockets import get_websocket_manager
        async def f(ctx):
            try:
                return await get_websocket_manager(ctx)  # ! WSM001 fixable
            except Exception:
                return None
        """,
    "at the top level": """
        import asyncio
        from app.sockets import get_websocket_manager
        manager = asyncio.run(get_websocket_manager(None))  # ! WSM001
        """,
    "lambda and comprehension": """
        from app.sockets import get_websocket_manager
        async def f(ctx):
            return [await get_websocket_manager(c) for c in ctx]  # ! WSM001 fixable
        """,
    "not even called": """
        from app.sockets import get_websocket_manager
        async def f(ctx):
            return await get_websocket_manager  # ! WSM001
        """,
    "a list of factories": """
        from app.sockets import get_websocket_manager
        FACTORIES = [("one", get_websocket_manager), ("two", get_websocket_manager)]
        async def f(ctx):
            for make in [get_websocket_manager]:
                await make(ctx)  # ! WSM001 fixable
            for name, make in FACTORIES:
                await make(ctx)  # ! WSM001 fixable
            return [await make(ctx) for _, make in FACTORIES]  # ! WSM001 fixable
        """,
    "an instance that a function of another file returns": """
        from app.service import get_service
        async def f(ctx):
            service = get_service()
            await service.get_websocket_manager(ctx)  # ! WSM001 fixable
        === app/service.py
        from .base import Base
        class Service(Base): ...
        _one = None
        def get_service():
            global _one
            if _one is None:
                _one = Service()
            return _one
        === app/base.py
        class Base:
            def get_websocket_manager(self, ctx): return ctx
        === other.py
        class Other:
            async def get_websocket_manager(self, ctx): return ctx
        """,
    "a singleton": """
        from app.sockets import get_websocket_manager
        _manager = None
        def get_mgr():
            global _manager
            if _manager is None:
                _manager = get_websocket_manager(None)
            return _manager
        async def f():
            await get_mgr()  # ! WSM001 fixable
        """,
    "by way of a file that does not parse": """
        import app.broken
        from app.broken import renamed, other
        async def f(ctx):
            await renamed(ctx)  # ! WSM001 fixable
            await other(ctx)  # ! WSM001 fixable
            await app.broken.renamed(ctx)  # ! WSM001 fixable
        === app/broken.py
        from .sockets import (  # the factory
            get_websocket_manager as renamed,
        )
        other = renamed
        def broken(:
        """,
    "raises of something else": """
        import pytest
        from app.sockets import get_websocket_manager
        async def test_f():
            with pytest.raises(ValueError):
                await get_websocket_manager(None)  # ! WSM001 fixable
            with pytest.raises(Exception):
                await get_websocket_manager(None)  # ! WSM001
        """,
}


@pytest.mark.parametrize("shape", WRONG)
def test_wrong_awaits_are_found(tmp_path: Path, shape: str) -> None:
    check(
        tmp_path, FACTORY + "=== app/use.py\n" + textwrap.dedent(WRONG[shape]).lstrip("\n"), RULES
    )


def test_names_are_configurable(tmp_path: Path) -> None:
    settings = Settings(
        factories=frozenset({"socket_hub"}), async_factories=frozenset({"socket_hub_later"})
    )
    check(
        tmp_path,
        """
        === use.py
        from app import socket_hub, socket_hub_later, get_websocket_manager
        async def f(ctx):
            await socket_hub(ctx)  # ! WSM001 fixable
            await socket_hub_later(ctx)
            await get_websocket_manager(ctx)
        """,
        settings=settings,
    )

"""The rules: ids that never change their meaning, and what ``--explain`` says of each."""

from __future__ import annotations

from typing import Final, NamedTuple


class Rule(NamedTuple):
    """One rule. *level* is SARIF's: "error" and "warning" count for the exit status, "note" does not."""

    id: str
    name: str
    level: str
    summary: str
    explanation: str


RULES: Final = {
    rule.id: rule
    for rule in (
        Rule(
            "WSM001",
            "sync-factory-awaited",
            "error",
            "The synchronous factory is awaited.",
            """\
get_websocket_manager() is a plain function: it returns the manager, not an
awaitable. To await its result is a TypeError at run time ("object ... can't be
used in 'await' expression"), the manager is never used, and the events that it
should have carried reach nobody.

    manager = await get_websocket_manager(ctx)         # wrong
    manager = get_websocket_manager(ctx)               # right
    manager = await get_websocket_manager_async(ctx)   # right

The call is recognised under import aliases, through re-exports of the audited
tree, as a module's attribute or a method, by way of local names and of plain
functions that return it, through getattr and importlib with literal names, and
where it is handed to create_task, ensure_future, gather, wait_for, shield,
run_until_complete or asyncio.run.

--fix drops the await; --fix-style async calls get_websocket_manager_async
instead and mends the import.""",
        ),
        Rule(
            "WSM002",
            "async-factory-not-awaited",
            "error",
            "The asynchronous factory is not awaited.",
            """\
get_websocket_manager_async() returns an awaitable. Without an await no manager
exists: an attribute of the result raises AttributeError, and a dropped result
warns "was never awaited".

    manager = get_websocket_manager_async(ctx)         # wrong
    manager = await get_websocket_manager_async(ctx)   # right""",
        ),
        Rule(
            "WSM003",
            "duplicate-manager-class",
            "warning",
            "Another WebSocket manager class.",
            """\
A second manager class has its own idea of who is connected: what is emitted
through one does not reach the connections that the other holds. Keep one
manager, wsmanager's, and turn the others into imports of it. Protocols, enums,
exceptions and test doubles (Mock..., Fake..., Stub...) are not meant.""",
        ),
        Rule(
            "WSM004",
            "manager-constructed",
            "warning",
            "A manager is constructed directly.",
            """\
A manager made by calling its class is not the one that the registry knows: it
has no connections, and no one else will find it. Ask the factory instead.

    manager = WebSocketManager(user_context=ctx)       # wrong
    manager = get_websocket_manager(ctx)               # right""",
        ),
        Rule(
            "WSM005",
            "send-not-awaited",
            "error",
            "A send of a legacy manager is not awaited.",
            """\
The manager classes of this tree define the method as async def: called without
await it does nothing but warn, and the event is lost. (wsmanager's own emit_*
and send_* methods send whether or not they are awaited.)

    manager.send_to_user(user_id, message)             # wrong with a legacy manager
    await manager.send_to_user(user_id, message)       # right with both""",
        ),
        Rule(
            "WSM006",
            "lock-held-across-await",
            "error",
            "A thread lock is held across an await.",
            """\
While the coroutine is suspended the lock stays taken. Another task of the same
loop that wants it blocks the whole loop, and then nothing can ever release it.
Take what is needed under the lock, release it, then await; or use
asyncio.Lock with "async with".""",
        ),
        Rule(
            "WSM007",
            "legacy-import",
            "warning",
            "A name is imported from a legacy path.",
            """\
The name lives in wsmanager. While old paths are imported, the modules behind
them cannot go; once this rule is silent, they can.

    from app.websocket_core.websocket_manager import get_websocket_manager   # old
    from wsmanager import get_websocket_manager                              # new

Of a module that `wsmanager shim` wrote, every import is reported, also of the
module itself, and what import_module("app.sockets") or patch("app.sockets.name")
is given. What replaces a name is as good where the old one stood: what was
awaited comes from wsmanager.compat, and may be awaited still.""",
        ),
        Rule(
            "WSM008",
            "message-arguments",
            "error",
            "create_server_message or create_error_message is called with wrong arguments.",
            """\
The shapes are create_server_message(type, data), create_server_message(type,
data, correlation_id), create_server_message({"type": ..., "data": ...}) and
create_error_message(code, text, details=None, suggestions=None). Where the tree
has its own function of that name, the call is checked against that one.""",
        ),
        Rule(
            "WSM009",
            "await-for-information",
            "note",
            "An await of the factory's name that is not reported as wrong.",
            """\
For information only; it does not count for the exit status. Either the tree
defines the name as async def, or the code around expects the TypeError
(pytest.raises, assertRaises, except TypeError) or patches the name with an
AsyncMock, or imports disagree about which it is.""",
        ),
        Rule(
            "WSM010",
            "poisoned-alias",
            "error",
            "An awaited name is another plain function altogether.",
            """\
The awaited name resolves, inside the tree, to a plain function or class whose
result cannot be awaited: often an import alias that hides what it really is.

    from app.sockets import make_manager as create_websocket_manager
    manager = await create_websocket_manager(ctx)      # TypeError: make_manager is plain

So are plain functions of wsmanager's own that an await is written before:

    from wsmanager import get_manager_registry_status
    status = await get_manager_registry_status()       # TypeError: wsmanager.compat's is awaited

Only what is certain is reported. It is not fixed automatically: whether the
await or the name is wrong is for a person to say.""",
        ),
        Rule(
            "WSM011",
            "shim-unused",
            "warning",
            "A legacy path written by `wsmanager shim` is not imported any more.",
            """\
`wsmanager shim` writes modules at the paths that code imported its manager
from, so that it runs on wsmanager before it is changed. Once nothing imports
one, it can be removed; a package goes with the last of its modules.

An import anywhere counts, also by a text such as import_module("app.sockets")
or patch("app.sockets.get_websocket_manager") has it, and whatever a file that
does not parse mentions. Nothing is said unless the whole project is audited.""",
        ),
    )
}


def explain(rule: Rule) -> str:
    """The text of ``--explain``."""
    return f"{rule.id} {rule.name} ({rule.level})\n\n{rule.summary}\n\n{rule.explanation}\n"

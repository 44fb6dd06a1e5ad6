"""Who a context names: exact text, never guessed, or a refusal that says what was wrong."""

from __future__ import annotations

import collections
import sys
import types
import unicodedata
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.contexts import PlainContext, RaisingContext, UserExecutionContext
from support.sockets import SyncSocket

import wsmanager
from wsmanager import (
    InvalidUserContext,
    UnifiedWebSocketManager,
    get_manager_registry_status,
    get_websocket_manager,
    get_websocket_manager_async,
)

Factory = Callable[[Any], UnifiedWebSocketManager]


def registered() -> int:
    return get_manager_registry_status()["total_registered_managers"]


class HostileStr(str):
    """A str that lies about everything but its text."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0

    def __str__(self) -> str:
        return "victim"

    def __repr__(self) -> str:
        return "'victim'"

    def strip(self, *_: object) -> str:
        return "victim"


class HostileInt(int):
    def __str__(self) -> str:
        return "victim"

    def __repr__(self) -> str:
        return "victim"

    def __index__(self) -> int:
        return 0


class HostileUUID(uuid.UUID):
    def __str__(self) -> str:
        return "victim"


class SlottedContext:
    __slots__ = ("user_id",)

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id


class ClassContext:
    user_id = "user-1"


class PropertyContext:
    @property
    def user_id(self) -> str:
        return "user-1"


class FallbackContext:
    def __getattr__(self, name: str) -> str:
        if name != "user_id":
            raise AttributeError(name)
        return "user-1"


class EveryAttributeContext:
    def __getattribute__(self, name: str) -> Any:
        return "user-1" if name == "user_id" else object.__getattribute__(self, name)


class DictContext(dict[str, str]):
    """A dict that has its ids from elsewhere, which is asked."""

    def __getitem__(self, key: str) -> str:
        return "user-1" if key == "user_id" else super().__getitem__(key)


# -- accepted -------------------------------------------------------------------


@pytest.mark.parametrize(
    "context",
    [
        "user-1",
        {"user_id": "user-1"},
        {"user_id": "user-1", "thread_id": "t", "other": object()},
        PlainContext("user-1"),
        UserExecutionContext("user-1", "t", "r"),
        UserExecutionContext.from_request("user-1", "t", "r"),
        types.SimpleNamespace(user_id="user-1"),
        types.MappingProxyType({"user_id": "user-1"}),
        collections.UserDict({"user_id": "user-1"}),
        collections.OrderedDict(user_id="user-1"),
        collections.ChainMap({}, {"user_id": "user-1"}),
        HostileStr("user-1"),
        PlainContext(HostileStr("user-1")),
        SlottedContext("user-1"),
        ClassContext(),
        PropertyContext(),
        FallbackContext(),
        EveryAttributeContext(),
        DictContext(user_id="victim"),
    ],
    ids=lambda context: type(context).__name__,
)
async def test_every_shape_of_one_user_is_one_manager(context: Any) -> None:
    manager = get_websocket_manager("user-1")
    assert get_websocket_manager(context) is manager
    assert await get_websocket_manager_async(context) is manager
    assert manager.user_id == "user-1"
    assert type(manager.user_id) is str
    assert registered() == 1


def test_the_very_context_is_kept() -> None:
    for context in (
        {"user_id": "kept-1"},
        UserExecutionContext("kept-2", "t", "r"),
        PlainContext("kept-3"),
        "kept-4",
    ):
        assert get_websocket_manager(context).user_context is context


@pytest.mark.parametrize("number", [1, 0, -1, 2**63, 10**40, HostileInt(7)])
def test_an_int_is_its_decimal_text(number: int) -> None:
    manager = get_websocket_manager({"user_id": number})
    assert manager.user_id == int.__repr__(number)
    assert get_websocket_manager(int.__repr__(number)) is manager


def test_a_uuid_is_its_canonical_text() -> None:
    text = "0f8fad5b-d9cb-469f-a165-70867728950e"
    manager = get_websocket_manager({"user_id": uuid.UUID(text.upper())})
    assert manager.user_id == text
    assert get_websocket_manager(text) is manager
    assert get_websocket_manager({"user_id": HostileUUID(text)}) is manager
    assert registered() == 1


@pytest.mark.parametrize("length", [1, 255, 256])
def test_ids_of_every_allowed_length(length: int) -> None:
    for letter in ("a", "é", "界", "𝒂"):
        assert get_websocket_manager(letter * length).user_id == letter * length


# -- refused --------------------------------------------------------------------

REFUSED_IDS: list[Any] = [
    "", " ", "\t\n", "\u00a0", "\u2003",
    "a" * 257, "a" * (1 << 20),
    "\0", "a\0", "a\0b", "\0a",
    "\ud800", "a\udfff", "\udc80b",
    b"bytes", bytearray(b"x"), 1.0, 1j, True, False,
    None, [], ["a"], (), ("a",), {}, set(), frozenset({"a"}),
    object(), type, len, ..., NotImplemented, range(3),
]  # fmt: skip


@pytest.mark.parametrize("user_id", REFUSED_IDS, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("wrap", [lambda i: {"user_id": i}, PlainContext], ids=["dict", "object"])
async def test_refused_ids(user_id: Any, wrap: Callable[[Any], Any]) -> None:
    with pytest.raises(InvalidUserContext) as caught:
        get_websocket_manager(wrap(user_id))
    assert isinstance(caught.value, (ValueError, TypeError))
    assert isinstance(caught.value, wsmanager.WebSocketManagerError)
    assert len(str(caught.value)) > 20, "the message does not say what is expected"
    assert len(str(caught.value)) < 2000, "the message repeats a huge id"
    with pytest.raises(InvalidUserContext):
        await get_websocket_manager_async(wrap(user_id))
    assert registered() == 0


@pytest.mark.parametrize(
    "context",
    [{}, {"user": "x"}, {"USER_ID": "x"}, [], (), 1, 1.5, object(), b"x", True, lambda: "x", int],
    ids=lambda context: repr(context)[:20],
)
async def test_refused_contexts(context: Any) -> None:
    with pytest.raises(InvalidUserContext):
        get_websocket_manager(context)
    with pytest.raises(InvalidUserContext):
        await get_websocket_manager_async(context)
    assert registered() == 0


def test_a_huge_int_is_refused_by_its_length() -> None:
    with pytest.raises(InvalidUserContext):
        get_websocket_manager({"user_id": 10**300})
    with pytest.raises(InvalidUserContext):
        get_websocket_manager({"user_id": 1 << 100_000})
    assert registered() == 0


@pytest.mark.parametrize(
    "error",
    [RuntimeError("db down"), KeyError("user_id"), AttributeError("inner"), KeyboardInterrupt()],
    ids=lambda error: type(error).__name__,
)
async def test_a_context_that_raises_is_heard(error: BaseException) -> None:
    """Its own exception, not ours; asked once; nothing registered; nobody else affected."""
    other = get_websocket_manager("other")
    for factory in (get_websocket_manager, get_websocket_manager_async):
        context = RaisingContext(error)
        with pytest.raises(type(error)) as caught:
            factory(context)  # the async form validates at the call as well
        assert caught.value is error
        assert context.asked <= 2
    assert registered() == 1
    assert get_websocket_manager("other") is other


def test_mapping_that_raises_is_heard() -> None:
    class Broken(collections.UserDict):  # type: ignore[type-arg]
        def __getitem__(self, key: object) -> object:
            raise ConnectionError("session store is down")

    with pytest.raises(ConnectionError, match="session store"):
        get_websocket_manager(Broken())
    assert registered() == 0


def test_a_context_may_ask_for_managers_itself() -> None:
    """A property that comes back in, for the same user and for another."""
    seen: list[object] = []

    class Reentrant:
        @property
        def user_id(self) -> str:
            seen.append(get_websocket_manager("re-entered"))
            seen.append(get_websocket_manager("other"))
            return "re-entered"

    manager = get_websocket_manager(Reentrant())
    assert manager is seen[0]
    assert manager is not seen[1]
    assert registered() == 2


def test_a_context_that_resets_the_registry_meanwhile() -> None:
    class Resetting:
        @property
        def user_id(self) -> str:
            wsmanager.reset_manager_registry()
            return "after-reset"

    assert get_websocket_manager(Resetting()) is get_websocket_manager("after-reset")
    assert registered() == 1


def test_getattr_magic_is_no_id() -> None:
    """A Mock answers every attribute; an answer that is no id is refused, not stringified."""
    from unittest.mock import MagicMock

    with pytest.raises(InvalidUserContext):
        get_websocket_manager(MagicMock())
    assert registered() == 0


def test_a_mock_of_a_uuid_is_none() -> None:
    """It says of itself that it is a UUID, and would be user 00000000-...-1."""
    from unittest.mock import MagicMock, create_autospec

    for mock in (MagicMock(spec=uuid.UUID), create_autospec(uuid.UUID, instance=True)):
        assert isinstance(mock, uuid.UUID)
        with pytest.raises(InvalidUserContext):
            get_websocket_manager({"user_id": mock})
    assert registered() == 0


@pytest.mark.parametrize("there", [{}, {"UUID": None}, {"UUID": "text"}], ids=repr)
def test_a_uuid_module_without_the_class(
    monkeypatch: pytest.MonkeyPatch, there: dict[str, object]
) -> None:
    """Half-way through its import, or somebody else's: nothing is a UUID then."""
    module = types.ModuleType("uuid")
    vars(module).update(there)
    monkeypatch.setitem(sys.modules, "uuid", module)
    with pytest.raises(InvalidUserContext):
        get_websocket_manager({"user_id": 1.5})
    monkeypatch.setitem(sys.modules, "uuid", None)
    with pytest.raises(InvalidUserContext):
        get_websocket_manager({"user_id": 1.5})


# -- two ids are one user only if they are the same text ------------------------

DISTINCT = [
    "a", "A", "á", "a\u0301", "\u0430", "а ", "a ", " a", "a\t", "ａ", "𝒂", "\u202ea", "a\u200b",
    "a\ufeff", "None", "none", "null", "0", "00", "-0", "1", "1.0", "True", "ｱ", "ア", "ß", "ss",
    "İ", "i", "user:1", "user_1", "a" * 255, "a" * 256, "../a", "%61", "a%00", "\x01", "\x7f",
]  # fmt: skip


def check_distinct(factory: Factory) -> None:
    """Each of the look-alikes has a manager of its own and gets only its own event."""
    managers = {text: factory(text) for text in DISTINCT}
    assert len({id(manager) for manager in managers.values()}) == len(DISTINCT)
    assert all(manager.user_id == text for text, manager in managers.items())


def test_look_alikes_are_different_users() -> None:
    check_distinct(get_websocket_manager)
    assert registered() == len(DISTINCT)


@pytest.mark.parametrize(
    "clean",
    [str.strip, str.casefold, lambda s: unicodedata.normalize("NFC", s), lambda s: s[:255],
     lambda s: unicodedata.normalize("NFKC", s), lambda s: s.replace(":", "_")],
    ids=["strip", "casefold", "NFC", "truncate", "NFKC", "sanitize"],
)  # fmt: skip
def test_control_a_factory_that_cleans_up_ids_is_caught(clean: Callable[[str], str]) -> None:
    with pytest.raises(AssertionError):
        check_distinct(lambda text: get_websocket_manager(clean(text)))


def test_control_c_string_comparison_is_caught(nursery: Any, run_isolated: Any) -> None:
    """With keys cut at the first NUL "a\\0b" would be user "a"; here and there the same script."""
    script = """
import wsmanager
own = wsmanager.get_websocket_manager("a")
try:
    other = wsmanager.get_websocket_manager("a\\0b")
except wsmanager.InvalidUserContext:
    raise SystemExit(0)
raise SystemExit(3 if other is own else 4)
"""
    assert run_isolated(script).status == 0
    assert run_isolated(script, package=nursery.package("NUL")).status == 3


# -- I4: nobody, and those who are called so ------------------------------------

NOBODIES: list[Any] = [None, "None", 0, "null", "undefined", "nil", "anonymous", "system"]


def test_none_and_its_look_alikes_reach_only_themselves() -> None:
    """All pairs: an event of one of them arrives at that one's socket and nowhere else."""
    managers = [
        get_websocket_manager(None if user is None else {"user_id": user}) for user in NOBODIES
    ]
    assert len({id(manager) for manager in managers}) == len(NOBODIES)


async def test_none_reaches_no_named_user_and_no_named_user_reaches_none() -> None:
    sockets = [SyncSocket() for _ in NOBODIES]
    managers = [
        get_websocket_manager(None if user is None else {"user_id": user}) for user in NOBODIES
    ]
    for manager, socket in zip(managers, sockets, strict=True):
        manager.add_connection(socket)
    for n, manager in enumerate(managers):
        await manager.emit_event("mine", {"n": n})
    for n, socket in enumerate(sockets):
        assert [event["payload"]["n"] for event in socket.events] == [n]


@pytest.mark.parametrize("empty", ["", 0.0, (), [], {}, False])
def test_falsy_is_not_none(empty: Any) -> None:
    """``if not user_context`` was how everybody shared one manager."""
    with pytest.raises(InvalidUserContext):
        get_websocket_manager(empty)
    with pytest.raises(InvalidUserContext):
        get_websocket_manager({"user_id": empty})
    assert registered() == 0


# -- B1 and B2: anything at all -------------------------------------------------

anything = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(),
        st.text(max_size=300), st.binary(max_size=20), st.uuids(), st.dates(), st.decimals(),
        st.text(alphabet=st.characters(), max_size=8),
        st.builds(HostileStr, st.text(max_size=4)),
        st.sampled_from(REFUSED_IDS),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["user_id", "id", "x"]), inner, max_size=3),
        st.builds(PlainContext, inner),
    ),
    max_leaves=6,
)  # fmt: skip


def expected_key(context: Any) -> str | None:
    """The rule of the documentation, in Python: the key, or ValueError."""
    if context is None:
        return None
    user_id = context
    if isinstance(context, dict):
        if "user_id" not in context:
            raise ValueError
        user_id = context["user_id"]
    elif isinstance(context, PlainContext):
        user_id = context.user_id
    elif not isinstance(context, str):
        raise ValueError
    if isinstance(user_id, bool) or not isinstance(user_id, (str, int, uuid.UUID)):
        raise ValueError
    if isinstance(user_id, str):
        text = "".join(str.__iter__(user_id))
    else:
        text = int.__repr__(user_id) if isinstance(user_id, int) else uuid.UUID.__str__(user_id)
    if not text or text.isspace() or len(text) > 256 or "\0" in text:
        raise ValueError
    if any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        raise ValueError
    return text


@settings(max_examples=400, deadline=None)
@given(context=anything)
@example(context={"user_id": HostileStr("a")})
@example(context={"user_id": "a\x1c"})
@example(context={"user_id": "\x1c"})
def test_any_context_is_its_exact_user_or_a_named_refusal(context: Any) -> None:
    wsmanager.reset_manager_registry()
    try:
        key = expected_key(context)
    except ValueError:
        with pytest.raises(InvalidUserContext):
            get_websocket_manager(context)
        assert registered() == 0
    else:
        manager = get_websocket_manager(context)
        assert manager.user_id == key
        assert type(manager.user_id) in (str, type(None))
        assert get_websocket_manager(context) is manager
        assert registered() == 1


@settings(max_examples=200, deadline=None)
@given(first=st.text(max_size=6), second=st.text(max_size=6))
@example(first="\u212b", second="\u00c5")
@example(first="ﬀ", second="ff")
def test_two_ids_are_one_user_exactly_if_they_are_the_same_text(first: str, second: str) -> None:
    wsmanager.reset_manager_registry()
    try:
        one, two = get_websocket_manager(first), get_websocket_manager(second)
    except InvalidUserContext:
        return
    assert (one is two) == (first == second)

"""The names that the audit looks for, and the byte patterns that find their lines quickly."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

#: What takes an awaitable; ``run``, ``wait`` and ``as_completed`` only as asyncio's own.
CONSUMERS: Final = frozenset(
    "create_task ensure_future gather wait_for shield run_until_complete run_coroutine_threadsafe".split()
)
ASYNCIO_CONSUMERS: Final = frozenset({"run", "wait", "as_completed"})
#: Those of them whose first argument is a collection of awaitables.
TAKES_COLLECTION: Final = frozenset({"wait", "as_completed"})

MESSAGE_BUILDERS: Final = frozenset({"create_server_message", "create_error_message"})

#: Old names with the module of ours that has them.
REPLACEMENTS: Final = {
    "get_websocket_manager": "wsmanager",
    "get_websocket_manager_async": "wsmanager",
    "create_websocket_manager": "wsmanager.compat",
    "UnifiedWebSocketManager": "wsmanager",
    "WebSocketManager": "wsmanager",
    "WebSocketManagerMode": "wsmanager",
    "WebSocketConnection": "wsmanager",
    "AgentWebSocketBridge": "wsmanager",
    "get_manager_registry_status": "wsmanager",
    "reset_manager_registry": "wsmanager",
    "create_server_message": "wsmanager",
    "create_error_message": "wsmanager",
}

_RAW_BUILDERS: Final = [name.encode() for name in sorted(MESSAGE_BUILDERS)]

_TEST_DOUBLE: Final = re.compile(
    r"^_*(Test|Mock|Fake|Stub|Dummy|Spy)|(Mock|Fake|Stub|Tests?|TestCase)$"
)
_AWAIT: Final = re.compile(
    rb"\bawait\b[ \t\r\n\\(]*(?P<first>[A-Za-z_]\w*)?(?P<tail>(?:\s*\.\s*\w+)*)"
)
_CONSUMER: Final = re.compile(
    rb"\b(?:"
    + b"|".join(sorted(name.encode() for name in CONSUMERS))
    + rb"|(?:asyncio|aio)\s*\.\s*"
    rb"(?:run|wait|as_completed))\s*\("
)
_LOCAL_IMPORT: Final = re.compile(rb"^[ \t]+(?:from[ \t]+[\w.]+[ \t]+)?import[ \t]+(.+)$", re.M)
_LOCK: Final = re.compile(rb"^[ \t]*with\b[^\n]*(?:lock|mutex)", re.M | re.I)
_SENDS: Final = re.compile(
    rb"^[ \t]*[\w.]*manager\w*[ \t]*\.[ \t]*(?:emit|send|broadcast)\w*[ \t]*\(", re.M | re.I
)
_LEGACY_IMPORT: Final = re.compile(rb"^[ \t]*from[ \t]+\w[\w.]*[ \t]+import\b", re.M)


_RENAMED: Final = re.compile(rb"\s+as\s+(\w+)")
_ASSIGNED: Final = re.compile(rb"[ \t]*(\w+)[ \t]*=[ \t]*[\w. \t]*")
_LINE_ENDS: Final = re.compile(rb"[ \t]*(?:#|$)", re.M)


class Aliases(NamedTuple):
    """What a file calls the factories and the builders of messages besides their own names."""

    factories: set[str]
    builders: set[str]


class Names(NamedTuple):
    """The configured names, as a worker needs them."""

    factories: frozenset[str]
    async_factories: frozenset[str]
    manager_classes: tuple[str, ...]
    legacy_modules: tuple[str, ...]

    @property
    def both(self) -> frozenset[str]:
        """The names of the factories of either kind."""
        return self.factories | self.async_factories


class Patterns:
    """Compiled once per process from :class:`Names`."""

    def __init__(self, names: Names) -> None:
        self.names = names
        joined = b"|".join(_encoded(names.both | MESSAGE_BUILDERS))
        self._token = re.compile(rb"\b(?:" + joined + rb")\b")
        self._raw_names = [name.encode() for name in names.both]
        cores = {max(re.split(r"[*?\[\]]", glob), key=len) for glob in names.manager_classes}
        self._cores = [core.encode() for core in sorted(cores)]
        self._class = re.compile(rb"\b\w*(?:" + b"|".join(map(re.escape, self._cores)) + rb")\w*\b")
        self._globs = [re.compile(fnmatch.translate(glob)) for glob in names.manager_classes]

    def is_manager_class(self, name: str) -> bool:
        """Whether a class of this name is a manager, and not a test double of one."""
        return any(glob.match(name) for glob in self._globs) and not _TEST_DOUBLE.search(name)

    def aliases(self, data: bytes) -> Aliases:
        """Other names that a file gives to the factories and to the builders of messages."""
        found = Aliases(set(), set())
        if not any(name in data for name in (*self._raw_names, *_RAW_BUILDERS)):
            return found
        for match in self._token.finditer(data):
            word = _RENAMED.match(data, match.end())
            if word is None and _LINE_ENDS.match(data, match.end()):
                start = data.rfind(b"\n", 0, match.start()) + 1
                word = _ASSIGNED.fullmatch(data, start, match.start())
            if word is not None:
                kind = found.builders if match.group() in _RAW_BUILDERS else found.factories
                kind.add(word.group(1).decode("ascii", "ignore"))
        return found

    def offsets(self, data: bytes, imported: frozenset[bytes], aliases: Aliases) -> Iterable[int]:
        """Where in *data* something may stand that a rule is about; the tree then decides."""
        if b"await" in data:
            yield from self._awaits(data, imported)
        if b"async" in data or b"run_until" in data:
            for match in _CONSUMER.finditer(data):
                yield match.start()
        has_factory = any(name in data for name in self._raw_names)
        if has_factory or any(name in data for name in _RAW_BUILDERS):
            for match in self._token.finditer(data):
                yield match.start()
            for alias in aliases.factories | aliases.builders:
                for match in re.finditer(rb"\b" + re.escape(alias.encode()) + rb"\b", data):
                    yield match.start()
        if has_factory:
            for match in _LOCK.finditer(data):
                yield match.end()
        if any(core in data for core in self._cores):
            for match in self._class.finditer(data):
                yield match.start()
        if b"anager" in data:
            for match in _SENDS.finditer(data):
                yield match.end()
        if b"ocket" in data:
            for match in _LEGACY_IMPORT.finditer(data):
                yield match.end()

    def _awaits(self, data: bytes, imported: frozenset[bytes]) -> Iterable[int]:
        names = {name.encode() for name in self.names.both}
        local = {
            word
            for match in _LOCAL_IMPORT.finditer(data)
            for word in re.findall(rb"\w+", match.group(1))
        }
        for match in _AWAIT.finditer(data):
            first, tail = match.group("first"), match.group("tail")
            if first is None or not tail:
                yield match.start()
                continue
            parts = [part.strip() for part in tail.split(b".")[1:]]
            if (
                parts[-1] in names
                or (first in (b"self", b"cls") and len(parts) == 1)
                or ((first in imported or first in local) and len(parts) <= 4)
            ) and not (first == b"asyncio" and parts == [b"sleep"]):
                yield match.start()


def _encoded(names: Iterable[str]) -> list[bytes]:
    # The longest first, so that one name does not hide another that it begins.
    return [re.escape(name.encode()) for name in sorted(names, key=lambda name: (-len(name), name))]

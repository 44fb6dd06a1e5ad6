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

#: What takes the dotted name of a module, or of something in one, in a text.
NAMES_MODULE: Final = frozenset(
    "import_module __import__ importorskip find_spec patch setattr delattr".split()
)
DOTTED: Final = re.compile(r"\w+(?:\.\w+)+")

MESSAGE_BUILDERS: Final = frozenset({"create_server_message", "create_error_message"})

#: Old names with the module of ours that has them so that code around them need not change.
REPLACEMENTS: Final = {
    "get_websocket_manager": "wsmanager",
    "get_websocket_manager_async": "wsmanager",
    "create_websocket_manager": "wsmanager.compat",
    "UnifiedWebSocketManager": "wsmanager",
    "WebSocketManager": "wsmanager",
    "WebSocketManagerMode": "wsmanager",
    "WebSocketConnection": "wsmanager",
    "AgentWebSocketBridge": "wsmanager",
    "get_manager_registry_status": "wsmanager.compat",  # awaited there, as it was
    "reset_manager_registry": "wsmanager",
    "create_server_message": "wsmanager",
    "create_error_message": "wsmanager",
}

_RAW_BUILDERS: Final = [name.encode() for name in sorted(MESSAGE_BUILDERS)]

_TEST_DOUBLE: Final = re.compile(
    r"^_*(Test|Mock|Fake|Stub|Dummy|Spy)|(Mock|Fake|Stub|Tests?|TestCase)$"
)
#: Begins with letters, not with \\b: only then does the search run at the speed of one for bytes.
_AWAIT: Final = re.compile(
    rb"await\b(?<!\wawait)[ \t\r\n\\(]*(?P<first>[A-Za-z_]\w*)?(?P<tail>(?:\s*\.\s*\w+)*)"
)
_CONSUMER: Final = re.compile(
    rb"\b(?:"
    + b"|".join(sorted(name.encode() for name in CONSUMERS))
    + rb"|(?:asyncio|aio)\s*\.\s*"
    rb"(?:run|wait|as_completed))\s*\("
)
_RAW_CONSUMERS: Final = [name.encode() for name in sorted(CONSUMERS)]
_ASYNCIO_CALLS: Final = [
    re.compile(module + rb"\s*\.\s*(?:run|wait|as_completed)\s*\(")
    for module in (rb"asyncio", rb"aio")
]
_LOCAL_IMPORT: Final = re.compile(rb"^[ \t]+(?:from[ \t]+[\w.]+[ \t]+)?import[ \t]+(.+)$", re.M)
_LOCK: Final = re.compile(rb"^[ \t]*with\b[^\n]*(?:lock|mutex)", re.M | re.I)
_SENDS: Final = re.compile(
    rb"^[ \t]*[\w.]*manager\w*[ \t]*\.[ \t]*(?:emit|send|broadcast)\w*[ \t]*\(", re.M | re.I
)
#: Of whatever: looked for only where a manager or its class is named.
_ANY_SEND: Final = re.compile(rb"\.[ \t]*(?:emit|send|broadcast)\w*[ \t]*\(")
#: Imports of a project's own paths with "websocket" in them, as a shim outside the audited paths has.
_WEBSOCKET_IMPORTS: Final = [
    re.compile(
        word + rb"[ \t]+(?!(?:websockets?|starlette|fastapi|wsmanager)\b)\.*[\w.]*(?i:websocket)"
    )
    for word in (rb"from", rb"import")
]
_LEGACY_IMPORT: Final = re.compile(rb"^[ \t]*from[ \t]+\w[\w.]*[ \t]+import\b", re.M)


#: Every import, wherever it stands, in comments and texts too; and what else gives a module.
_ANY_IMPORT: Final = re.compile(
    rb"import\b[ \t\\\n]*(\((?:[^)#]+|#[^\n]*)*\)?|(?:[^\n\\]+|\\\n|\\)*)"
)
_STAR: Final = re.compile(rb"\bimport\s*\(?\s*\*")
_WORD: Final = re.compile(rb"\w")
_CALLED: Final = re.compile(rb"[ \t]*\(")
_DEFINES: Final = re.compile(
    rb"(?:^(?P<indent>[ \t]*)async[ \t]+def|(?P<plain>\b(?:def|class)))[ \t\\\n]+\Z", re.M
)
_METHOD_TAIL: Final = re.compile(rb"\s*\.\s*(\w+)")
_INNER_CLASS: Final = re.compile(rb"^[ \t]+class\b", re.M)
_METHOD: Final = re.compile(rb"^([ \t]+)(?:async[ \t]+)?def\b", re.M)
#: A line at column 0 that is not of the class above it.
_OUTSIDE: Final = re.compile(rb"^[^\s#)\]}]", re.M)
_MODULE_CALLS: Final = (b"import_module", b"__import__", b"sys.modules")


def _shortest(names: Iterable[bytes]) -> list[bytes]:
    """*names* without those that hold another of them, whose search finds them too."""
    every = sorted(set(names))
    return [name for name in every if not any(other in name for other in every if other != name)]


_REPLACED: Final = _shortest(name.encode() for name in REPLACEMENTS)

_RENAMED: Final = re.compile(rb"\s+as\s+(\w+)")
_ASSIGNED: Final = re.compile(rb"[ \t]*(\w+)[ \t]*=[ \t]*[\w. \t]*")
_LINE_ENDS: Final = re.compile(rb"[ \t]*(?:#|$)", re.M)


class Aliases(NamedTuple):
    """What a file calls the factories and the builders of messages besides their own names."""

    factories: set[str]
    builders: set[str]


class Names(NamedTuple):
    """The configured names, as a worker needs them; *syntax* is whether every file is to be parsed.

    *shims* are the modules of the tree that ``wsmanager shim`` wrote, each with its package.
    """

    factories: frozenset[str]
    async_factories: frozenset[str]
    manager_classes: tuple[str, ...]
    legacy_modules: tuple[str, ...]
    syntax: bool = True
    shims: tuple[tuple[str, str], ...] = ()

    @property
    def both(self) -> frozenset[str]:
        """The names of the factories of either kind."""
        return self.factories | self.async_factories

    def is_legacy(self, module: str) -> bool:
        """Whether *module* is a legacy path by its name."""
        listed = (module == old or module.startswith(old + ".") for old in self.legacy_modules)
        ours = module.partition(".")[0] == "wsmanager"
        return not ours and ("websocket" in module.lower() or any(listed))


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
        self._telling = _shortest([*self._raw_names, *_RAW_BUILDERS, *self._cores])
        self._pairs = [
            pair.encode()
            for package, word in names.shims
            for pair in ([f"{package}.{word}"] if package else [f'"{word}.', f"'{word}."])
        ]
        self._shim_words = sorted({word.encode() for _, word in names.shims})
        self._shim_imports = _shim_imports(names.shims)
        self._globs = [re.compile(fnmatch.translate(glob)) for glob in names.manager_classes]

    def is_manager_class(self, name: str) -> bool:
        """Whether a class of this name is a manager, and not a test double of one."""
        return any(glob.match(name) for glob in self._globs) and not _TEST_DOUBLE.search(name)

    def relevant(self, data: bytes) -> bool:
        """Whether a rule may be about anything in *data*, or another file's finding depend on a name in it.

        False is certain: the tree of such a file gives no site, no class of a manager and no factory.
        Says True more often than need be, and takes far less time than parsing.
        """
        if any(name in data for name in self._telling):
            return True
        if b"ocket" in data and (
            any(name in data for name in _REPLACED)
            or any(pattern.search(data) for pattern in _WEBSOCKET_IMPORTS)
        ):
            return True
        if self._may_import_shim(data):
            return True
        if b"anager" in data and _SENDS.search(data):
            return True
        if _may_consume(data):
            if any(name in data for name in _RAW_CONSUMERS) and _CONSUMER.search(data):
                return True
            if any(pattern.search(data) for pattern in _ASYNCIO_CALLS):
                return True
        return b"await" in data and self._awaits_something(data)

    def _may_import_shim(self, data: bytes) -> bool:
        return any(word in data for word in self._shim_words) and (
            any(pair in data for pair in self._pairs)
            or any(pattern.search(data) for pattern in self._shim_imports)
        )

    def _awaits_something(self, data: bytes) -> bool:
        if any(text in data for text in _MODULE_CALLS):
            return True
        imported = frozenset(
            word
            for match in _ANY_IMPORT.finditer(data)
            for word in re.findall(rb"\w+", match.group(1))
        )
        nested: bool | None = None
        defined: dict[bytes, frozenset[bytes]] = {}
        for offset in self._awaits(data, imported):
            match = _AWAIT.match(data, offset)
            assert match is not None
            name, tail = match.group("first", "tail")
            own = name in (b"self", b"cls") and _METHOD_TAIL.fullmatch(tail)
            if own:
                name = own.group(1)
            elif tail:
                return True
            if name is None:
                return True
            if name not in defined:
                defined[name] = _coroutine_indents(name, data)
            if own:
                if nested is None:
                    nested = _INNER_CLASS.search(data) is not None
                if nested or not (defined[name] and _has_coroutine(name, data, offset)):
                    return True
            elif b"" not in defined[name] or _STAR.search(data):
                return True
        return False

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
            local = (
                word
                for match in _LOCAL_IMPORT.finditer(data)
                for word in re.findall(rb"\w+", match.group(1))
            )
            yield from self._awaits(data, imported.union(local))
        if _may_consume(data):
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
        if has_factory or any(core in data for core in self._cores):
            for match in _ANY_SEND.finditer(data):
                if b"await" not in data[data.rfind(b"\n", 0, match.start()) + 1 : match.start()]:
                    yield match.start()
        if b"ocket" in data:
            for match in _LEGACY_IMPORT.finditer(data):
                yield match.end()
            for pattern in _WEBSOCKET_IMPORTS:
                for match in pattern.finditer(data):
                    yield match.start()
        if any(word in data for word in self._shim_words):
            for pair in self._pairs:
                for match in re.finditer(re.escape(pair), data):
                    yield match.start()
            for pattern in self._shim_imports:
                for match in pattern.finditer(data):
                    yield match.start()

    def _awaits(self, data: bytes, imported: frozenset[bytes]) -> Iterable[int]:
        names = {name.encode() for name in self.names.both}
        for match in _AWAIT.finditer(data):
            first, tail = match.group("first"), match.group("tail")
            if first is None or not tail:
                yield match.start()
                continue
            parts = [part.strip() for part in tail.split(b".")[1:]]
            if (
                parts[-1] in names
                or (first in (b"self", b"cls") and len(parts) == 1)
                or (first in imported and len(parts) <= 4)
            ) and not (first == b"asyncio" and parts == [b"sleep"]):
                yield match.start()


def _shim_imports(shims: tuple[tuple[str, str], ...]) -> list[re.Pattern[bytes]]:
    """What finds imports of *shims*, but for those that have the package and a dot before the name.

    Each begins with letters, so that it is looked for at the speed of bytes.
    """
    if not shims:
        return []
    words = b"|".join(_encoded({word for _, word in shims}))
    packages = b"|".join(_encoded({package for package, _ in shims if package}))
    found = [rb"from[ \t]+\.+[ \t]*(?:" + words + rb")\b"]
    # The names may stand in the lines below.
    several = rb"[\s\\]+import\b(?:[ \t]*[\\(]|[^\n]*\b(?:" + words + rb")\b)"
    found.append(rb"from[ \t]+\.+" + several)
    if packages:
        found.append(rb"from[ \t]+(?:[\w.]*\.)?(?:" + packages + rb")" + several)
    tops = b"|".join(_encoded({word for package, word in shims if not package}))
    if tops:
        found.append(rb"from[ \t]+(?:" + tops + rb")\b")
        found.append(rb"import[ \t]+[^\n]*\b(?:" + tops + rb")\b")
    return [re.compile(pattern) for pattern in found]


def _may_consume(data: bytes) -> bool:
    """Whether a call that takes an awaitable is looked for in *data* at all."""
    return b"async" in data or b"run_until" in data


def _coroutine_indents(name: bytes, data: bytes) -> frozenset[bytes]:
    """What stands before each ``async def`` of *name*; nothing if more is ever done with it than to call it."""
    indents: set[bytes] = set()
    at = data.find(name)
    while at >= 0:
        end = at + len(name)
        if not (_WORD.match(data, end) or _WORD.match(data, max(at - 1, 0), at)):
            if not _CALLED.match(data, end):
                return frozenset()
            before = _DEFINES.search(data, max(at - 40, 0), at)
            if before is not None:
                if before.group("plain"):
                    return frozenset()
                indents.add(before.group("indent"))
        at = data.find(name, end)
    return frozenset(indents)


def _has_coroutine(name: bytes, data: bytes, at: int) -> bool:
    """Whether a class at column 0 has *at* in it, and an ``async def`` *name* as deep as its first method.

    Of a file that has no other classes inside anything.
    """
    start = data.rfind(b"\nclass ", 0, at) + 1
    first = _METHOD.search(data, start, at)
    if (
        first is None
        or not data.startswith(b"class ", start)
        or _OUTSIDE.search(data, start + 1, at)
    ):
        return False
    after = _OUTSIDE.search(data, at)
    wanted = b"\n" + first.group(1) + b"async def " + name + b"("
    return data.find(wanted, start, after.start() if after else len(data)) >= 0


def _encoded(names: Iterable[str]) -> list[bytes]:
    # The longest first, so that one name does not hide another that it begins.
    return [re.escape(name.encode()) for name in sorted(names, key=lambda name: (-len(name), name))]

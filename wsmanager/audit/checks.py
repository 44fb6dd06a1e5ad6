"""From sites to findings: one function for each kind of site."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from .._shims import HEADER
from .facts import ClassFact
from .findings import Finding
from .legacy import Legacy, Replacement, advice
from .names import REPLACEMENTS, Names
from .resolve import Kind, Resolver, Thing
from .signature import OWN_BUILDERS, mismatch, own_mismatch
from .sites import Site
from .usage import function_at, never_awaited
from .values import UNKNOWN, Attr, Call, Global, Ref, Value

_NOT_AWAITABLE: Final = frozenset({Kind.PLAIN, Kind.INSTANCE, Kind.NONE})
_MANAGER_NAME: Final = re.compile(r"(websocket|socket|ws)\w*manager", re.I)
_FACTORY_NAME: Final = re.compile(r"(websocket|ws)_?manager", re.I)
_MOST_LISTED: Final = 5
#: The rule about imports of legacy paths.
LEGACY_IMPORT: Final = "WSM007"
#: Why an await of the synchronous factory is not wrong where it stands.
_REASONS: Final = {
    "TypeError": "the code around expects the TypeError",
    "AsyncMock": "it is patched with an AsyncMock here",
    "guard": "only after a test that it is awaitable",
}


class Checker:
    """Knows the whole tree, and turns the sites of one file after the other into findings.

    *classes* are all manager classes of the tree, *legacy* its shims; *shown* gives the path that
    a user sees.
    """

    def __init__(
        self,
        resolver: Resolver,
        names: Names,
        classes: list[ClassFact],
        legacy: Legacy,
        shown: Callable[[str], str],
    ) -> None:
        self._resolver = resolver
        self._names = names
        self._classes = classes
        self._legacy = legacy
        self._shown = shown
        self._kinds: dict[str, Callable[[Site, str], Iterator[Finding]]] = {
            "await": self._await,
            "consume": self._await,
            "unused": self._unused,
            "class": self._class,
            "construct": self._construct,
            "emit": self._emit,
            "lock": self._lock,
            "import": self._import,
            "named": self._named,
            "message": self._message,
        }

    def check(self, site: Site, path: str) -> Iterator[Finding]:
        """The findings of one site of the file *path* (absolute)."""
        yield from self._kinds[site.kind](site, path)

    def _finding(
        self, rule: str, site: Site, path: str, message: str, thing: Thing | None = None
    ) -> Finding:
        end = (site.end_line, site.end_column)
        return Finding(rule, path, site.line, site.column, *end, message, site, thing)

    def _where(self, thing: Thing) -> str:
        return f"{self._shown(thing.path)}:{thing.line}" if thing.path and thing.line else ""

    # -- WSM001, WSM009, WSM010 -----------------------------------------------------

    def _await(self, site: Site, path: str) -> Iterator[Finding]:
        thing = self._resolver.thing(site.value, path)
        act = "awaited" if site.kind == "await" else f"given to {site.info[1]}()"
        if thing.kind in (Kind.MANAGER, Kind.FACTORY):
            yield self._wrong(site, path, thing, act)
        elif thing.kind is Kind.MIXED:
            text = f"{site.label} is {act}; it is synchronous or not depending on which import runs"
            yield self._finding("WSM009", site, path, text, thing)
        elif thing.kind is Kind.AWAITABLE:
            if thing.in_tree and thing.name in self._names.factories:
                text = f"{site.label} is {act}, rightly: it is async def at {self._where(thing)}"
                yield self._finding("WSM009", site, path, text, thing)
        elif (
            thing.kind in _NOT_AWAITABLE
            and thing.certain
            and (thing.source or thing.kind is Kind.INSTANCE)
        ):
            if not site.expected and self._is_function(site, path):
                yield self._finding("WSM010", site, path, self._poisoned(site, thing, act), thing)
        elif thing.kind is Kind.UNKNOWN and not site.expected and self._is_function(site, path):
            yield from self._perhaps_poisoned(site, path, act)

    def _wrong(self, site: Site, path: str, thing: Thing, act: str) -> Finding:
        where = self._where(thing)
        origin = f" ({where})" if where else ""
        if site.expected in _REASONS:
            text = f"{site.label} is {act}, but {_REASONS[site.expected]}"
            return self._finding("WSM009", site, path, text, thing)
        if thing.kind is Kind.FACTORY:
            text = f"{thing.name}{origin} is {act} without being called, and it is a plain function"
            return self._finding("WSM001", site, path, text, thing)
        plain = site.label.partition("(")[0].rpartition(".")[2]
        what = f"{thing.name}(){origin} is synchronous"
        text = f"{site.label} is {act}, but {what}"
        if plain != thing.name:
            text = f"{site.label} is {act}, but it is the manager of {thing.name}(){origin}, which is synchronous"
        return self._finding("WSM001", site, path, text, thing)

    def _is_function(self, site: Site, path: str) -> bool:
        if site.info[0] == "name":
            return True
        value = site.value
        if (
            site.info[0] == "attribute"
            and isinstance(value, Call)
            and isinstance(value.callee, Attr)
        ):
            return self._resolver.thing(value.callee.owner, path).kind is Kind.MODULE
        return False

    def _poisoned(self, site: Site, thing: Thing, act: str) -> str:
        source = thing.source or thing
        kind = "plain function" if thing.source else "class"
        where = f"{self._shown(source.path)}:{source.line}" if source.path else "wsmanager's"
        return (
            f"{site.label} is {act}, but it is the {kind} {source.name} ({where}), "
            "whose result cannot be awaited"
        )

    def _perhaps_poisoned(self, site: Site, path: str, act: str) -> Iterator[Finding]:
        """A name that says "manager factory" and is another plain function, whatever that returns."""
        name = site.label.partition("(")[0].rpartition(".")[2]
        if not (_FACTORY_NAME.search(name) and isinstance(site.value, Call)):
            return
        callee = self._resolver.thing(site.value.callee, path)
        if callee.kind is Kind.FUNCTION and callee.certain and callee.path:
            text = (
                f"{site.label} is {act}, but it is the plain function {callee.name} "
                f"({self._where(callee)}), which does not seem to return anything to await"
            )
            yield self._finding("WSM010", site, path, text, callee)

    # -- WSM002 ------------------------------------------------------------------------

    def _unused(self, site: Site, path: str) -> Iterator[Finding]:
        thing = self._resolver.thing(site.value, path)
        if thing.kind is not Kind.AWAITABLE or site.expected:
            return
        if thing.name in self._names.async_factories or (
            thing.name in self._names.factories and thing.in_tree
        ):
            why, name = site.info
            if name:
                module = self._resolver.tree_of(path)
                function = function_at(module, site.line, site.column) if module else None
                why = never_awaited(function, name) if function else ""
            if not why:
                return
            text = f"{site.label} is not awaited: {why}"
            yield self._finding("WSM002", site, path, text, thing)

    # -- WSM003, WSM004, WSM005 ------------------------------------------------------------

    def _class(self, site: Site, path: str) -> Iterator[Finding]:
        others = [
            f"{fact.name} ({self._shown(fact.path)}:{fact.line})"
            for fact in self._classes
            if (fact.path, fact.line) != (path, site.line)
        ]
        text = f"{site.label} is another WebSocket manager beside wsmanager's"
        if others:
            more = f" and {len(others) - _MOST_LISTED} more" if len(others) > _MOST_LISTED else ""
            text += (
                f"; the tree has {len(others) + 1}: also {', '.join(others[:_MOST_LISTED])}{more}"
            )
        yield self._finding("WSM003", site, path, text)

    def _construct(self, site: Site, path: str) -> Iterator[Finding]:
        thing = self._resolver.thing(site.value, path)
        if thing.kind not in (Kind.CLASS, Kind.UNKNOWN) or site.expected:
            return
        if self._names.both & set(site.function):
            return  # the factory itself has to make one
        text = f"{site.label} is constructed directly; get the manager from get_websocket_manager()"
        yield self._finding("WSM004", site, path, text, thing)

    def _emit(self, site: Site, path: str) -> Iterator[Finding]:
        thing = self._resolver.thing(site.value, path)
        method, named_so = site.info
        if thing.kind is Kind.INSTANCE:
            found = self._resolver.attribute(thing, method, path)
            legacy = found.kind is Kind.COROUTINE and found.in_tree
            legacy = legacy and (bool(named_so) or self._resolver.is_manager(thing))
        elif thing.kind is Kind.MANAGER:
            legacy = thing.in_tree and self._only_async(method)
        else:
            receiver = site.label.rpartition(".")[0]
            named = _MANAGER_NAME.search(receiver.rpartition(".")[2]) is not None
            legacy = (
                thing.kind is Kind.UNKNOWN
                and named
                and self._only_async(method)
                and not self._resolver.imports_own(path)
            )
        if legacy and not site.expected:
            text = f"{site.label}() is a coroutine of a legacy manager and is never awaited: nothing is sent"
            yield self._finding("WSM005", site, path, text, thing)

    def _only_async(self, method: str) -> bool:
        asynchronous = any(method in fact.async_methods for fact in self._classes)
        return asynchronous and not any(method in fact.plain_methods for fact in self._classes)

    # -- WSM006, WSM007, WSM008 ----------------------------------------------------------------

    def _lock(self, site: Site, path: str) -> Iterator[Finding]:
        text = f"the thread lock {site.label} is held across the await in line {site.info[0]}"
        yield self._finding("WSM006", site, path, text)

    def _import(self, site: Site, path: str) -> Iterator[Finding]:
        assert isinstance(site.value, Ref)
        text = self._legacy.told(path, site.value, site.info)
        if not text and not site.value.level and self._names.is_legacy(site.label):
            old = [name for name in site.info if name in REPLACEMENTS]
            news = advice(Replacement(REPLACEMENTS[name], name) for name in old)
            text = f"{site.label} is a legacy path of {', '.join(old)}: {news}" if old else ""
        if text:
            yield self._finding(LEGACY_IMPORT, site, path, text)

    def _named(self, site: Site, path: str) -> Iterator[Finding]:
        text = self._legacy.named(path, site.label)
        if text:
            yield self._finding(LEGACY_IMPORT, site, path, text)

    def _message(self, site: Site, path: str) -> Iterator[Finding]:
        thing = self._resolver.thing(site.value, path)
        theirs = thing.kind is Kind.FUNCTION and thing.path
        name = thing.name if theirs else self._builder(site.value, path)
        if theirs:
            definition = self._resolver.definition(thing)
            reason = (
                mismatch(site.info, definition) if definition and thing.name in OWN_BUILDERS else ""
            )
        else:
            reason = own_mismatch(name, site.info) if name else ""
        if reason and not site.expected:
            yield self._finding("WSM008", site, path, f"{name}(): {reason}", thing)

    def _builder(self, value: Value, path: str) -> str:
        """The name of our builder that *value* is, if it is imported from us or from a legacy path."""
        if isinstance(value, Global):
            value = self._resolver.binding(path, value.name) or value
        if isinstance(value, Attr) and value.name in OWN_BUILDERS:
            owner = value.owner
            if isinstance(owner, Global):
                owner = self._resolver.binding(path, owner.name) or owner
            return value.name if isinstance(owner, Ref) and _ours(owner) else ""
        return (
            value.name
            if isinstance(value, Ref) and value.name in OWN_BUILDERS and _ours(value)
            else ""
        )


def _ours(ref: Ref) -> bool:
    return ref.module.partition(".")[0] == "wsmanager" or "websocket" in ref.module.lower()


UNUSED_SHIM: Final = "WSM011"


def unused_shim(path: str) -> Finding:
    """The finding of a file of ``wsmanager shim`` that can go."""
    text = "nothing in the audited tree imports this legacy path any more: the file can go"
    site = Site("shim", 1, 0, 1, len(HEADER), "shim", UNKNOWN)
    return Finding(UNUSED_SHIM, path, 1, 0, 1, len(HEADER), text, site)

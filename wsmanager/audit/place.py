"""Where a node stands while a file is walked."""

from __future__ import annotations

import ast
from typing import NamedTuple

from .scope import Block, Scope


class Place(NamedTuple):
    """The scope, the statements around, and what the code around expects of an ``await`` there.

    *expected* is "TypeError", "Exception", "AsyncMock" or nothing; *function*
    the names of the functions around; *guards* the tests for being awaitable that hold.
    """

    scope: Scope
    block: Block = ()
    expected: str = ""
    function: tuple[str, ...] = ()
    guards: tuple[ast.expr, ...] = ()

    def within(self, node: ast.stmt, field: str, expected: str = "") -> Place:
        """In the block *field* of the compound statement *node*."""
        block = (*self.block, (id(node), field))
        return self._replace(block=block, expected=expected or self.expected)

    def expecting(self, expected: str) -> Place:
        """The same place, where *expected* is expected; unchanged for nothing."""
        return self._replace(expected=expected) if expected else self

    def behind(self, guard: ast.expr) -> Place:
        """The same place, reached only after *guard*."""
        return self._replace(guards=(*self.guards, guard))

    def inside(self, scope: Scope, name: str = "", expected: str = "") -> Place:
        """In the body of another scope; *name* is the function's, if it is one."""
        function = (*self.function, name) if name else self.function
        return Place(scope, (), expected or self.expected, function, self.guards)

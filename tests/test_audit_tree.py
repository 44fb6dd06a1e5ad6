"""Modules, imports and files: what resolves to what, and what cannot be read."""

from __future__ import annotations

import ast
import os
import sys
import tempfile
import textwrap
import warnings
from pathlib import Path

import pytest
from audit_data.trees import FACTORY, check, found, grow
from hypothesis import given, settings
from hypothesis import strategies as st

from wsmanager.audit import Settings, UsageError, audit, pool
from wsmanager.audit.facts import Facts
from wsmanager.audit.names import Patterns

IMPORT = "from app.sockets import get_websocket_manager\n"
USE = """
async def f(ctx):
    await {call}(ctx)  # ! WSM001 fixable
"""

IMPORTS = {
    "through a package": """
        === pkg/__init__.py
        from .core import get_websocket_manager as make
        __all__ = ["make"]
        === pkg/core/__init__.py
        from app.sockets import get_websocket_manager
        === use.py
        from pkg import make
        async def f(ctx):
            await make(ctx)  # ! WSM001 fixable
        """,
    "relative": """
        === pkg/sub/use.py
        from ...app.sockets import get_websocket_manager as one
        from .. import near
        from ..near import two
        async def f(ctx):
            await one(ctx)  # ! WSM001 fixable
            await two(ctx)  # ! WSM001 fixable
            await near.two(ctx)  # ! WSM001 fixable
        === pkg/near.py
        from app.sockets import get_websocket_manager as two
        === pkg/__init__.py
        === pkg/sub/__init__.py
        """,
    "star after star": """
        === a.py
        from app.sockets import *
        make = get_websocket_manager
        === b.py
        from a import *
        === use.py
        from b import make, get_websocket_manager
        async def f(ctx):
            await make(ctx)  # ! WSM001 fixable
            await get_websocket_manager(ctx)  # ! WSM001 fixable
        """,
    "cycles": """
        === a.py
        from b import make, lost
        === b.py
        from a import lost
        from app.sockets import get_websocket_manager as make
        import a
        === use.py
        from a import make, lost
        async def f(ctx):
            await make(ctx)  # ! WSM001 fixable
            await lost(ctx)
        """,
    "an alias of an attribute": """
        === a.py
        import app.sockets
        make = app.sockets.get_websocket_manager
        === use.py
        import a as module
        async def f(ctx):
            await module.make(ctx)  # ! WSM001 fixable
        """,
    "folders without __init__": """
        === services/backend/hub/live.py
        def make(ctx):
            from app.sockets import get_websocket_manager
            return get_websocket_manager(ctx)
        === services/backend/use.py
        import hub.live
        from hub import live
        from hub.live import make
        async def f(ctx):
            await make(ctx)  # ! WSM001 fixable
            await live.make(ctx)  # ! WSM001 fixable
            await hub.live.make(ctx)  # ! WSM001 fixable
        """,
    "a source folder": """
        === src/lib/live.py
        from app.sockets import get_websocket_manager as make
        === tests/test_it.py
        from lib.live import make
        async def test_it(ctx):
            await make(ctx)  # ! WSM001 fixable
        """,
    "by its only place in the tree": """
        === services/worker/deep/hub/live.py
        from app.sockets import get_websocket_manager as make
        === use.py
        from hub.live import make
        async def f(ctx):
            await make(ctx)  # ! WSM001 fixable
        """,
    "the last one counts": """
        === a.py
        async def make(ctx): ...
        from app.sockets import get_websocket_manager as make
        def other(ctx): return 1
        async def other(ctx): ...
        === use.py
        from a import make, other
        async def f(ctx):
            await make(ctx)  # ! WSM001 fixable
            await other(ctx)
        """,
    "inherited from another file": """
        === base.py
        from app.sockets import get_websocket_manager
        class Base:
            def manager(self):
                return get_websocket_manager(self.ctx)
            async def later(self): ...
        === use.py
        from base import Base
        class Derived(Base):
            async def go(self):
                await self.manager()  # ! WSM001 fixable
                await self.later()
        """,
    "a type checking import": """
        === use.py
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from app.sockets import get_websocket_manager
        else:
            from app.sockets import get_websocket_manager
        async def f(ctx):
            await get_websocket_manager(ctx)  # ! WSM001 fixable
        """,
}


@pytest.mark.parametrize("shape", IMPORTS)
def test_imports(tmp_path: Path, shape: str) -> None:
    check(tmp_path, FACTORY + textwrap.dedent(IMPORTS[shape]), "WSM001 WSM009 WSM010")


def test_an_audit_of_one_file_sees_the_tree_around_it(tmp_path: Path) -> None:
    # As a pre-commit hook, the audit is told the changed files only.
    grow(
        tmp_path,
        """
        === pyproject.toml
        === app/__init__.py
        === app/sockets.py
        async def get_websocket_manager(ctx): ...
        === app/use.py
        from app.sockets import get_websocket_manager
        async def f(ctx):
            await get_websocket_manager(ctx)
        """,
    )
    report = audit([tmp_path / "app" / "use.py"])
    assert [finding.rule for finding in report.findings] == ["WSM009"]
    assert report.files == 1


UNPARSED = {
    "syntax.py": (b"def f(:\n    pass\n", "syntax error"),
    "null.py": (b"x = 1\nawait get_websocket_manager()\0\n", "null bytes"),
    "latin.py": (b"x = '\xe9'\n", "is not utf-8"),
    "cookie.py": (b"# -*- coding: no-such-codec -*-\n", "bad encoding"),
    "cookie2.py": (b"# coding: ascii\nx = '\xe9'\n", ""),
    "bom.py": (b"\xef\xbb\xbf# coding: latin-1\n", "bad encoding"),
    "deep.py": (b"x = " + b"(" * 5000 + b")" * 5000 + b"\n", ""),
    "minus.py": (b"x = " + b"-" * 100_000 + b"1\n", ""),
    "python2.py": (b"print 'hello'\n", "syntax error"),
    "indent.py": (b"if 1:\n\tx\n        y\n", "syntax error"),
}


def test_what_does_not_parse_is_listed(tmp_path: Path) -> None:
    grow(tmp_path, FACTORY)
    for name, (data, _) in UNPARSED.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "long.py").write_bytes(b"x = a" + b".b" * 20_000 + b"\n")
    (tmp_path / "huge.py").write_bytes(b"# " + b"x" * (17 << 20))
    (tmp_path / "loop.py").symlink_to("loop.py")
    (tmp_path / "gone.py").symlink_to("nowhere.py")
    (tmp_path / "down").symlink_to(".")
    (tmp_path / "folder.py").mkdir()
    report = audit([tmp_path])
    listed = {os.path.basename(item.path): item.reason for item in report.unparsed}
    for name, (_, reason) in UNPARSED.items():
        assert reason in listed[name], name
    assert "larger than" in listed["huge.py"]
    assert "cannot be read" in listed["loop.py"]
    assert "cannot be read" in listed["gone.py"]
    assert "folder.py" not in listed
    assert report.findings == []


def test_unreadable_files_and_folders_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Refused by a patch, not by modes: root may read everything.
    (tmp_path / "secret.py").write_text("x = 1\n")
    (tmp_path / "folder").mkdir()
    opening, listing = open, os.scandir

    def refuse_open(path: object, *args: object, **words: object) -> object:
        if str(path).endswith("secret.py"):
            raise PermissionError(13, "Permission denied")
        return opening(path, *args, **words)  # type: ignore[call-overload]

    def refuse_listing(path: str) -> object:
        if path.endswith("folder"):
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr("builtins.open", refuse_open)
    monkeypatch.setattr("os.scandir", refuse_listing)
    listed = {os.path.basename(item.path): item.reason for item in audit([tmp_path]).unparsed}
    assert listed == {
        "secret.py": "cannot be read: Permission denied",
        "folder": "cannot be listed: Permission denied",
    }


def test_line_of_a_syntax_error(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"x = 1\ny = (\n")
    (item,) = audit([tmp_path]).unparsed
    assert item.line == 2


def test_which_files(tmp_path: Path) -> None:
    bad = "from a import get_websocket_manager as g\nasync def f(): await g()\n"
    for name in (
        "a.py", "b.pyw", "c.txt", "script", ".hidden/d.py", "node_modules/e.py", ".git/f.py",
        "venv/pyvenv.cfg", "venv/lib/g.py", "build/h.py", "gen/i.py", "deep/gen/j.py", "k_pb2.py",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(bad)
    (tmp_path / "again.py").symlink_to("a.py")
    chosen = Settings(exclude=("gen", "*_pb2.py"))
    report = audit([tmp_path, tmp_path / "script", tmp_path / "a.py"], chosen)
    names = sorted(
        Path(finding.path).relative_to(tmp_path).as_posix() for finding in report.findings
    )
    assert names == [".hidden/d.py", "a.py", "b.pyw", "build/h.py", "script"]
    assert report.files == 5
    with pytest.raises(UsageError, match="no such file"):
        audit([tmp_path / "nowhere"])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_find_the_same(tmp_path: Path, method: str) -> None:
    if method == "fork" and sys.platform == "win32":
        pytest.skip("there is no fork on Windows")
    expected = grow(tmp_path, FACTORY)
    filler = "x = '" + "a" * 200_000 + "'\n"
    for number in range(24):
        (tmp_path / f"m{number}.py").write_text(
            filler + f"from m{number + 1} import g\n" + USE.format(call="g")
        )
        expected.add((f"m{number}.py", 5, "WSM001", True))
    (tmp_path / "m24.py").write_text("from app.sockets import get_websocket_manager as g\n")
    seen: list[tuple[int, int]] = []
    report = audit(
        [tmp_path],
        jobs=2,
        start_method=method,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert found(report, tmp_path) == expected
    assert seen[-1] == (27, 27)
    assert seen == sorted(seen)


def test_a_file_that_kills_the_parser_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract = pool.extract

    def crash(path: str, patterns: Patterns) -> Facts:
        if path.endswith("crash.py"):
            os._exit(11)
        return extract(path, patterns)

    monkeypatch.setattr(pool, "extract", crash)  # the workers are forked from here
    expected = grow(
        tmp_path, FACTORY + "=== use.py\n" + IMPORT + USE.format(call="get_websocket_manager")
    )
    for number in range(8):
        (tmp_path / f"m{number}.py").write_text("x = '" + "a" * 600_000 + "'\n")
    (tmp_path / "crash.py").write_text("x = 1\n")
    report = audit([tmp_path], jobs=2, start_method="fork")
    assert [(Path(item.path).name, item.reason) for item in report.unparsed] == [
        ("crash.py", "crashes the Python parser")
    ]
    assert found(report, tmp_path) == expected
    assert report.files == 12


def test_an_error_of_ours_is_listed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr("wsmanager.audit.facts.summarize", fail)
    (tmp_path / "a.py").write_text("get_websocket_manager = 1\n")
    (item,) = audit([tmp_path]).unparsed
    assert item.reason == "internal error, please report it: KeyError: 'unforeseen'"


_PIECES = st.sampled_from(
    [
        "await ", "get_websocket_manager", "(ctx)", "async def f():\n    ", "\n", "\n    ",
        "from a import get_websocket_manager as g\n", "class WebSocketManager(g):", "lambda x: ",
        "[", "]", "(", ")", "if x:", "try:", "except TypeError:", "with raises(TypeError):",
        "global g", " = ", "self.", "return ", ":=", "for g in ", "*", ",", "g", ".g()", "'''",
        "asyncio.gather(", "#", "\\\n", "\t", "{", "}", "match x:\n case g:", "@property\n",
        "def get_websocket_manager(self):", "pass", "f'{await g()}'", "del g", "import a as b\n",
    ]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=40))
@settings(max_examples=300, deadline=None)
def test_no_text_is_too_odd(pieces: list[str]) -> None:
    data = "".join(pieces).encode()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "odd.py").write_bytes(data)
        report = audit([folder], fix=True)
        assert not [item for item in report.unparsed if "internal" in item.reason]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                compile(data, "odd.py", "exec", ast.PyCF_ONLY_AST)
            except (SyntaxError, ValueError):
                assert report.unparsed
                assert (Path(folder) / "odd.py").read_bytes() == data


def test_nothing_is_imported(tmp_path: Path) -> None:
    grow(
        tmp_path,
        """
        === poison.py
        import pathlib
        pathlib.Path(__file__).with_name("ran").touch()
        def get_websocket_manager(): ...
        === use.py
        from poison import get_websocket_manager
        async def f():
            await get_websocket_manager()
        """,
    )
    before = set(sys.modules)
    assert len(audit([tmp_path]).findings) == 1
    assert not (tmp_path / "ran").exists()
    assert not {"poison", "use"} & (set(sys.modules) - before)


def test_the_standard_library_has_no_wrong_await() -> None:
    # Its asyncio, unittest and their tests: thousands of awaits, none of them ours.
    folder = Path(os.__file__).parent
    report = audit(
        [folder / "asyncio", folder / "unittest", folder / "concurrent", folder / "contextlib.py"]
    )
    assert report.files > 50
    assert [finding for finding in report.findings if finding.rule == "WSM001"] == []

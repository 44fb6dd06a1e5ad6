"""Files that no rule can be about are only checked for their syntax: it must never change a result.

Every tree of the other tests is audited both ways by ``audit_data.trees.check``;
here are real code, a made-up code base, and what the filter could get wrong.
"""

from __future__ import annotations

import ast
import json
import shutil
import sys
import sysconfig
import time
from pathlib import Path

import fastapi
import pytest
import starlette
import websockets
from audit_data.trees import FACTORY, audit_of_all, check, grow, told
from hypothesis import given, settings
from hypothesis import strategies as st
from support import codebase

from wsmanager.__main__ import main
from wsmanager.audit import Settings, audit, facts, source
from wsmanager.audit.names import Patterns

STDLIB = Path(sysconfig.get_path("stdlib"))
LIBRARIES = [Path(str(module.__file__)).parent for module in (starlette, fastapi, websockets)]
PATTERNS = Patterns(Settings().names)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    folder = tmp_path_factory.mktemp("made") / "up"
    return folder, dict(codebase.grow(folder, 300, seed=7))


def test_a_made_up_code_base(made_up: tuple[Path, dict[str, int]]) -> None:
    folder, counts = made_up
    report = audit([folder])
    assert told(report) == told(audit_of_all([folder]))
    assert report.files == counts["files"] == 300
    assert len(report.unparsed) == counts["broken"] > 10
    found = [finding for finding in report.findings if finding.rule == "WSM001"]
    assert len(found) == counts["wrong"] > 2


def test_without_the_check_of_the_syntax_the_findings_are_the_same(
    made_up: tuple[Path, dict[str, int]],
) -> None:
    folder, counts = made_up
    with_it, without = audit([folder]), audit([folder], Settings(syntax_check=False))
    assert told(without)[0] == told(with_it)[0]
    assert 0 < len(without.unparsed) < len(with_it.unparsed) == counts["broken"]
    assert all(item in with_it.unparsed for item in without.unparsed)


def test_it_is_an_option_and_a_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text("def f(:\n")
    (tmp_path / "b.py").write_text("get_websocket_manager(\n")
    options = ["audit", str(tmp_path), "--format", "json"]

    def listed(*more: str) -> list[str]:
        assert main([*options, *more]) == 0
        summary = json.loads(capsys.readouterr().out)["summary"]
        return [Path(item["path"]).name for item in summary["unparsed"]]

    assert listed() == ["a.py", "b.py"]
    assert listed("--no-syntax-check") == ["b.py"]
    if sys.version_info >= (3, 11):
        config = tmp_path / "config.toml"
        config.write_text("[tool.wsmanager]\nsyntax-check = false\n")
        assert listed("--config", str(config)) == ["b.py"]
        config.write_text("[tool.wsmanager]\nsyntax-check = 0\n")
        assert main([*options, "--config", str(config)]) == 2


def test_the_filter_filters(made_up: tuple[Path, dict[str, int]]) -> None:
    """Not a timing: most files must not get as far as a tree."""
    folder, counts = made_up
    files = sorted(folder.rglob("*.py"))
    left = [path for path in files if PATTERNS.relevant(path.read_bytes())]
    assert counts["factory"] < len(left) < len(files) / 2


def test_the_control_a_filter_that_leaves_out_too_much_is_noticed(
    made_up: tuple[Path, dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = made_up
    whole = told(audit_of_all([folder]))
    monkeypatch.setattr(
        Patterns, "relevant", lambda self, data: b"await get_websocket_manager(" in data
    )
    assert told(audit([folder], jobs=1)) != whole


REAL = [
    STDLIB / name for name in ("asyncio", "concurrent", "unittest", "multiprocessing")
] + LIBRARIES


@pytest.mark.parametrize("folder", REAL, ids=lambda folder: folder.name)
def test_real_code(folder: Path) -> None:
    report = audit([folder])
    assert report.files > 3
    assert told(report) == told(audit_of_all([folder]))
    assert [f for f in report.findings if f.rule == "WSM001"] == []


PLANTED = """
from app.sockets import get_websocket_manager
async def notify(ctx):
    manager = await get_websocket_manager(ctx)
    await manager.emit_event("x", {})
"""


def planted(folder: Path, into: Path, depth: str) -> list[str]:
    """Where WSM001 is found in a copy of *folder* with one wrong await in it, *depth* below."""
    shutil.copytree(
        folder, into, ignore=shutil.ignore_patterns("site-packages", "__pycache__"), symlinks=True
    )
    (into / depth).mkdir(parents=True, exist_ok=True)
    (into / depth / "planted.py").write_text(PLANTED)
    grow(into, FACTORY)
    return [Path(f.path).name for f in audit([into]).findings if f.rule == "WSM001"]


def test_the_control_a_wrong_await_among_real_code_is_found(tmp_path: Path) -> None:
    assert planted(STDLIB / "asyncio", tmp_path / "copy", "deep/er") == ["planted.py"]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_control_a_wrong_await_in_the_standard_library_is_found(tmp_path: Path) -> None:
    assert planted(STDLIB, tmp_path / "copy", "email/mime") == ["planted.py"]


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("folder", [STDLIB, LIBRARIES[0].parent], ids=["stdlib", "site-packages"])
def test_all_of_the_real_code_that_is_here(folder: Path) -> None:
    """Nothing in it is ours: a wrong await in it would be a false one."""
    top = [path for path in sorted(folder.iterdir()) if path.name != "site-packages"]
    report = audit(top)
    assert report.files > 500
    assert told(report) == told(audit_of_all(top))
    assert [f for f in report.findings if f.rule == "WSM001"] == []


# -- modules that matter only because another one asks for them ---------------------------


def test_modules_without_a_word_of_it_are_still_followed(tmp_path: Path) -> None:
    trees = (
        FACTORY
        + """
=== app/made.py
def make(ctx):
    return {"ctx": ctx}
=== app/between.py
from .made import make as build
from .made import *
=== app/awaited.py
async def real(ctx):
    return ctx
=== use.py
from app.between import build, make
from app.awaited import real
async def f(ctx):
    await real(ctx)
    await build(ctx)  # ! WSM010
    await make(ctx)  # ! WSM010
"""
    )
    for name in ("made", "between", "awaited"):
        text = trees.partition(f"=== app/{name}.py\n")[2].partition("===")[0]
        assert not PATTERNS.relevant(text.encode()), "the control: these are left out at first"
    check(tmp_path, trees)


RELEVANT = {
    "an await of an imported name": "from a import b\nasync def f(): await b()",
    "imported on several lines": "from a import (\n    c,  # not b)\n    b,\n)\nasync def f(): await b.x()",
    "imported behind a colon": "if 1: import b\nasync def f(): await b.x()",
    "imported on a continued line": "from a import \\\n  b\nasync def f(): await b.x()",
    "imported by a call": "import importlib\nb = importlib.import_module('b')\nasync def f(): await b.x()",
    "a coroutine that is bound again": "async def b(): 1\nb = print\nasync def f(): await b()",
    "a coroutine that a star may hide": "async def b(): 1\nfrom a import *\nasync def f(): await b()",
    "a coroutine of a class": "class A:\n  async def b(): 1\nasync def f(): await b()",
    "a coroutine that is a parameter too": "async def b(): 1\nasync def f(b): await b()",
    "a coroutine and a plain function": "async def b(): 1\nif 0:\n  def b(): 1\nasync def f(): await b()",
    "a coroutine and a class": "async def b(): 1\nclass b(): 1\nasync def f(): await b()",
    "self": "class A:\n  async def f(self): await self.b()",
    "a coroutine of another class": "class A:\n  async def b(self): 1\nclass C(A):\n  async def f(self):\n    await self.b()",
    "a coroutine of a class inside": "class A(X):\n  async def f(self): await self.b()\n  class C:\n    async def b(self): 1",
    "a coroutine inside a method": "class A(X):\n  async def f(self):\n    async def b(): 1\n    await self.b()",
    "a coroutine behind the class": "class A(X):\n  async def f(self): await self.b()\ndef g():\n  async def b(): 1",
    "a function behind a class": "class A:\n  async def b(self): 1\nasync def f(self):\n  await self.b()",
    "a method that is bound again": "class A:\n  async def b(self): 1\n  b = print\n  async def f(self): await self.b()",
    "a method that is plain elsewhere": "class A:\n  async def b(self): 1\n  async def f(self): await self.b()\nclass C:\n  def b(self): 1",
    "a method that is set": "class A:\n  def __init__(self, x): self.b = x\n  async def b(self): 1\n  async def f(self): await self.b()",
    "a method that is only awaited": "class A:\n  async def b(self): 1\n  async def f(self): await self.b",
    "an await of an expression": "async def f(): await (yield)",
    "a task": "import asyncio\nasync def b(): 1\nasyncio . run (b())",
    "a manager class": "class MyWebSocketManager: pass",
    "a send": "async def f(x):\n  x.manager.send_all()",
    "a legacy import": "from x.websockets import WebSocketManagerMode, reset_manager_registry",
    "a builder": "create_error_message()",
}


@pytest.mark.parametrize("case", RELEVANT)
def test_what_is_relevant(case: str) -> None:
    data = RELEVANT[case].encode()
    ast.parse(data)
    assert PATTERNS.relevant(data)


IRRELEVANT = {
    "nothing": "",
    "an await of an argument's method": "async def f(client): await client.get()",
    "an await of the loop's": "import asyncio\nasync def f(): await asyncio.sleep(1)",
    "coroutines of the file": "async def b(): 1\nasync def f():\n  await b()\n  await b ()",
    "a word in a text": "x = 'awaiting tasks'",
    "a coroutine of the class": "class A(X):\n  async def f(self): await self.b()\n  async def b(self): 1\n",
    "one of each class": "class A(\n  X,\n):\n  async def b(self): 1\n  async def f(self): await self.b()\nclass C:\n"
    "  # c\n\n  async def f(self):\n    if 1:\n      await self . b(1)\n  @d\n  async def b(self): 1\n",
    "deep attributes": "class A:\n  async def f(self): await self.x.y()",
}


@pytest.mark.parametrize("case", IRRELEVANT)
def test_what_is_not(case: str) -> None:
    data = IRRELEVANT[case].encode()
    ast.parse(data)
    assert not PATTERNS.relevant(data)


_NAMES = ["a", "b", "aa", "get_websocket_manager", "self"]
_PIECES = st.sampled_from(
    [
        "from m import {n}\n", "from m import (\n    {n},\n    {k},\n)\n", "import {n}\n", "import m as {n}\n",
        "from m import *\n", "async def {n}(): return 1\n", "def {n}(x=None): return 1\n", "class {n}: pass\n",
        "async def f():\n    await {n}()\n", "async def g({k}):\n    await {n}()\n    await {k}.{n}()\n",
        "async def h():\n    import {k}\n    await {k}.{n}()\n", "{n} = {k}\n", "{n} = None\n",
        "async def i():\n    x = {n}()\n    await x\n", "class C({n}):\n    async def {k}(self):\n        await self.{n}()\n",
        "import asyncio\nasync def j():\n    asyncio.create_task({n}())\n", "if {n}: import {k}\n",
        "class D:\n    async def {k}(self): return 1\n    async def {n}(self):\n        await self.{k}()\n",
        "class E({k}):\n    async def x(self):\n        async def {n}(): return 1\n        return await self.{n}()\n",
        "class F:\n    class {n}:\n        async def {k}(self): await self.{k}()\n    async def {n}(self): await self.{k}()\n",
        "# await {n}\n", "try:\n    from o import {n}\nexcept ImportError:\n    {n} = None\n",
    ]
)  # fmt: skip


@st.composite
def modules(draw: st.DrawFn) -> str:
    pieces = draw(st.lists(_PIECES, max_size=7))
    names = st.sampled_from(_NAMES)
    return "".join(piece.format(n=draw(names), k=draw(names)) for piece in pieces)


@settings(max_examples=150, deadline=None)
@given(st.lists(modules(), min_size=1, max_size=3))
def test_made_up_modules(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("modules")
    grow(
        folder,
        "=== m.py\ndef a(x=None): return {}\nasync def b(): return 1\ndef aa(): return a()\n"
        "class get_websocket_manager: pass\n",
    )
    for number, text in enumerate(texts):
        (folder / f"use{number}.py").write_text(text)
    assert told(audit([folder], jobs=1)) == told(audit_of_all([folder]))


# -- the check of the syntax ----------------------------------------------------------------

ODD = {
    "what only a symbol table refuses": "def f(a):\n    global a\n",
    "a return outside": "return 1\n",
    "a future that is not": "from __future__ import nonsense\n",
    "two futures that are": "from __future__ import annotations, division\n",
    "a future of two that is not": "from __future__ import (annotations,\n  nonsense)\n",
    "a future that is nearly one": "from __future__ import annotations_\n",
    "a star inside": "def f():\n    from os import *\n",
    "an await outside": "await x\n",
    "a null byte": "x = 1\0\n",
    "unfinished": "def f(:\n",
    "bad indentation": "if x:\n  a\n b\n",
    "an invalid escape": "x = '\\d'\n",
    "too many brackets": "(" * 300 + ")" * 300,
    "a block that is missing": "\n\nif x:\ny\n",
    "brackets that do not match": "x = (1,\n2]\n",
    "a bracket that is open": "x = (1,\n2\n",
    "indented from the start": "  x = 1\n",
    "an open text": 'x = 1\ny = """\n\n',
    "a line that ends nowhere": "x = 1\\",
    "a form feed": "\fx = 1\n",
    "Python 2": "# a\nprint 'b'\n",
    "an odd character": "x = 1\ny = \u201c\n",
    "a cookie below": "#\n# coding: latin-1\nx = '\u00e9'\n",
    "a mark and a cookie": "\ufeff# coding: utf8\nx = 1\n",
    "a mark": "\ufeffx = (\n",
    "a future": "'doc'\nfrom __future__ import annotations\n",
    "a joke": "from __future__ import braces\nx = (\n",
    "fine": "x = 1\n",
    "empty": "",
}


def outcome(check: object, text: str) -> object:
    try:
        assert callable(check)
        check(text.encode())
    except source.Unparsed as error:
        return error.reason, error.line
    return None


@pytest.mark.parametrize("case", ODD)
def test_check_and_parse_refuse_the_same(case: str) -> None:
    assert outcome(source.check, ODD[case]) == outcome(source.parse, ODD[case])


_TEXTS = [path.read_text() for path in sorted(Path(audit.__code__.co_filename).parent.glob("*.py"))]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_check_and_parse_refuse_the_same_of_what_was_broken(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(_TEXTS))
    at = data.draw(st.integers(0, len(text)))
    piece = data.draw(
        st.sampled_from(["", "(", "]", "\n", "    ", "'", '"""', ":", "\\", "0x", "def ", "\t"])
    )
    less = data.draw(st.integers(0, 40))
    broken = text[:at] + piece + text[at + less :]
    assert outcome(source.check, broken) == outcome(source.parse, broken)


def test_the_control_a_check_that_keeps_the_line_it_was_given_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source, "_REFUSED", "\n" + source._REFUSED)
    assert outcome(source.check, ODD["unfinished"]) != outcome(source.parse, ODD["unfinished"])


def test_only_what_nests_too_deeply_for_a_tree_is_left_out() -> None:
    """The parser takes it; where a rule may be about the file, it is listed as before."""
    deep = "x = a" + ".b" * 20_000 + "\n"
    assert outcome(source.check, deep) is None


def test_broken_files_are_listed_whether_relevant_or_not(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f(:\n")
    (tmp_path / "b.py").write_text("import get_websocket_manager\ndef f(:\n")
    (tmp_path / "c.py").write_bytes(b"# coding: nonsense\n")
    (tmp_path / "d.py").write_bytes(b"x = '\xff'\n")
    report = audit([tmp_path])
    assert [Path(item.path).name for item in report.unparsed] == ["a.py", "b.py", "c.py", "d.py"]
    assert told(report) == told(audit_of_all([tmp_path]))


# -- what indexing leaves behind --------------------------------------------------------------


def test_indexing_leaves_no_cycles(made_up: tuple[Path, dict[str, int]]) -> None:
    """Workers do not collect them: a tree in one would stay for the whole run."""
    import gc

    folder, _ = made_up
    files = [str(path) for path in sorted(folder.rglob("*.py"))[:60]]
    for path in files:  # what is made once
        facts.extract(path, PATTERNS, whole=True)
    gc.collect()
    gc.disable()
    try:
        for path in files:
            facts.extract(path, PATTERNS, whole=True)
        assert gc.collect() < 50
    finally:
        gc.enable()


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_25_000_files(tmp_path: Path) -> None:
    """The figure of the documentation: two processors for less than a minute each."""
    import resource

    counts = codebase.grow(tmp_path / "tree", 25_000)

    def spent() -> float:
        usages = [
            resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        ]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    before, started = spent(), time.perf_counter()
    report = audit([tmp_path / "tree"], jobs=2)
    seconds, wall = spent() - before, time.perf_counter() - started
    print(
        f"{report.files:,} files, {counts['bytes']:,} bytes: {seconds:.1f} s of CPU, {wall:.1f} s"
    )
    assert seconds < 120
    assert report.files == 25_000
    assert len(report.unparsed) == counts["broken"]
    assert sum(f.rule == "WSM001" for f in report.findings) == counts["wrong"]

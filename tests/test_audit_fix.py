"""``--fix``: what is taken away, that nothing else is, and what is refused."""

from __future__ import annotations

import ast
import codecs
import os
import stat
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from audit_data.trees import FACTORY, grow
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsmanager.audit import Report, Settings, audit
from wsmanager.audit import fix as fixing

IMPORT = "from app.sockets import get_websocket_manager\n"
ASYNC = replace(Settings(), fix_style="async")


def mend(
    folder: Path, data: bytes, style: str = "sync", name: str = "use.py"
) -> tuple[bytes, Report]:
    """*data* in a file beside the factory, after ``--fix``."""
    grow(folder, FACTORY)
    path = folder / name
    path.write_bytes(data)
    report = audit([folder], replace(Settings(), fix_style=style), fix=True)
    return path.read_bytes(), report


def both(template: str) -> tuple[str, str]:
    """The text with what stands between « and » and without."""
    before = template.replace("«", "").replace("»", "")
    parts = template.split("«")
    return before, parts[0] + "".join(part.partition("»")[2] for part in parts[1:])


CASES = {
    "plain": "async def f(c):\n    m = «await »get_websocket_manager(c)\n",
    "spaces": "async def f(c):\n    m = «await   »get_websocket_manager(c)  # keep\n",
    "tab": "async def f(c):\n\tm = «await\t»get_websocket_manager(c)\n",
    "form feed": "async def f(c):\n    m = «await\f »get_websocket_manager(c)\n",
    "parentheses around": "async def f(c):\n    m = («await »get_websocket_manager(c))\n",
    "parentheses inside": "async def f(c):\n    m = «await »(get_websocket_manager(c))\n",
    "no space": "async def f(c):\n    return «await»(get_websocket_manager(c))\n",
    "after a parenthesis": "async def f(c):\n    return(«await »get_websocket_manager(c))\n",
    "line break": "async def f(c):\n    m = («await»\n  get_websocket_manager(c))\n",
    "comment between": "async def f(c):\n    m = («await »# why\n  get_websocket_manager(c))\n",
    "backslash": "async def f(c):\n    m = «await »\\\n  get_websocket_manager(c)\n",
    "statement": "async def f(c):\n    «await »get_websocket_manager(c)\n",
    "nested": "async def f(c):\n    «await »get_websocket_manager(«await »get_websocket_manager(c))\n",
    "two in a line": "async def f(c):\n    a = «await »get_websocket_manager(1); b = «await »get_websocket_manager(2)\n",
    "chain": "async def f(c):\n    («await »get_websocket_manager(c)).x.y()\n",
    "operators": "async def f(c):\n    return not «await »get_websocket_manager(c) or -«await »get_websocket_manager(c)\n",
    "keyword before": "async def f(c):\n    x = 1 if«await »(get_websocket_manager(c))else 2\n".replace(
        "if«", "if «"
    ),
    "lambda default": "async def f(c, m=lambda: get_websocket_manager(0)):\n    «await »get_websocket_manager(c)\n",
    "comprehension": "async def f(c):\n    return [«await »get_websocket_manager(x) for x in c]\n",
    "one line": "async def f(c): return «await »get_websocket_manager(c)\n",
    "no line end": "async def f(c): return «await »get_websocket_manager(c)",
    "unicode before": "async def f(c): é = 'ü😀'; return «await »get_websocket_manager(c) # ü😀",
    "right awaits stay": "async def f(c):\n    «await »get_websocket_manager(c)\n    await c\n    s = 'await get_websocket_manager(c)'\n",
    "outside a coroutine": "def f(c):\n    return «await »get_websocket_manager(c)\n",
    "a name": "async def f(c):\n    m = get_websocket_manager(c)\n    return «await »m\n",
    "wrapper": "def w(c): return get_websocket_manager(c)\nasync def f(c):\n    return «await »w(c)\n",
    "async with": "async def f(c):\n    async with «await »get_websocket_manager(c) as m: pass\n",
    "decorated": "@x\nasync def f(c, d=1, *, e: int = 2) -> None:\n    '''doc'''\n    «await »get_websocket_manager(c)\n",
    "arguments over lines": "async def f(c):\n    m = «await »get_websocket_manager(\n        c,  # the context\n        mode=None,\n    )\n",
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_only_the_await_goes(tmp_path: Path, case: str, end: str) -> None:
    old, new = both((IMPORT + CASES[case]).replace("\n", end))
    got, report = mend(tmp_path, old.encode())
    assert got.decode() == new
    assert all(finding.fixed for finding in report.findings)
    assert os.listdir(tmp_path).count("use.py") == 1
    assert sorted(os.listdir(tmp_path)) == ["app", "use.py"]


@pytest.mark.parametrize("case", CASES)
def test_a_second_fix_changes_nothing(tmp_path: Path, case: str) -> None:
    old, _ = both(IMPORT + CASES[case])
    once, _ = mend(tmp_path, old.encode())
    before = (tmp_path / "use.py").stat()
    twice, report = mend_again(tmp_path)
    assert twice == once
    assert (tmp_path / "use.py").stat().st_ino == before.st_ino
    assert report.findings == []


def mend_again(folder: Path) -> tuple[bytes, Report]:
    report = audit([folder], fix=True, diff=True)
    assert report.diffs == []
    return (folder / "use.py").read_bytes(), report


# -- any formatting, any encoding ------------------------------------------------------

_ENCODINGS = {
    "utf-8": ("", "é漢😀"),
    "utf-8-sig": ("", "é漢😀"),
    "latin-1": ("# -*- coding: latin-1 -*-\n", "éÿ\xa0"),
    "cp1251": ("# vim: set fileencoding=cp1251 :\n", "Жя"),
    "shift_jis": ("#!/usr/bin/env python\n# coding=shift_jis\n", "漢字ソ"),
    "utf-8 cookie": ("# coding: utf-8\n", "é漢😀"),
}


@st.composite
def formatted(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A file with wrong and right awaits in some formatting; its bytes before and after."""
    name = draw(st.sampled_from(sorted(_ENCODINGS)))
    head, odd = _ENCODINGS[name]
    blank = draw(st.sampled_from([" ", "  ", "\t", " \t ", "\f"]))
    indent = draw(st.sampled_from(["    ", "\t", " ", "  \t"]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    wrong = f"«await{blank}»get_websocket_manager"
    statements = [
        f"m = {wrong}(ctx)",
        f"m={wrong}( ctx ,mode = None )",
        f"return ({wrong}(ctx))",
        f"x = [{wrong}(ctx), await other(ctx)]",
        f"x = (\n\n{wrong}(\n  ctx,\n  # {odd}\n))",
        f"s = '{odd}'; m = {wrong}(ctx)  # {odd} await get_websocket_manager(ctx)",
        f"'''{odd}\nawait get_websocket_manager(ctx)\n'''",
        f"if {wrong}(ctx) : pass",
        f"m = «await{blank}»(get_websocket_manager(ctx))",
        f"m = {wrong}({wrong}(ctx))",
        "await other(ctx)",
        "\f# form feed",
        f"m = (lambda: 0) or {wrong}(ctx)",
        f"t = {wrong}\\\n (ctx)",
        f"# {odd}",
        "",
        "pass;",
    ]
    chosen = draw(st.lists(st.sampled_from(statements), min_size=1, max_size=8))
    body = "".join(indent + line + "\n" for line in chosen)
    text = (
        head
        + IMPORT
        + f"async def {draw(st.sampled_from(['f', 'g']))}(ctx, other):\n{body}{indent}pass"
    )
    text += draw(st.sampled_from(["\n", "", "\n\n\n", "\n# end"]))
    text = text.replace("\n", end)
    codec = name.partition(" ")[0]
    old, new = both(text)
    return old.encode(codec), new.encode(codec)


@given(formatted())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_other_byte_is_kept(case: tuple[bytes, bytes]) -> None:
    old, new = case
    with tempfile.TemporaryDirectory() as folder:
        got, report = mend(Path(folder), old)
        assert report.unparsed == []
        assert got == new
        again = audit([folder], fix=True)
        assert (Path(folder) / "use.py").read_bytes() == new
        assert again.findings == []


def test_bytes_that_do_not_come_back_are_refused(tmp_path: Path) -> None:
    # UTF-7 has many spellings of one text; the file's own would be lost.
    text = (
        b"# coding: utf-7\n"
        + IMPORT.encode()
        + b"async def f(c):\n    +AGE- = await get_websocket_manager(c)\n"
    )
    got, report = mend(tmp_path, text)
    assert got == text
    assert [finding.fixable for finding in report.findings] in ([False], [])


# -- refusals ----------------------------------------------------------------------------

REFUSED = {
    "given to a task": "import asyncio\nasync def f(c):\n    await asyncio.wait_for(get_websocket_manager(c), 1)\n",
    "one branch": "async def f(c, d):\n    await (get_websocket_manager(c) if c else d)\n",
    "another binding": "async def f(c, d):\n    m = get_websocket_manager(c)\n    if d:\n        m = d\n    await m\n",
    "expected": "async def f(c):\n    try:\n        await get_websocket_manager(c)\n    except TypeError:\n        pass\n",
    "not called": "async def f(c):\n    await get_websocket_manager\n",
    "does not compile anyway": "async def f(c):\n    await get_websocket_manager(c)\nreturn 1\n",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_sure_is_left_alone(tmp_path: Path, case: str) -> None:
    text = (IMPORT + REFUSED[case]).encode()
    got, report = mend(tmp_path, text)
    assert got == text
    assert report.findings
    assert not any(finding.fixable or finding.fixed for finding in report.findings)


def test_one_refusal_does_not_spoil_the_rest(tmp_path: Path) -> None:
    old, new = both(
        IMPORT + "async def f(c, d):\n    «await »get_websocket_manager(c)\n"
        "    await (get_websocket_manager(c) if c else d)\n"
    )
    got, report = mend(tmp_path, old.encode())
    assert got.decode() == new
    assert [finding.fixed for finding in report.findings] == [True, False]


def test_an_await_inside_an_f_string(tmp_path: Path) -> None:
    # Before 3.12 the parser does not say where exactly it is: either right or refused.
    old, new = both(
        IMPORT + "async def f(c):\n    return f'é {«await »get_websocket_manager(c)} {c}'\n"
    )
    got, report = mend(tmp_path, old.encode())
    assert got.decode() == (new if report.findings[0].fixed else old)
    assert report.findings[0].fixed or sys.version_info < (3, 12)


def test_a_wrong_edit_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the verification: an edit that takes too much is refused."""
    taken = fixing.drop_await

    def greedy(*args: object) -> list[fixing.Edit]:
        (edit,) = taken(*args)  # type: ignore[arg-type]
        return [edit._replace(end=edit.end + len("get_"))]

    monkeypatch.setattr(fixing, "drop_await", greedy)
    text = (IMPORT + CASES["plain"].replace("«", "").replace("»", "")).encode()
    got, report = mend(tmp_path, text)
    assert got == text
    assert [finding.fixable for finding in report.findings] == [False]


# -- writing -------------------------------------------------------------------------------

WRONG = (IMPORT + "async def f(c):\n    return await get_websocket_manager(c)\n").encode()


def test_mode_is_kept_and_links_stay_links(tmp_path: Path) -> None:
    grow(tmp_path, FACTORY)
    real = tmp_path / "elsewhere" / "real.py"
    real.parent.mkdir()
    real.write_bytes(WRONG)
    real.chmod(0o751)
    (tmp_path / "use.py").symlink_to(real)
    report = audit([tmp_path], fix=True)
    assert [finding.fixed for finding in report.findings] == [True]
    assert (tmp_path / "use.py").is_symlink()
    assert b"await" not in real.read_bytes()
    assert stat.S_IMODE(real.stat().st_mode) == 0o751
    assert os.listdir(real.parent) == ["real.py"]


def test_a_file_that_changes_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing = os.fsync

    def edit(handle: int) -> None:
        changing(handle)
        (tmp_path / "use.py").write_bytes(b"# edited by hand\n" + WRONG)

    monkeypatch.setattr(os, "fsync", edit)
    got, report = mend(tmp_path, WRONG)
    assert got == b"# edited by hand\n" + WRONG
    assert [reason for _, reason in report.failed] == [
        "cannot be written: the file has changed meanwhile"
    ]
    assert [finding.fixed for finding in report.findings] == [False]
    assert sorted(os.listdir(tmp_path)) == ["app", "use.py"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    got, report = mend(tmp_path, WRONG)
    assert got == WRONG
    assert report.failed[0][1] == "cannot be written: No space left on device"
    assert sorted(os.listdir(tmp_path)) == ["app", "use.py"]


def test_diff_without_fix_writes_nothing(tmp_path: Path) -> None:
    grow(tmp_path, FACTORY)
    (tmp_path / "use.py").write_bytes(WRONG.replace(b"\n", b"\r\n"))
    report = audit([tmp_path], diff=True)
    assert (tmp_path / "use.py").read_bytes() == WRONG.replace(b"\n", b"\r\n")
    assert [(finding.fixable, finding.fixed) for finding in report.findings] == [(True, False)]
    (text,) = report.diffs
    assert (
        "-    return await get_websocket_manager(c)\r\n+    return get_websocket_manager(c)\r\n"
        in text
    )


# -- the asynchronous style --------------------------------------------------------------------

ASYNC_CASES = {
    "only use": (
        "from app.sockets import get_websocket_manager\nasync def f(c):\n    await get_websocket_manager(c)\n",
        "from app.sockets import get_websocket_manager_async\nasync def f(c):\n    await get_websocket_manager_async(c)\n",
    ),
    "used elsewhere": (
        "from app.sockets import get_websocket_manager, x  # c\nget_websocket_manager(0)\n"
        "async def f(c):\n    await  get_websocket_manager( c )\n",
        "from app.sockets import get_websocket_manager, get_websocket_manager_async, x  # c\n"
        "get_websocket_manager(0)\nasync def f(c):\n    await  get_websocket_manager_async( c )\n",
    ),
    "already imported": (
        "from app.sockets import get_websocket_manager, get_websocket_manager_async\n"
        "async def f(c):\n    await get_websocket_manager(c)\n",
        "from app.sockets import get_websocket_manager, get_websocket_manager_async\n"
        "async def f(c):\n    await get_websocket_manager_async(c)\n",
    ),
    "alias": (
        "from app.sockets import (\n    get_websocket_manager as make,  # the factory\n)\n"
        "async def f(c):\n    await make(c)\n",
        "from app.sockets import (\n    get_websocket_manager_async as make_async,  # the factory\n)\n"
        "async def f(c):\n    await make_async(c)\n",
    ),
    "alias used elsewhere": (
        "from app.sockets import get_websocket_manager as make\nmake(1)\nasync def f(c):\n    await make(c)\n",
        "from app.sockets import get_websocket_manager as make, get_websocket_manager_async as make_async\n"
        "make(1)\nasync def f(c):\n    await make_async(c)\n",
    ),
    "module": (
        "import app.sockets as s\nasync def f(c):\n    await s.get_websocket_manager(c)\n",
        "import app.sockets as s\nasync def f(c):\n    await s.get_websocket_manager_async(c)\n",
    ),
    "whole path": (
        "import app.sockets\nasync def f(c):\n    await app.sockets.get_websocket_manager(c)\n",
        "import app.sockets\nasync def f(c):\n    await app.sockets.get_websocket_manager_async(c)\n",
    ),
    "given to asyncio": (
        "import asyncio\nfrom app.sockets import get_websocket_manager\nasync def f(c):\n"
        "    await asyncio.gather(*[get_websocket_manager(x) for x in c])\n"
        "    asyncio.create_task(get_websocket_manager(c))\n",
        "import asyncio\nfrom app.sockets import get_websocket_manager_async\nasync def f(c):\n"
        "    await asyncio.gather(*[get_websocket_manager_async(x) for x in c])\n"
        "    asyncio.create_task(get_websocket_manager_async(c))\n",
    ),
    "local import": (
        "async def f(c):\n    from app.sockets import get_websocket_manager\n    await get_websocket_manager(c)\n",
        "async def f(c):\n    from app.sockets import get_websocket_manager_async\n"
        "    await get_websocket_manager_async(c)\n",
    ),
    "wsmanager": (
        "from wsmanager import get_websocket_manager\nasync def f(c):\n    await get_websocket_manager(c)\n",
        "from wsmanager import get_websocket_manager_async\nasync def f(c):\n"
        "    await get_websocket_manager_async(c)\n",
    ),
    "conditional import": (
        "try:\n    from app.sockets import get_websocket_manager\nexcept ImportError:\n"
        "    from wsmanager import get_websocket_manager\n"
        "async def f(c):\n    await get_websocket_manager(c)\n",
        "try:\n    from app.sockets import get_websocket_manager_async\nexcept ImportError:\n"
        "    from wsmanager import get_websocket_manager_async\n"
        "async def f(c):\n    await get_websocket_manager_async(c)\n",
    ),
}


@pytest.mark.parametrize("case", ASYNC_CASES)
def test_async_style(tmp_path: Path, case: str) -> None:
    old, new = ASYNC_CASES[case]
    got, report = mend(tmp_path, old.encode(), "async")
    assert got.decode() == new
    assert all(finding.fixed for finding in report.findings)
    ast.parse(got)
    assert audit([tmp_path], ASYNC, fix=True).findings == []
    assert (tmp_path / "use.py").read_text() == new


ASYNC_REFUSED = {
    "wrapper": IMPORT + "def w(): return get_websocket_manager()\nasync def f():\n    await w()\n",
    "bound twice": "try:\n    " + IMPORT + "except ImportError:\n    get_websocket_manager = None\n"
    "async def f():\n    await get_websocket_manager()\n",
    "method": "class S:\n    def get_websocket_manager(self): return 1\n"
    "async def f():\n    await S().get_websocket_manager()\n",
    "no such function there": "from half import get_websocket_manager\n"
    "async def f():\n    await get_websocket_manager()\n",
}


@pytest.mark.parametrize("case", ASYNC_REFUSED)
def test_async_style_refuses(tmp_path: Path, case: str) -> None:
    (tmp_path / "half.py").write_text("def get_websocket_manager(ctx=None): return 1\n")
    text = ASYNC_REFUSED[case].encode()
    got, report = mend(tmp_path, text, "async")
    assert got == text
    assert [finding.rule for finding in report.findings] == ["WSM001"]
    assert not report.findings[0].fixable


def test_a_package_keeps_what_it_exports(tmp_path: Path) -> None:
    old = IMPORT + "async def f(c):\n    await get_websocket_manager(c)\n"
    (tmp_path / "pkg").mkdir()
    got, _ = mend(tmp_path, old.encode(), "async", "pkg/__init__.py")
    assert got.startswith(
        b"from app.sockets import get_websocket_manager, get_websocket_manager_async\n"
    )


def test_byte_order_mark_stays_one(tmp_path: Path) -> None:
    got, _ = mend(tmp_path, codecs.BOM_UTF8 + WRONG)
    assert got == codecs.BOM_UTF8 + WRONG.replace(b"await ", b"")

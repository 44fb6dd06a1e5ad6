"""``wsmanager shim``: legacy paths that hold wsmanager's objects, and the audit's word that one can go."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from audit_data.trees import check, grow

import wsmanager
from wsmanager import shim
from wsmanager.__main__ import main
from wsmanager._shims import HEADER
from wsmanager.audit import Settings, audit
from wsmanager.compat._deprecated import ALIASES
from wsmanager.shim.text import NAMES

PACKAGE = "old.app.websocket_core"
Captured = pytest.CaptureFixture[str]


def run(folder: Path, *arguments: str) -> int:
    try:
        return main(["shim", str(folder), "--package", PACKAGE, *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


def program(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    paths = [str(folder), *filter(None, sys.path)]
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# -- what is written -----------------------------------------------------------------


def test_the_default_modules(tmp_path: Path, capsys: Captured) -> None:
    assert run(tmp_path) == 0
    written = tree(tmp_path)
    assert set(written) == {
        "old/__init__.py",
        "old/app/__init__.py",
        "old/app/websocket_core/__init__.py",
        *(f"old/app/websocket_core/{name}.py" for name in shim.MODULES),
    }
    assert all(data.decode().startswith(HEADER) for data in written.values())
    assert len(capsys.readouterr().out.splitlines()) == len(written)


def test_a_second_run_changes_nothing(tmp_path: Path, capsys: Captured) -> None:
    run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.py")}
    capsys.readouterr()
    assert run(tmp_path) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.py")} == before
    lines = capsys.readouterr().out.splitlines()
    assert all(line.endswith("is as it should be") for line in lines)


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: Captured) -> None:
    assert run(tmp_path, "--dry-run") == 0
    assert tree(tmp_path) == {}
    assert "would be written" in capsys.readouterr().out


def test_more_modules_below_and_beside(tmp_path: Path) -> None:
    assert run(tmp_path, "--only", "--module", "sub.sockets", "--module", "old.agents.bridge") == 0
    assert set(tree(tmp_path)) == {
        "old/__init__.py",
        "old/agents/__init__.py",
        "old/agents/bridge.py",
        "old/app/__init__.py",
        "old/app/websocket_core/__init__.py",
        "old/app/websocket_core/sub/__init__.py",
        "old/app/websocket_core/sub/sockets.py",
    }


def test_an_older_shim_is_written_anew(tmp_path: Path, capsys: Captured) -> None:
    run(tmp_path)
    path = tmp_path / "old/app/websocket_core/manager.py"
    whole = path.read_bytes()
    path.write_text(f"{HEADER} An older one.\n")
    assert run(tmp_path) == 0
    assert path.read_bytes() == whole
    assert "manager.py written anew" in capsys.readouterr().out


# -- what is refused -------------------------------------------------------------------

OTHERS = "x = 1\n"


@pytest.fixture
def occupied(tmp_path: Path) -> Path:
    path = tmp_path / "old/app/websocket_core/manager.py"
    path.parent.mkdir(parents=True)
    path.write_text(OTHERS)
    return path


def test_somebody_elses_file_stops_everything(
    tmp_path: Path, occupied: Path, capsys: Captured
) -> None:
    assert run(tmp_path) == 1
    assert set(tree(tmp_path)) == {"old/app/websocket_core/manager.py"}
    assert occupied.read_text() == OTHERS
    out = capsys.readouterr().out
    assert "manager.py refused: it is there, and not written by wsmanager shim" in out
    assert out.endswith("writes the rest.\n")
    with pytest.raises(ValueError, match="not ours"):
        shim.write(shim.make_plan(tmp_path, PACKAGE))


def test_force_and_keep(tmp_path: Path, occupied: Path) -> None:
    assert run(tmp_path, "--keep") == 0
    assert occupied.read_text() == OTHERS
    assert (occupied.parent / "unified_manager.py").exists()
    assert run(tmp_path, "--force", "--dry-run") == 0
    assert occupied.read_text() == OTHERS
    assert run(tmp_path, "--force") == 0
    assert occupied.read_text().startswith(HEADER)
    assert run(tmp_path, "--force", "--keep") == 2


def test_an_empty_file_is_somebody_elses(tmp_path: Path, occupied: Path) -> None:
    occupied.write_text("")
    assert run(tmp_path) == 1


def test_existing_folders_stay_what_they_are(tmp_path: Path) -> None:
    """A folder without __init__ may be a namespace package: nothing is put into it."""
    (tmp_path / "old/app").mkdir(parents=True)
    assert run(tmp_path) == 0
    assert not (tmp_path / "old/__init__.py").exists()
    assert not (tmp_path / "old/app/__init__.py").exists()
    assert (tmp_path / "old/app/websocket_core/__init__.py").exists()


@pytest.mark.parametrize("force", [(), ("--force",), ("--keep",)])
def test_what_would_be_hidden_or_is_in_the_way(tmp_path: Path, force: tuple[str, ...]) -> None:
    (tmp_path / "old/app/websocket_core/manager").mkdir(parents=True)
    assert run(tmp_path, *force) == 1
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "old.py").write_text(OTHERS)
    assert run(tmp_path / "two", *force) == 1
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "old").write_text(OTHERS)
    assert run(tmp_path / "three", *force) == 1
    assert set(tree(tmp_path)) == {"two/old.py", "three/old"}


def test_a_link_is_followed_to_see_whose_it_is(tmp_path: Path, occupied: Path) -> None:
    target = tmp_path / "target.py"
    target.write_text(OTHERS)
    occupied.unlink()
    occupied.symlink_to(target)
    assert run(tmp_path) == 1
    assert run(tmp_path, "--force") == 0
    assert target.read_text() == OTHERS
    assert not occupied.is_symlink()


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere", "--package", "a.b"],
        [".", "--package", "a..b"],
        [".", "--package", "a.class"],
        [".", "--package", "a-b"],
        [".", "--package", ""],
        [".", "--package", "wsmanager.old"],
        [".", "--package", "json.old"],
        [".", "--package", "a", "--module", "b c"],
        ["."],
    ],
)
def test_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status: Any = main(["shim", *arguments])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert "Traceback" not in capsys.readouterr().err
    assert tree(tmp_path) == {}


# -- how it behaves -----------------------------------------------------------------------


def test_every_module_has_every_name_and_it_is_the_real_thing(tmp_path: Path) -> None:
    run(tmp_path)
    done = program(
        tmp_path,
        f"""
        import importlib, warnings
        import wsmanager, wsmanager.compat as compat
        warnings.simplefilter("ignore")
        for name in {["", *("." + name for name in shim.MODULES)]!r}:
            module = importlib.import_module({PACKAGE!r} + name)
            assert module.__all__ == {NAMES!r}
            for each in module.__all__:
                found = getattr(module, each)
                want = getattr(compat, each, None)
                want = getattr(wsmanager, each) if want is None else want
                assert found is want or found == want, (name, each)
            star = {{}}
            exec(f"from {{module.__name__}} import *", star)
            assert set(module.__all__) <= set(star)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert set(ALIASES) <= set(NAMES)
    assert {name for name in wsmanager.__all__ if name[0] != "_"} <= set(NAMES)


USE = """
    import warnings
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(SOURCE, "use.py", "exec"), {"__name__": "use"})
    for each in caught:
        print(each.filename, each.lineno, each.category.__name__, each.message)
    """

SOURCES = {
    f"from {PACKAGE}.manager import get_websocket_manager, IsolatedWebSocketManager": 1,
    f"import {PACKAGE}.manager\nimport {PACKAGE}.manager": 1,
    f"from {PACKAGE} import get_websocket_manager\nfrom {PACKAGE} import WebSocketManager": 1,
    f"from {PACKAGE} import manager": 1,
    f"import {PACKAGE}": 0,
    f"import {PACKAGE} as p\np.get_manager\np.create_manager": 1,
    f"from {PACKAGE}.manager import *\nfrom {PACKAGE}.unified_manager import *": 2,
}


@pytest.mark.parametrize("source", SOURCES)
def test_one_warning_a_path_where_it_is_first_imported(tmp_path: Path, source: str) -> None:
    run(tmp_path)
    done = program(tmp_path, f"SOURCE = {source!r}\n" + textwrap.dedent(USE), "-W", "error")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == SOURCES[source], lines
    for line in lines:
        assert line.startswith("use.py ")
        assert "DeprecationWarning old.app.websocket_core" in line


def test_names_that_are_not_there(tmp_path: Path) -> None:
    run(tmp_path)
    for where in (PACKAGE, PACKAGE + ".manager"):
        done = program(tmp_path, f"from {where} import create_test_user_context")
        assert done.returncode == 1
        assert "ImportError: cannot import name 'create_test_user_context'" in done.stderr


def test_a_code_base_switches_without_touching_its_call_sites(tmp_path: Path) -> None:
    run(tmp_path)
    done = program(
        tmp_path,
        f"""
        import asyncio
        from {PACKAGE} import create_websocket_manager, UserExecutionContext
        from {PACKAGE}.websocket_manager import get_websocket_manager, get_manager_registry_status
        from {PACKAGE}.unified_manager import _UnifiedWebSocketManagerImplementation
        from unittest.mock import patch

        async def handler():
            context = UserExecutionContext.from_request("ann", "thread", "run")
            manager = await create_websocket_manager(context)
            assert manager is get_websocket_manager(user_context=context)
            assert isinstance(manager, _UnifiedWebSocketManagerImplementation)
            return (await get_manager_registry_status())["total_registered_managers"]

        assert asyncio.run(handler()) == 1
        with patch("{PACKAGE}.websocket_manager.get_websocket_manager", lambda: 5):
            import {PACKAGE}.websocket_manager as module
            assert module.get_websocket_manager() == 5
        """,
    )
    assert done.returncode == 0, done.stderr


def test_type_checkers_see_the_real_types(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "use.py").write_text(
        f"from {PACKAGE} import get_websocket_manager, get_manager\n"
        f"from {PACKAGE}.manager import IsolatedWebSocketManager, create_websocket_manager\n"
        "from wsmanager import UnifiedWebSocketManager\n"
        "a: UnifiedWebSocketManager = get_websocket_manager('ann')\n"
        "b: IsolatedWebSocketManager = get_manager('ann')\n"
        "async def f() -> UnifiedWebSocketManager:\n"
        "    return await create_websocket_manager('ann')\n"
        "wrong: int = get_websocket_manager('ann')\n"
    )
    environment = dict(os.environ)
    folder = Path(wsmanager.__file__).parents[1]
    if folder.name != "site-packages":  # where mypy looks without being told
        environment["MYPYPATH"] = str(folder)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-error-summary",
            "--cache-dir",
            os.devnull,
            "use.py",
        ],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    lines = done.stdout.splitlines()
    assert [line.split(":")[:2] for line in lines] == [["use.py", "8"]], done.stdout + done.stderr


# -- when one can go (WSM011) -----------------------------------------------------------------

ONLY = Settings(select=frozenset({"WSM011"}))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two shims, a project around them, and nothing that imports them."""
    (tmp_path / "pyproject.toml").write_text("")
    assert run(tmp_path, "--only", "--module", "sockets", "--module", "hub") == 0
    (tmp_path / "use.py").write_text("x = 1\n")
    return tmp_path


def idle(folder: Path, *paths: str) -> set[str]:
    report = audit([folder / path for path in paths] or [folder], ONLY)
    assert {finding.line for finding in report.findings} <= {1}
    return {Path(f.path).relative_to(folder / "old").as_posix() for f in report.findings}


ALL = {
    "__init__.py", "app/__init__.py", "app/websocket_core/__init__.py",
    "app/websocket_core/hub.py", "app/websocket_core/sockets.py",
}  # fmt: skip
HUB = {"app/websocket_core/hub.py"}

IMPORTERS = {
    "x = 1": ALL,
    f"from {PACKAGE}.sockets import get_websocket_manager": HUB,
    f"import {PACKAGE}.sockets as s": HUB,
    f"from {PACKAGE} import sockets": HUB,
    f"def f():\n    from {PACKAGE}.sockets import get_manager": HUB,
    f"import importlib\nm = importlib.import_module('{PACKAGE}.sockets')": HUB,
    f"patch('{PACKAGE}.sockets.get_websocket_manager')": HUB,
    f"from {PACKAGE}.sockets import (": HUB,  # does not parse: all that it mentions is imported
    f"from {PACKAGE} import get_websocket_manager": HUB | {"app/websocket_core/sockets.py"},
    f"# from {PACKAGE}.sockets import x": ALL,
    "from elsewhere.sockets import get_manager": ALL,
}


@pytest.mark.parametrize("source", IMPORTERS)
def test_what_can_go(project: Path, source: str) -> None:
    (project / "use.py").write_text(source + "\n")
    assert idle(project) == IMPORTERS[source]


def test_a_module_taken_from_its_package_counts(tmp_path: Path) -> None:
    """Also where the package is found nowhere: outside of the folder that has it."""
    (tmp_path / "pyproject.toml").write_text("")
    folder = tmp_path / "old"
    folder.mkdir()
    assert main(["shim", str(folder), "--package", "app.sockets", "--only"]) == 0
    (tmp_path / "use.py").write_text("from app import sockets\n")
    assert idle(tmp_path) == set()


def test_relative_imports_count(project: Path) -> None:
    (project / "old/app/code.py").write_text("from .websocket_core.hub import get_manager\n")
    assert idle(project) == {"app/websocket_core/sockets.py"}


def test_a_package_stays_with_what_else_is_in_it(project: Path) -> None:
    (project / "old/app/script.py").write_text("x = 1\n")
    assert idle(project) == ALL - {"__init__.py", "app/__init__.py"}


def test_a_part_of_the_project_says_nothing(project: Path) -> None:
    (project / "use.py").write_text(f"import {PACKAGE}.sockets\n")
    assert idle(project, "old") == set()
    assert idle(project, "old/app/websocket_core/hub.py") == set()
    assert idle(project, ".") == HUB


def test_the_finding(project: Path, capsys: Captured) -> None:
    assert main(["audit", str(project), "--select", "WSM011", "-q"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(ALL)
    assert all(":1:1: WSM011 nothing in the audited tree imports" in line for line in lines)
    assert main(["audit", str(project), "--ignore", "WSM011"]) == 0


def test_removing_what_can_go_breaks_nothing(project: Path) -> None:
    (project / "use.py").write_text(
        f"from {PACKAGE}.sockets import get_websocket_manager as g\ng('ann')\n"
    )
    for name in idle(project):
        (project / "old" / name).unlink()
    assert idle(project) == set()
    done = program(project, "import use")
    assert done.returncode == 0, done.stderr


def test_the_audit_sees_through_a_shim(tmp_path: Path) -> None:
    run(tmp_path)
    shims = "".join(f"=== {name}\n{data.decode()}" for name, data in tree(tmp_path).items())
    grow(tmp_path, "=== pyproject.toml\n")
    check(
        tmp_path,
        shims
        + f"""
=== use.py
from {PACKAGE}.manager import get_websocket_manager as make, create_websocket_manager
from {PACKAGE} import get_websocket_manager_async
async def f(ctx):
    await make(ctx)  # ! WSM001 fixable
    await create_websocket_manager(ctx)
    await get_websocket_manager_async(ctx)
    get_websocket_manager_async(ctx)  # ! WSM002
""",
        "WSM001 WSM002 WSM003 WSM004 WSM008 WSM010",
    )

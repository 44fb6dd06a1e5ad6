"""The command line: formats, exit statuses, comments, configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from audit_data.trees import FACTORY, grow

from wsmanager.__main__ import main
from wsmanager.audit.rules import RULES

WRONG = """
=== use.py
from app.sockets import get_websocket_manager
async def f(ctx):
    return await get_websocket_manager(ctx)
"""

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with one wrong await, as the working directory."""
    grow(tmp_path, FACTORY + WRONG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    """The exit status of the command, also where argparse itself ends the program."""
    try:
        return main(["audit", *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


# -- exit status ---------------------------------------------------------------------


def test_status_tells_findings_from_none_and_from_misuse(tree: Path, capsys: Captured) -> None:
    assert run(".") == 1
    assert run("app") == 0
    assert run("nowhere") == 2
    assert run() == 2
    assert run(".", "--select", "NOPE") == 2
    assert run(".", "--format", "xml") == 2
    assert run(".", "--jobs", "0") == 2
    assert run("--explain", "WSM999") == 2
    assert run(".", "--config", "nowhere.toml") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_information_alone_is_no_failure(tree: Path, capsys: Captured) -> None:
    (tree / "use.py").write_text(
        "from app.sockets import get_websocket_manager\nasync def f():\n"
        "    try:\n        await get_websocket_manager()\n    except TypeError:\n        pass\n"
    )
    assert run(".") == 0
    assert "WSM009" in capsys.readouterr().out
    assert run(".", "-q") == 0
    assert capsys.readouterr().out == ""


def test_fixing_everything_is_success(tree: Path, capsys: Captured) -> None:
    assert run(".", "--fix") == 0
    assert "[fixed]" in capsys.readouterr().out
    assert "await" not in (tree / "use.py").read_text()
    assert run(".") == 0


# -- formats ------------------------------------------------------------------------


def test_text(tree: Path, capsys: Captured) -> None:
    run(".")
    first, last = capsys.readouterr().out.splitlines()
    assert first == (
        "use.py:3:12: WSM001 get_websocket_manager(...) is awaited, but get_websocket_manager() "
        "(app/sockets.py:1) is synchronous [fixable]"
    )
    assert last.startswith("1 finding in 3 files: WSM001 1; 1 fixable.")


def test_text_cannot_be_forged_by_a_file_name(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "a\n\x1b[31mb.py").write_text(
        "from s import get_websocket_manager as g\nasync def f(): await g()\n"
    )
    assert run(str(tmp_path), "-q") == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert r"a\n\x1b[31mb.py" in line


def test_json(tree: Path, capsys: Captured) -> None:
    (tree / "broken.py").write_text("def f(:\n")
    run(".", "--format", "json")
    document = json.loads(capsys.readouterr().out)
    (finding,) = document["findings"]
    assert finding == {
        "rule": "WSM001",
        "path": "use.py",
        "line": 3,
        "column": 12,
        "end_line": 3,
        "end_column": 44,
        "message": finding["message"],
        "fixable": True,
        "fixed": False,
    }
    summary = document["summary"]
    assert summary["files"] == 4
    assert summary["unparsed"] == [
        {"path": "broken.py", "line": 1, "reason": summary["unparsed"][0]["reason"]}
    ]
    assert summary["by_rule"] == {"WSM001": 1}
    assert summary["seconds"] >= 0


def test_json_after_a_fix(tree: Path, capsys: Captured) -> None:
    assert run(".", "--format", "json", "--fix", "--diff") == 0
    captured = capsys.readouterr()
    (finding,) = json.loads(captured.out)["findings"]
    assert (finding["fixable"], finding["fixed"]) == (True, True)
    assert "-    return await get_websocket_manager(ctx)" in captured.err


def test_columns_count_characters(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "use.py").write_text(
        "from s import get_websocket_manager as g\nasync def f(): x = 'é😀'; await g()\n",
        encoding="utf-8",
    )
    run(str(tmp_path), "--format", "json")
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["column"], finding["end_column"]) == (26, 35)


def test_github(tree: Path, capsys: Captured) -> None:
    (tree / "a,b:c%d.py").write_text((tree / "use.py").read_text())
    (tree / "broken.py").write_text("def f(:\n")
    assert run(".", "--format", "github") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "::error file=a%2Cb%3Ac%25d.py,line=3,col=12,endLine=3,endColumn=44,"
        "title=WSM001 sync-factory-awaited::get_websocket_manager(...) is awaited"
    )
    assert lines[-1].startswith("::notice file=broken.py,line=1,title=not audited::syntax error")
    assert len(lines) == 3


def test_sarif(tree: Path, capsys: Captured) -> None:
    (tree / "broken.py").write_text("def f(:\n")
    assert run(".", "--format", "sarif") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["version"] == "2.1.0"
    assert document["$schema"].endswith("sarif-2.1.0.json")
    (log,) = document["runs"]
    driver = log["tool"]["driver"]
    assert [rule["id"] for rule in driver["rules"]] == list(RULES)
    assert all(
        rule["defaultConfiguration"]["level"] in ("error", "warning", "note")
        for rule in driver["rules"]
    )
    (result,) = log["results"]
    assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "WSM001"
    location = result["locations"][0]["physicalLocation"]
    assert location["artifactLocation"] == {"uri": "use.py"}
    assert location["region"] == {"startLine": 3, "startColumn": 12, "endLine": 3, "endColumn": 44}
    assert len(result["partialFingerprints"]["wsmanager/v1"]) == 64
    (notification,) = log["invocations"][0]["toolExecutionNotifications"]
    assert "syntax error" in notification["message"]["text"]


def test_diff_alone_is_a_dry_run(tree: Path, capsys: Captured) -> None:
    before = (tree / "use.py").read_bytes()
    assert run(".", "--diff") == 1
    out = capsys.readouterr().out
    assert "--- a/use.py\n+++ b/use.py\n" in out
    assert "+    return get_websocket_manager(ctx)\n" in out
    assert (tree / "use.py").read_bytes() == before


def test_fix_style(tree: Path) -> None:
    assert run(".", "--fix", "--fix-style", "async") == 0
    assert "await get_websocket_manager_async(ctx)" in (tree / "use.py").read_text()


@pytest.mark.parametrize("rule", RULES)
def test_explain(rule: str, capsys: Captured) -> None:
    assert run("--explain", rule.lower()) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{rule} ")
    assert len(out.splitlines()) > 4


def test_version(capsys: Captured) -> None:
    import wsmanager

    assert run("--version") == 0
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"wsmanager {wsmanager.__version__}\n" * 2


def test_no_command_and_an_unknown_one(capsys: Captured) -> None:
    for arguments in ([], ["nonsense"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
    assert "audit" in capsys.readouterr().err


# -- comments -----------------------------------------------------------------------

COMMENTS = {
    "# noqa: WSM001": True,
    "# noqa:WSM001": True,
    "# NOQA : wsm001": True,
    "# noqa: F401, WSM001": True,
    "# noqa: F401 WSM001 - the reason": True,
    "# type: ignore # noqa: WSM001": True,
    "# noqa": True,
    "# noqa: WSM002": False,
    "# noqa: F401": False,
    "# WSM001": False,
}


@pytest.mark.parametrize("comment", COMMENTS)
def test_noqa(tree: Path, comment: str, capsys: Captured) -> None:
    path = tree / "use.py"
    path.write_text(path.read_text().rstrip("\n") + f"  {comment}\n")
    assert run(".", "--format", "json") == (0 if COMMENTS[comment] else 1)
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert summary["suppressed"] == int(COMMENTS[comment])
    before = path.read_text()
    run(".", "--fix")
    assert (path.read_text() == before) is COMMENTS[comment]


def test_noqa_on_any_line_of_the_await(tree: Path) -> None:
    (tree / "use.py").write_text(
        "from app.sockets import get_websocket_manager\nasync def f(ctx):\n"
        "    m = await get_websocket_manager(\n        ctx,  # noqa: WSM001\n    )\n"
    )
    assert run(".") == 0


# -- choosing ------------------------------------------------------------------------


def test_select_and_ignore(tree: Path) -> None:
    assert run(".", "--select", "WSM002,WSM003") == 0
    assert run(".", "--select", "wsm00") == 1
    assert run(".", "--select", "WSM002", "--select", "WSM001") == 1
    assert run(".", "--ignore", "WSM001") == 0
    assert run(".", "--select", "ALL", "--ignore", "WSM002") == 1
    assert run(".", "--exclude", "use.py") == 0


def configure(tree: Path, text: str) -> None:
    (tree / "pyproject.toml").write_text(text)


needs_toml = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Python 3.10 reads TOML only with the package tomli"
)

CONFIGURATIONS: dict[str, tuple[str, int]] = {
    "no table of ours": ("[tool.other]\nkey = 1\n", 1),
    "ignore": ('[tool.wsmanager]\nignore = ["WSM001"]\n', 0),
    "select": ('[tool.wsmanager]\nselect = ["WSM003", "WSM004"]\n', 0),
    "exclude": ('[tool.wsmanager]\nexclude = ["use.py"]\n', 0),
    "per file": ('[tool.wsmanager.per-file-ignores]\n"use.py" = ["WSM001"]\n', 0),
    "per other file": ('[tool.wsmanager.per-file-ignores]\n"tests/*" = ["WSM001"]\n', 1),
    "factories": ('[tool.wsmanager]\nselect = ["WSM001"]\nfactories = ["another_factory"]\n', 0),
    "a table of another command": ("[tool.wsmanager.doctor]\nstrict = true\n", 1),
    "unknown key": ('[tool.wsmanager]\nfactorys = ["x"]\n', 2),
    "unknown rule": ('[tool.wsmanager]\nignore = ["WSM099"]\n', 2),
    "wrong type": ("[tool.wsmanager]\nexclude = 3\n", 2),
    "not a name": ('[tool.wsmanager]\nfactories = ["a-b"]\n', 2),
    "wrong style": ('[tool.wsmanager]\nfix-style = "both"\n', 2),
    "broken": ("[tool.wsmanager\n", 2),
}


@needs_toml
@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_configuration(tree: Path, case: str, capsys: Captured) -> None:
    text, status = CONFIGURATIONS[case]
    configure(tree, text)
    assert run(".") == status
    if status == 2:
        assert "pyproject.toml" in capsys.readouterr().err


@needs_toml
def test_the_command_line_wins(tree: Path) -> None:
    configure(tree, '[tool.wsmanager]\nselect = ["WSM002"]\nfix-style = "async"\n')
    assert run(".") == 0
    assert run(".", "--select", "WSM001", "--fix") == 0
    assert "get_websocket_manager_async" in (tree / "use.py").read_text()


@needs_toml
def test_the_nearest_configuration_counts(tree: Path) -> None:
    configure(tree, '[tool.wsmanager]\nignore = ["WSM001"]\n')
    (tree / "sub").mkdir()
    (tree / "sub" / "use.py").write_text((tree / "use.py").read_text())
    assert run("sub") == 0
    configure(tree / "sub", "")
    assert run("sub") == 1
    assert run("sub", "--config", "pyproject.toml") == 0


@needs_toml
def test_a_misspelt_key_is_suggested(tree: Path, capsys: Captured) -> None:
    configure(tree, "[tool.wsmanager]\nexcludes = []\n")
    assert run(".") == 2
    assert "did you mean 'exclude'?" in capsys.readouterr().err


def test_without_a_toml_reader(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def missing() -> Any:
        raise ImportError("no tomli")

    monkeypatch.setattr("wsmanager.audit.settings._toml", missing)
    configure(tree, "[project]\nname = 'wsmanager-user'\n")
    assert run(".") == 1
    configure(tree, "[tool.wsmanager]\nignore = ['WSM001']\n")
    assert run(".") == 2
    assert "pip install tomli" in capsys.readouterr().err


# -- as a program -----------------------------------------------------------------------


def program(*arguments: str, cwd: Path, **words: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wsmanager", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **words,
    )


def test_as_a_program(tree: Path) -> None:
    done = program("audit", "use.py", cwd=tree)
    assert (done.returncode, done.stderr) == (1, "")
    assert "WSM001" in done.stdout


def test_a_terminal_that_cannot_show_a_name(tree: Path) -> None:
    os.rename(tree / "use.py", tree / "é\udcff.py")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for form in ("text", "json", "github", "sarif"):
        done = program("audit", ".", "--format", form, cwd=tree, env=environment)
        assert (done.returncode, done.stderr) == (1, ""), form
        assert "WSM001" in done.stdout


def test_output_into_a_pipe_that_closes(tree: Path) -> None:
    for number in range(300):
        (tree / f"use{number}.py").write_text((tree / "use.py").read_text())
    with subprocess.Popen(
        [sys.executable, "-m", "wsmanager", "audit", "."],
        cwd=tree,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141


def test_progress_is_for_terminals_only(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    run(".")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    run(".")
    err = capsys.readouterr().err
    assert "3 of 3 files" in err
    assert err.endswith("\r")
    run(".", "-q")
    assert capsys.readouterr().err == ""


def test_the_hook_runs_the_command() -> None:
    text = (Path(__file__).parent.parent / ".pre-commit-hooks.yaml").read_text()
    assert "id: wsmanager-audit\n" in text
    assert "entry: wsmanager audit" in text

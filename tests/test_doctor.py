"""``wsmanager doctor``: each trap is found where it is planted, and nowhere else."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest

import wsmanager
from wsmanager import get_manager_registry_status
from wsmanager.__main__ import main
from wsmanager.doctor import (
    CHECKS,
    Finding,
    channels,
    deflate,
    encoder,
    examine,
    installs,
    interpreter,
    libraries,
    servers,
    stale,
    workers,
)

PROJECT = Path(__file__).resolve().parents[1]
Captured = pytest.CaptureFixture[str]


def ids(found: Any, *severities: str) -> list[str]:
    return [f.id for f in found if f.severity in (severities or ("error", "warning"))]


# -- all together --------------------------------------------------------------------


def test_this_environment_has_nothing_to_do() -> None:
    """The control of everything below: with nothing planted nothing is found."""
    found = examine(skip={"installs"}, environment={}, connections=100)
    assert ids(found) == [], [finding.message for finding in found]
    assert {"python", "uvicorn", "encoder", "channel-uvicorn", "channel-aiohttp"} <= set(
        ids(found, "info")
    )


def test_findings_are_fit_to_print() -> None:
    for finding in examine(skip={"channels"}, environment={"WEB_CONCURRENCY": "4"}):
        assert re.fullmatch(r"[a-z][a-z0-9-]+", finding.id)
        assert finding.severity in ("error", "warning", "info")
        assert "\n" not in finding.message + finding.remedy
        assert finding.remedy or not finding.counts
        json.dumps(finding.details)


async def test_inside_an_application() -> None:
    found = await asyncio.to_thread(examine, skip={"installs"}, environment={})
    assert ids(found) == []


def test_an_unknown_check_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        examine(skip={"nonsense"})


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (logging.getLogger("uvicorn").handlers[:], logging.getLogger("uvicorn").level)
    list(channels.check())
    assert get_manager_registry_status()["total_connections"] == 0
    assert (logging.getLogger("uvicorn").handlers[:], logging.getLogger("uvicorn").level) == before


# -- the command ------------------------------------------------------------------------


def run(*arguments: str) -> int:
    try:
        return main(["doctor", *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)


FEW = ("--skip", "channels", "--skip", "installs", "--skip", "servers", "--skip", "deflate")


def test_exit_status(monkeypatch: pytest.MonkeyPatch, capsys: Captured, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("WEB_CONCURRENCY", "UVICORN_WORKERS", "GUNICORN_CMD_ARGS"):
        monkeypatch.delenv(name, raising=False)
    assert run(*FEW) == 0
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    assert run(*FEW) == 1
    assert run(*FEW, "--ignore", "workers-several") == 0
    assert run(*FEW, "--skip", "workers") == 0
    assert run("nowhere", *FEW) == 2
    assert run("--skip", "nonsense") == 2
    assert run("--connections", "-1") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_text_and_json(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    assert run(*FEW) == 1
    out = capsys.readouterr().out
    assert re.search(r"^warning workers-several: WEB_CONCURRENCY asks for 4", out, re.M)
    assert out.endswith("0 errors, 1 warnings.\n")
    assert run(*FEW, "-q") == 1
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert run(*FEW, "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["wsmanager"] == wsmanager.__version__
    assert document["summary"]["warning"] == 1
    (finding,) = [f for f in document["findings"] if f["severity"] == "warning"]
    assert set(finding) == {"id", "severity", "message", "remedy", "details"}
    assert finding["details"] == {"workers": 4, "where": "WEB_CONCURRENCY"}


def test_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wsmanager", "doctor", "--json", "--skip", "installs"],
        capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "WEB_CONCURRENCY": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert {"channel-websockets", "python"} <= {
        f["id"] for f in json.loads(done.stdout)["findings"]
    }


# -- installs -------------------------------------------------------------------------------


def elsewhere(folder: Path, path: list[Path]) -> list[dict[str, Any]]:
    """The findings of the check of installs in a process of its own, with *path* behind ours."""
    script = """
        import json, sys
        sys.path += sys.argv[1:]
        from wsmanager.doctor import installs
        print(json.dumps([[f.id, f.severity, f.details] for f in installs.check()]))
        """
    file = (
        folder / "scripts" / "look.py"
    )  # not -c: with it the working folder comes first on the path
    file.parent.mkdir(exist_ok=True)
    file.write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, str(file), *map(str, path)],
        capture_output=True, text=True, timeout=60, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [{"id": i, "severity": s, "details": d} for i, s, d in json.loads(done.stdout)]


def planted(found: list[dict[str, Any]], folder: Path) -> set[str]:
    """The ids of findings about something below *folder*."""
    return {f["id"] for f in found if str(folder) in json.dumps(f["details"])}


def test_one_install(tmp_path: Path) -> None:
    found = elsewhere(tmp_path, [])
    assert found[0]["details"]["path"] == os.path.realpath(Path(wsmanager.__file__).parent)
    assert planted(found, tmp_path) == set()


def test_a_tree_without_a_core(tmp_path: Path) -> None:
    (tmp_path / "wsmanager").mkdir()
    assert planted(elsewhere(tmp_path, []), tmp_path) == set()  # no package: not importable
    (tmp_path / "wsmanager" / "__init__.py").write_text("")
    assert "install-without-core" in planted(elsewhere(tmp_path, []), tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    assert "install-without-core" in planted(elsewhere(other, [tmp_path]), tmp_path)


def test_two_installs(tmp_path: Path) -> None:
    shutil.copytree(
        Path(wsmanager.__file__).parent,
        tmp_path / "wsmanager",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    assert planted(elsewhere(tmp_path, [tmp_path]), tmp_path) == {"install-duplicate"}


def metadata(folder: Path, version: str) -> Path:
    info = folder / f"wsmanager-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: wsmanager\nVersion: {version}\n")
    return folder


def test_metadata_of_another_version_and_twice(tmp_path: Path) -> None:
    one = metadata(tmp_path / "one", "9.9")
    found = elsewhere(tmp_path, [one])
    assert "install-version" in {f["id"] for f in found}
    two = metadata(tmp_path / "two", wsmanager.__version__)
    found = elsewhere(tmp_path, [one, two])
    assert "install-metadata-duplicate" in planted(found, tmp_path)
    assert installs.has_core(os.path.dirname(wsmanager.__file__))


# -- the interpreter ----------------------------------------------------------------------------


def test_the_state_of_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "gil-back" not in ids(interpreter.check())
    monkeypatch.setattr(interpreter.sysconfig, "get_config_var", lambda name: 1)
    monkeypatch.setattr(interpreter, "gil_enabled", lambda: True)
    assert ids(interpreter.check()) == ["gil-back"]
    monkeypatch.setattr(interpreter, "gil_enabled", lambda: False)
    found = list(interpreter.check())
    assert ids(found) == []
    assert "free-threaded build, GIL off" in found[0].message


def test_uvloop_there_and_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "installed", lambda name: None)
    assert "not installed" in list(interpreter.check())[-1].message
    monkeypatch.setattr(interpreter, "installed", lambda name: "0.23.0")
    assert "0.23.0" in list(interpreter.check())[-1].message


# -- uvicorn ----------------------------------------------------------------------------------------

FLOW: dict[tuple[str, str, bool | None], bool] = {
    ("0.49.0", "auto", None): False,
    ("0.50.0", "auto", None): True,
    ("0.51.0", "auto", False): True,
    ("0.52.0", "auto", None): True,
    ("0.52.0", "auto", True): False,  # patched by who packages it
    ("0.52.1", "auto", None): False,
    ("0.54.0", "auto", True): False,
    ("0.51.0", "websockets", False): False,
    ("0.51.0", "wsproto", False): False,
    ("0.49.0", "websockets-sansio", False): True,
    ("0.49.0", "auto", False): False,
    ("0.51.0", "wsmanager.uvicorn:WebSocketProtocol", False): True,
}


@pytest.mark.parametrize("case", FLOW)
def test_flow_control(case: tuple[str, str, bool | None]) -> None:
    found = list(servers.flow_control(*case))
    assert ids(found) == (["uvicorn-flow-control"] if FLOW[case] else [])


def test_flow_control_is_asked_of_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    assert servers.has_flow_control() is True
    monkeypatch.delattr(WebSocketsSansIOProtocol, "pause_writing")
    assert hasattr(WebSocketsSansIOProtocol, "pause_writing"), "asyncio's, which does nothing"
    assert servers.has_flow_control() is False
    assert ids(servers.check({})) == ["uvicorn-flow-control"]
    monkeypatch.setattr(servers, "_PROTOCOL", "nowhere")
    assert servers.has_flow_control() is None


def test_other_traps_of_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    def versions(**known: str) -> None:
        monkeypatch.setattr(servers, "installed", known.get)

    versions()
    assert ids(servers.check({}), "info") == ["uvicorn"]
    versions(uvicorn="0.43.0", websockets="16")
    assert ids(servers.check({})) == []
    assert ids(servers.check({"UVICORN_WS": "wsmanager.uvicorn:WebSocketProtocol"})) == [
        "uvicorn-old"
    ]
    versions(uvicorn="0.54.0")
    assert ids(servers.check({})) == ["uvicorn-without-websockets"]


# -- workers -------------------------------------------------------------------------------------------

WORKERS: list[tuple[dict[str, str], str, int]] = [
    ({}, "", 0),
    ({"WEB_CONCURRENCY": "1"}, "", 0),
    ({"WEB_CONCURRENCY": "4"}, "", 4),
    ({"WEB_CONCURRENCY": "many"}, "", 0),
    ({"UVICORN_WORKERS": "2"}, "", 2),
    ({"WEB_CONCURRENCY": "1", "UVICORN_WORKERS": "3"}, "", 3),
    ({"GUNICORN_CMD_ARGS": "--bind=127.0.0.1 -w 3"}, "", 3),
    ({"GUNICORN_CMD_ARGS": "--workers=5 --preload"}, "", 5),
    ({"GUNICORN_CMD_ARGS": "-w1"}, "", 0),
    ({"GUNICORN_CMD_ARGS": "--workers"}, "", 0),
    ({"GUNICORN_CMD_ARGS": "'unclosed"}, "", 0),
    ({}, "workers = 3\n", 3),
    ({}, "workers = 1\n", 0),
    ({}, "workers = True\n", os.cpu_count() or 1),
    ({}, "import os\nworkers = os.cpu_count() + 1\n", os.cpu_count() or 1),
    ({}, "workers = (\n", 0),
    ({}, "threads = 4\n", 0),
]


@pytest.mark.parametrize("number", range(len(WORKERS)))
def test_workers(tmp_path: Path, number: int) -> None:
    environment, text, expected = WORKERS[number]
    if text:
        (tmp_path / "gunicorn.conf.py").write_text(text)
    found = list(workers.check(environment, str(tmp_path)))
    if expected > 1:
        assert ids(found, "warning", "info") == ["workers-several", "workers-metrics"]
        assert found[0].details["workers"] == expected
    else:
        assert found == []


def test_workers_with_shared_metrics() -> None:
    environment = {"WEB_CONCURRENCY": "4", "PROMETHEUS_MULTIPROC_DIR": "/run/metrics"}
    assert ids(workers.check(environment, "."), "warning", "info") == ["workers-several"]


def test_the_remedy_for_workers_is_one_that_there_is() -> None:
    (found, _) = workers.check({"WEB_CONCURRENCY": "4"}, ".")
    assert "run one process" in found.remedy
    for name in re.findall(r"(\w+)=", found.remedy):
        assert name in wsmanager.get_config()
    for name in re.findall(r"[A-Z]\w+", found.remedy):
        assert hasattr(wsmanager, name)


# -- memory of compression -----------------------------------------------------------------------------


@pytest.mark.parametrize("settings", deflate.DEFAULTS, ids=lambda settings: settings.library)
def test_the_estimate_is_what_zlib_takes(settings: deflate.Settings) -> None:
    data = os.urandom(1 << 16)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        compress = zlib.compressobj(wbits=-settings.window, memLevel=settings.memory)
        decompress = zlib.decompressobj(wbits=-settings.window)
        sent = compress.compress(data) + compress.flush(zlib.Z_SYNC_FLUSH)
        received = len(decompress.decompress(sent))
        del sent
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert received == len(data)
    assert 0.8 < taken / settings.bytes < 1.2


def test_too_many_connections_for_the_memory() -> None:
    settings = deflate.DEFAULTS[0]
    few, many, unknown = (
        deflate.estimate(settings, *case)
        for case in ((10, 1 << 30), (10_000, 1 << 30), (10**9, None))
    )
    assert ids([few, many, unknown]) == ["deflate-uvicorn"]
    assert many.remedy
    assert not few.remedy
    assert ids(deflate.check({}, 10**9)) == [
        "deflate-uvicorn",
        "deflate-websockets",
        "deflate-aiohttp",
    ]
    assert "deflate-uvicorn" not in ids(
        deflate.check({"UVICORN_WS_PER_MESSAGE_DEFLATE": "False"}, 10**9)
    )


# -- libraries and the encoder ----------------------------------------------------------------------------


def test_versions_against_their_ranges() -> None:
    def severity(version: str) -> str:
        return libraries.compare("fastlib", version, "fast", "5.0.3", "9").severity

    assert [severity(v) for v in ("5.0.3", "5.0.10", "8.1.0", "8", "8.99rc1")] == ["info"] * 5
    assert [severity(v) for v in ("5.0.2", "4.6", "9", "9.0.0b1", "10.1")] == ["warning"] * 5


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_the_ranges_are_those_of_the_extras() -> None:
    import tomllib

    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for name, (extra, oldest, beyond) in libraries.RANGES.items():
        (wanted,) = [each for each in extras[extra] if re.match(rf"{name}\W", each)]
        found = re.fullmatch(r"[\w-]+>=([\d.]+),<([\d.]+)", wanted)
        assert found is not None
        assert found.groups() == (oldest, beyond)


def test_the_slow_encoder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = encoder.check()
    assert found.details["encoder"] in ("msgspec", "orjson", "json")
    monkeypatch.setattr(encoder, "ENCODER", "json")
    (found,) = encoder.check()
    assert "wsmanager[fast]" in found.remedy


# -- channels -----------------------------------------------------------------------------------------------


def by_id(found: Any) -> dict[str, Finding]:
    return {finding.id: finding for finding in found}


def test_channels_are_really_tried() -> None:
    found = by_id(channels.check())
    assert {id: finding.details["channel"] for id, finding in found.items()} == {
        "channel-uvicorn": "generic",
        "channel-uvicorn-direct": "direct",
        "channel-websockets": "direct",
        "channel-aiohttp": "direct",
    }


def test_a_protocol_that_gives_no_channel_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from wsmanager.uvicorn import WebSocketProtocol

    monkeypatch.delattr(WebSocketProtocol, "run_asgi")
    found = by_id(channels.check())
    assert ids(found.values()) == ["channel-uvicorn-direct"]
    assert "generic" in found["channel-uvicorn-direct"].message


def test_a_server_that_fails_or_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails() -> str:
        raise OSError("no loopback here\nat all")

    async def hangs() -> str:
        return await asyncio.get_running_loop().create_future()

    async def exits() -> str:
        raise SystemExit(3)

    probe = channels.PROBES[0]
    probes = [probe._replace(id=f.__name__, try_it=f) for f in (fails, hangs, exits)]
    monkeypatch.setattr(channels, "PROBES", probes)
    monkeypatch.setattr(channels, "TIMEOUT", 0.2)
    found = by_id(channels.check())
    assert ids(found.values()) == ["channel-fails", "channel-hangs", "channel-exits"]
    assert r"OSError: no loopback here\nat all" in found["channel-fails"].message


def test_a_library_that_is_not_there_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels.util, "find_spec", lambda name: None)
    assert list(channels.check()) == []


def test_without_starlette_the_scope_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    real = channels.util.find_spec
    monkeypatch.setattr(
        channels.util, "find_spec", lambda name: None if name == "starlette" else real(name)
    )
    found = by_id(channels.check())
    assert found["channel-uvicorn"].details["channel"] == "generic"
    assert found["channel-uvicorn-direct"].details["channel"] == "direct"


# -- shims -----------------------------------------------------------------------------------------------------


def test_stale_shims(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    main(["shim", str(tmp_path), "--package", "app.sockets", "--only", "--module", "manager"])
    (tmp_path / "use.py").write_text("import app.sockets.manager\n")
    assert list(stale.check((str(tmp_path),))) == []
    (tmp_path / "use.py").write_text("import wsmanager\n")
    assert set(ids(stale.check((str(tmp_path),)))) == {"shim-stale"}
    assert run(str(tmp_path), *FEW) == 1
    assert "app/sockets/manager.py" in capsys.readouterr().out
    assert list(stale.check(())) == []


def test_every_check_has_a_name() -> None:
    assert set(CHECKS) == {
        "installs", "interpreter", "servers", "workers", "deflate", "encoder", "libraries",
        "channels", "shims",
    }  # fmt: skip

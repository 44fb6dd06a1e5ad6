"""The application that serves the browser client: types, caches, encodings, and the types' truth."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from support.node import npm_command
from support.servers import UvicornServer

from wsmanager.client import FOLDER, client_app

MODULE = (FOLDER / "wsmanager.js").read_bytes()


def ask(
    method: str = "GET", path: str = "/wsmanager.js", app: Any = client_app, **headers: str
) -> Any:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            http.headers.pop("accept-encoding")
            return await http.request(
                method, path, headers={k.replace("_", "-"): v for k, v in headers.items()}
            )

    import asyncio

    return asyncio.run(go())


def test_the_module_as_a_browser_needs_it() -> None:
    answer = ask()
    assert answer.status_code == 200
    assert answer.content == MODULE
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "max-age" in answer.headers["cache-control"]
    assert int(answer.headers["content-length"]) == len(MODULE)
    assert ask(path="/wsmanager.d.ts").content == (FOLDER / "wsmanager.d.ts").read_bytes()


def test_packed_for_those_who_take_it() -> None:
    for wish, packed in [
        ("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("GZIP", True),
        ("br", False), ("gzip;q=0", False), ("gzip; q=0.0", False), ("identity", False),
    ]:  # fmt: skip
        answer = ask(accept_encoding=wish)
        assert (answer.headers.get("content-encoding") == "gzip") is packed, wish
        assert answer.content == MODULE  # httpx unpacks
        assert answer.headers["vary"] == "accept-encoding"
        if packed:
            assert int(answer.headers["content-length"]) < len(MODULE) / 2


def test_a_copy_that_is_still_good_is_not_sent_again() -> None:
    plain, packed = ask().headers["etag"], ask(accept_encoding="gzip").headers["etag"]
    assert plain != packed
    for tags in (plain, packed, f"W/{plain}", f'"other", {plain}', "*"):
        for encoding in ("identity", "gzip"):
            answer = ask(if_none_match=tags, accept_encoding=encoding)
            assert answer.status_code == 304, tags
            assert answer.content == b""
            assert answer.headers["etag"] in (plain, packed)
            assert "content-length" not in answer.headers
    assert ask(if_none_match='"other"').status_code == 200


def test_head_other_methods_and_other_names() -> None:
    head = ask("HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(MODULE)
    refused = ask("POST")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "GET, HEAD"
    for path in (
        "/",
        "/x.js",
        "/__init__.py",
        "/../client/package.json",
        "/wsmanager.js/",
        "/%2e%2e",
    ):
        assert ask(path=path).status_code == 404, path


@pytest.mark.parametrize(
    "path", ["/static/wsmanager/wsmanager.js", "/static/wsmanager/wsmanager.js?v=2"]
)
def test_wherever_it_is_mounted(path: str) -> None:
    app = FastAPI()
    app.mount("/static/wsmanager", client_app)
    assert ask(path=path, app=app).content == MODULE


async def test_over_a_real_server() -> None:
    app = FastAPI()
    app.mount("/wsmanager", client_app)
    with UvicornServer(app, lifespan="on") as server:
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"{server.http}/wsmanager/wsmanager.js")
            assert answer.content == MODULE
            again = await http.get(
                f"{server.http}/wsmanager/wsmanager.js",
                headers={"if-none-match": answer.headers["etag"]},
            )
            assert again.status_code == 304
    with UvicornServer(client_app, lifespan="auto") as server:  # alone, without a lifespan
        async with httpx.AsyncClient() as http:
            raw = await http.get(f"{server.http}/wsmanager.js")
            assert gzip.decompress(gzip.compress(raw.content)) == MODULE


# -- its types ------------------------------------------------------------------

USE = """
import {
  CLOSE_CODES, WSManagerClient, closeInfo, connect,
  type CloseInfo, type Closed, type Gap, type Options, type Resumed, type State, type WSEvent,
} from "wsmanager-client";

interface Started { agent_name: string }

const options: Options = {
  resume: "message", storage: sessionStorage, heartbeat: { interval: 10000 }, maxAttempts: 5,
  shouldReconnect: (info: Closed) => (info.code === 4401 ? false : undefined),
  onGap: (gap: Gap) => console.log(gap.first, gap.dropped),
  onResumed: ({ recovered, replayed }: Resumed) => console.log(recovered, replayed),
  onState: (state: State) => console.log(state), hello: () => ({ token: "t" }),
};
const client: WSManagerClient = connect(async () => new URL("/ws", location.href), options);
const off: () => void = client.on<Started>("agent_started", (event, { replayed }) => {
  const name: string = event.payload.agent_name;
  console.log(name, replayed, event.id?.length);
});
client.on("*", async (event: WSEvent) => { client.ack(event); });
off();
const sent: boolean = client.send({ type: "chat" });
async function all(): Promise<number> {
  let count = 0;
  for await (const event of client) count += event.type.length;
  for await (const event of client.events(10)) count += event.type.length;
  return count;
}
interface Login { token: string }
class Token { constructor(readonly token: string) {} then_what() { return this.token; } }
const login: Login = { token: "t" };
const fields: Record<string, unknown> = { ...login };
const hellos: Options["hello"][] = [
  () => "token", () => login, () => fields, () => new Token("t"), () => [1, 2], () => undefined,
  () => (login.token ? { type: "auth", ...login } : undefined),
];
const info: CloseInfo = closeInfo(1012, "x; retry-after=2");
const name: string = CLOSE_CODES[1012][0];
client.close(4001, "bye");
connect("/ws", { heartbeat: false });
void [sent, all, info, name, hellos];
"""

MISUSE = """
import { connect } from "wsmanager-client";
const client = connect("/ws");
// @ts-expect-error
client.state = "open";
// @ts-expect-error
client.on("x", (event: number) => event);
// @ts-expect-error
connect("/ws", { resume: "header" });
// @ts-expect-error
client.send(5);
// @ts-expect-error
connect("/ws", { hello: async () => ({ token: "t" }) });
// @ts-expect-error
connect("/ws", { hello: () => Promise.resolve("t") });
// @ts-expect-error
connect("/ws", { hello: async () => undefined });
"""


@pytest.fixture(scope="module")
def tsc(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The TypeScript compiler: the one on the path, or one that npm can fetch."""
    found = shutil.which("tsc")
    if found is not None:
        return found
    npm = npm_command()
    folder = tmp_path_factory.mktemp("tsc")
    try:
        done = subprocess.run(
            [*npm, "install", "--prefix", str(folder), "--no-save", "--no-audit", "typescript@>=5.4"],
            capture_output=True, text=True, check=False, timeout=90, cwd=folder,
            env={**os.environ, "npm_config_fetch_retries": "1"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip("npm could not fetch TypeScript in time")
    path = folder / "node_modules" / ".bin" / "tsc"
    if done.returncode != 0 or not path.exists():
        pytest.skip(f"npm could not fetch TypeScript: {done.stderr.strip().splitlines()[-1:]}")
    return str(path)


@pytest.mark.timeout(180)
def test_the_types_fit_their_use(tsc: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "node_modules" / "wsmanager-client")
    (tmp_path / "use.ts").write_text(USE)
    (tmp_path / "misuse.ts").write_text(MISUSE)
    command = [
        tsc, "--noEmit", "--strict", "--target", "es2022", "--module", "nodenext",
        "--moduleResolution", "nodenext", "--lib", "es2022,dom,dom.iterable", "--types", "",
        "use.ts", "misuse.ts",
    ]  # fmt: skip
    (tmp_path / "package.json").write_text('{"type": "module"}')
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Its control: what the types forbid is an error where it is not expected.
    (tmp_path / "misuse.ts").write_text(MISUSE.replace("// @ts-expect-error\n", ""))
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.count("error TS") == 7, done.stdout


def test_the_types_name_all_that_the_module_has() -> None:
    types = (FOLDER / "wsmanager.d.ts").read_text()
    text = MODULE.decode()
    options = text[text.index("const DEFAULTS") : text.index("};", text.index("const DEFAULTS"))]
    for line in options.splitlines()[1:]:
        name = line.strip().partition(":")[0]
        assert f"  {name}?:" in types, name
    for name in ("hello", "shouldReconnect", "onState", "onClose", "onResumed", "onGap", "onOther",
                 "onError", "WebSocket"):  # fmt: skip
        assert f"  {name}?:" in types
        assert name in text

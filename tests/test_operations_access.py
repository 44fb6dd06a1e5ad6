"""An outsider gets nothing: no token, a wrong one, forged headers, other methods, every route."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from support.outsider import Answer, ask, own_address
from support.servers import UvicornServer, chat_app
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from wsmanager.asgi import OperationsApp
from wsmanager.asgi.access import Access, Verdict

TOKEN = "an-operators-token-of-some-length"
ROUTES = [
    "",
    "/",
    "/health",
    "/ready",
    "/config",
    "/stats",
    "/metrics",
    "/top",
    "/no/such",
    "//stats",
]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]

FORWARDED = [
    [("X-Forwarded-For", "127.0.0.1")],
    [("x-forwarded-for", "::1")],
    [("X-Forwarded-For", "127.0.0.1, 127.0.0.1"), ("X-Forwarded-Proto", "https")],
    [("X-Forwarded-For", "203.0.113.9")],
    [("X-Real-IP", "127.0.0.1")],
    [("Forwarded", "for=127.0.0.1;host=localhost")],
    [("X-Client-IP", "127.0.0.1")],
    [("True-Client-IP", "127.0.0.1")],
    [("CF-Connecting-IP", "127.0.0.1")],
    [("X-Forwarded-Host", "localhost")],
    [("Via", "1.1 proxy")],
]


def basic(password: str, user: str = "ops") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


WRONG: list[list[tuple[str, str]]] = [
    [],
    [("Authorization", "")],
    [("Authorization", "Bearer")],
    [("Authorization", "Bearer ")],
    [("Authorization", "Bearer wrong")],
    [("Authorization", f"Bearer {TOKEN}x")],
    [("Authorization", f"Bearer {TOKEN[:-1]}")],
    [("Authorization", f"Bearer {TOKEN.upper()}")],
    [("Authorization", TOKEN)],
    [("Authorization", f"Token {TOKEN}")],
    [("Authorization", "Basic")],
    [("Authorization", "Basic !!!")],
    [("Authorization", basic("wrong"))],
    [("Authorization", basic("", TOKEN))],
    [("Authorization", "Basic " + base64.b64encode(TOKEN.encode()).decode())],
    [("Authorization", "Bearer wrong"), ("Authorization", f"Bearer {TOKEN}")],
    [("Cookie", f"token={TOKEN}")],
    [("X-Token", TOKEN)],
    [("Authorization", "Bearer \xff\xfe")],
]


def server_of(app: Any, **config: Any) -> UvicornServer:
    outer = chat_app()
    outer.mount("/ops", app)
    return UvicornServer(outer, **config)


@pytest.fixture(scope="module")
def with_token() -> Iterator[UvicornServer]:
    with server_of(OperationsApp(token=TOKEN)) as server:
        yield server


def says_nothing(answer: Answer) -> bool:
    return (
        b"version" not in answer.body and b"wsmanager" not in answer.body and len(answer.body) < 100
    )


def test_nothing_is_reachable_that_was_not_mounted() -> None:
    import wsmanager.asgi  # noqa: F401 -- importing it mounts nothing

    with UvicornServer() as server:
        for path in ("/health", "/ready", "/config", "/stats", "/metrics", "/top", "/ops/stats"):
            assert ask(server.port, path).status == 404


@pytest.mark.parametrize("wrong", WRONG, ids=[str(w)[:50] for w in WRONG])
def test_without_the_token_every_route_says_401(
    with_token: UvicornServer, wrong: list[tuple[str, str]]
) -> None:
    for path in ROUTES:
        answer = ask(with_token.port, "/ops" + path, headers=wrong)
        if path == "" and answer.status == 307:
            continue  # the router's own: to /ops/
        assert answer.status == 401, path
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert says_nothing(answer)


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_are_no_way_in(with_token: UvicornServer, method: str) -> None:
    """Without the token 401 whatever the method; with it only GET and HEAD do anything."""
    for path in ROUTES[2:]:
        answer = ask(with_token.port, "/ops" + path, method)
        if method == "BREW" and answer.status == 400:
            continue  # a parser's own (httptools): it never gets as far
        assert answer.status == 401
        shown = ask(with_token.port, "/ops" + path, method, [("Authorization", f"Bearer {TOKEN}")])
        known = path in ROUTES[2:8]
        expected = 200 if method in ("GET", "HEAD") and known else 405 if known else 404
        assert shown.status == expected, path
        if shown.status == 405:
            assert shown.headers["allow"] == "GET, HEAD"


def test_the_query_is_no_place_for_a_token(with_token: UvicornServer) -> None:
    for query in (f"?token={TOKEN}", f"?access_token={TOKEN}", f"?authorization=Bearer%20{TOKEN}"):
        assert ask(with_token.port, "/ops/stats" + query).status == 401


@pytest.mark.parametrize(
    "right",
    [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer  {TOKEN}", basic(TOKEN), basic(TOKEN, "")],
)
def test_control_the_right_token_is_let_in(with_token: UvicornServer, right: str) -> None:
    """Or the tests above would pass of an app that refuses everybody."""
    assert ask(with_token.port, "/ops/stats", headers=[("Authorization", right)]).status == 200


def test_a_websocket_gets_nowhere(with_token: UvicornServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(
            f"ws://127.0.0.1:{with_token.port}/ops/stats",
            additional_headers={"Authorization": f"Bearer {TOKEN}"},
        )
    assert refused.value.response.status_code == 403


# -- without a token: this host alone --------------------------------------------


@pytest.fixture(scope="module")
def local_only() -> Iterator[UvicornServer]:
    with server_of(OperationsApp()) as server:
        yield server


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:99", "[::1]:5", "127.9.9.9"])
def test_control_this_host_is_let_in(local_only: UvicornServer, host: str) -> None:
    for path in ROUTES[2:8]:
        assert ask(local_only.port, "/ops" + path, headers=[("Host", host)]).status == 200


@pytest.mark.parametrize("forged", FORWARDED, ids=[str(f)[:60] for f in FORWARDED])
def test_what_came_through_a_proxy_is_not_from_this_host(
    local_only: UvicornServer, forged: list[tuple[str, str]]
) -> None:
    for path in ROUTES[1:]:
        answer = ask(local_only.port, "/ops" + path, headers=forged)
        assert answer.status == 403, path
        assert says_nothing(answer)


def test_a_server_that_believes_every_header_changes_nothing() -> None:
    """uvicorn with forwarded_allow_ips="*" writes the forged address into the scope."""
    with server_of(OperationsApp(), proxy_headers=True, forwarded_allow_ips="*") as server:
        for forged in FORWARDED:
            assert ask(server.port, "/ops/stats", headers=forged).status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "[::1]x",
             "2130706433", "0x7f.1", "10.0.0.1"],
)  # fmt: skip
def test_a_name_that_was_made_to_point_here_is_refused(
    local_only: UvicornServer, host: str
) -> None:
    """DNS rebinding: the address is ours, the name is not."""
    assert ask(local_only.port, "/ops/stats", headers=[("Host", host)]).status in (400, 403)


def test_another_address_of_this_host_is_outside() -> None:
    address = own_address()
    if address is None:
        pytest.skip("this host has no address but the loopback")
    with server_of(OperationsApp(), address="0.0.0.0") as server:
        headers = [("Host", "localhost")]
        assert ask(server.port, "/ops/stats", headers=headers).status == 200
        assert ask(server.port, "/ops/stats", headers=headers, host=address).status == 403


def test_open_probes_say_one_word_to_everybody() -> None:
    from wsmanager import readiness

    with server_of(OperationsApp(token=TOKEN, open_probes=True)) as server:
        assert ask(server.port, "/ops/health").json() == {"status": "ok"}
        assert ask(server.port, "/ops/ready").json() == {"ready": True}
        readiness.add_check("inner secret", lambda: "why")
        try:
            answer = ask(server.port, "/ops/ready")
            assert (answer.status, answer.json()) == (503, {"ready": False})
        finally:
            readiness.remove_check("inner secret")
        for path in ("/config", "/stats", "/metrics", "/top", "/", "/health/x"):
            assert ask(server.port, "/ops" + path).status == 401
        assert ask(server.port, "/ops/health", "POST").status == 401


# -- the comparison ---------------------------------------------------------------


def scope_of(*headers: tuple[bytes, bytes], client: Any = ("127.0.0.1", 5000)) -> dict[str, Any]:
    return {"type": "http", "headers": list(headers), "client": client}


def test_tokens_are_compared_as_secrets_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every token that is shown reaches compare_digest as bytes; == is never asked."""
    seen: list[tuple[object, object]] = []
    real = secrets.compare_digest

    def noted(a: bytes, b: bytes) -> bool:
        seen.append((a, b))
        return real(a, b)

    monkeypatch.setattr(secrets, "compare_digest", noted)
    access = Access(TOKEN)
    for given in (TOKEN, "wrong", "", "\u00fc"):
        access.judge(scope_of((b"authorization", b"Bearer " + given.encode())))
    assert [a for a, _ in seen] == [TOKEN.encode(), b"wrong", b"", "\u00fc".encode()]
    assert all(type(a) is type(b) is bytes for a, b in seen)


def test_a_token_that_is_none_is_refused_at_once() -> None:
    for empty in ("", " ", "\n"):
        with pytest.raises(ValueError, match="token is empty"):
            OperationsApp(token=empty)
    with pytest.raises(TypeError, match="token is a str"):
        OperationsApp(token=b"bytes")  # type: ignore[arg-type]


def test_a_token_beyond_ascii_works() -> None:
    access = Access("gehe\u00fcm-\u2603")
    shown = scope_of((b"authorization", "Bearer gehe\u00fcm-\u2603".encode()))
    assert access.judge(shown) is Verdict.ALLOWED
    assert access.judge(scope_of((b"authorization", b"Bearer gehe"))) is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "client", [None, (), ("", 0), ("unix:", 0), ("127.0.0.1", 0), ("10.0.0.1", 5), ("::ffff:10.0.0.1", 5),
               ("testclient", 50000), ("127.0.0.1.evil.example", 5), ("0.0.0.0", 5)],
)  # fmt: skip
def test_addresses_that_are_not_this_host(client: Any) -> None:
    assert Access(None).judge(scope_of((b"host", b"localhost"), client=client)) is Verdict.FORBIDDEN


@pytest.mark.parametrize(
    "client", [("127.0.0.1", 5), ("127.8.8.8", 5), ("::1", 5), ("::ffff:127.0.0.1", 5)]
)
def test_control_addresses_that_are_this_host(client: Any) -> None:
    assert Access(None).judge(scope_of((b"host", b"localhost"), client=client)) is Verdict.ALLOWED
    twice = scope_of((b"host", b"localhost"), (b"host", b"localhost"), client=client)
    assert Access(None).judge(twice) is Verdict.FORBIDDEN


def test_the_app_does_not_tell_its_token() -> None:
    app = OperationsApp(token=TOKEN)
    assert TOKEN not in repr(app) + str(app) + repr(app._access)


def test_control_it_is_these_checks_that_refuse(
    local_only: UvicornServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With either check gone the same requests get in: the tests above would tell."""
    from wsmanager.asgi import access

    forged, rebound = [("X-Real-IP", "127.0.0.1")], [("Host", "evil.example")]
    monkeypatch.setattr(access, "_FORWARDED", frozenset())
    assert ask(local_only.port, "/ops/stats", headers=forged).status == 200
    assert ask(local_only.port, "/ops/stats", headers=rebound).status == 403
    monkeypatch.setattr(access, "_is_local_name", lambda host: True)
    assert ask(local_only.port, "/ops/stats", headers=rebound).status == 200

"""``wsmanager top``: the state of a running service in the terminal, read from its ``/stats``."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from ._log import one_line
from ._status import percentile, snapshot

__all__ = ["add_arguments", "lines", "run"]

READY, NOT_READY, USAGE, UNREADABLE = 0, 1, 2, 3
MOST_BYTES: Final = 8 << 20

Stats = Mapping[str, Any]


class UsageError(Exception):
    """What was asked for makes no sense."""


class Unreadable(Exception):
    """The service could not be asked, or did not say what it should."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description = (
        "Shows connections, rates, slow consumers and the last errors of a service that serves "
        "wsmanager.asgi.OperationsApp. Without a URL, of this very process. Exit status of the "
        "last look: 0 ready, 1 not ready, 2 wrong usage, 3 it could not be read."
    )
    parser.add_argument(
        "url",
        nargs="?",
        metavar="URL",
        help="where the app is mounted, http://127.0.0.1:8000/ops (or in WSMANAGER_OPS_URL)",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="a file with the token; or have the token in WSMANAGER_OPS_TOKEN. There is no option "
        "for the token itself: everybody on the host could read it",
    )
    parser.add_argument(
        "--interval", type=_seconds, default=2.0, metavar="SECONDS", help="between looks (2)"
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=5.0, metavar="SECONDS", help="for an answer (5)"
    )
    parser.add_argument("--once", action="store_true", help="one look, then exit")
    parser.add_argument(
        "--json", action="store_true", help="what the service said, one JSON object a line"
    )
    parser.add_argument("--no-color", action="store_true", help="as NO_COLOR in the environment")


def run(options: argparse.Namespace) -> int:
    """Carry the command out; the exit status."""
    try:
        read = _reader(options)
    except UsageError as error:
        sys.stderr.write(f"wsmanager top: {one_line(str(error), 400)}\n")
        return USAGE
    paint = _Paint(not options.no_color and not os.environ.get("NO_COLOR") and sys.stdout.isatty())
    clear = sys.stdout.isatty() and not options.once and not options.json
    before: Stats | None = None
    status = READY
    try:
        while True:
            try:
                now = read()
                text = [json.dumps(now)] if options.json else _shown(now, before, paint)
            except Unreadable as error:
                status, why = UNREADABLE, one_line(str(error), 400)
                text = [paint.bad(f"cannot be read: {why}")]
                if options.once or options.json:
                    sys.stderr.write(f"wsmanager top: {why}\n")
                    text = []
            else:
                status = READY if now["ready"] else NOT_READY
                before = now
            _write(text, clear=clear)
            if options.once:
                return status
            time.sleep(options.interval)
    except KeyboardInterrupt:
        return status  # that is how one ends it


def _shown(now: Stats, before: Stats | None, paint: _Paint) -> list[str]:
    try:
        return lines(now, before, paint)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable("its /stats is of a version that this one cannot read") from error


def _write(text: list[str], *, clear: bool) -> None:
    if clear:
        rows = shutil.get_terminal_size().lines - 1
        sys.stdout.write("\x1b[H\x1b[2J" + "".join(f"{line}\n" for line in text[:rows]))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in text))
    sys.stdout.flush()


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < 86400:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return number


# -- reading -------------------------------------------------------------------


class _Target(NamedTuple):
    secure: bool
    host: str
    port: int | None
    path: str


def _reader(options: argparse.Namespace) -> Callable[[], Stats]:
    url = options.url or os.environ.get("WSMANAGER_OPS_URL")
    token = _token(options.token_file)
    if not url:
        return snapshot
    target = _target(url)
    return lambda: _ask(target, token, options.timeout)


def _token(file: str | None) -> str | None:
    if file is None:
        return os.environ.get("WSMANAGER_OPS_TOKEN") or None
    try:
        token = Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file: {error}") from error
    if not token:
        raise UsageError(f"--token-file: {file} is empty")
    return token


def _target(url: str) -> _Target:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError as error:
        raise UsageError(f"that is no URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("the URL is to be http://HOST:PORT/PATH or https://…")
    if parts.username is not None or parts.password is not None or parts.query:
        raise UsageError("no secrets in the URL: the token goes into WSMANAGER_OPS_TOKEN")
    path = parts.path.rstrip("/").removesuffix("/top").removesuffix("/stats")
    return _Target(parts.scheme == "https", parts.hostname, port, f"{path}/stats")


def _ask(target: _Target, token: str | None, timeout: float) -> Stats:
    connection: http.client.HTTPConnection
    if target.secure:
        connection = http.client.HTTPSConnection(
            target.host, target.port, timeout=timeout, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout)
    headers = {"Accept": "application/json", "User-Agent": "wsmanager-top"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request("GET", target.path, headers=headers)
        answer = connection.getresponse()
        body = answer.read(MOST_BYTES + 1)
    except socket.timeout as error:  # noqa: UP041 -- another class before 3.11
        raise Unreadable(f"no answer within {timeout:g} s") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreadable(f"{target.host}: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()
    return _checked(answer.status, body)


def _checked(status: int, body: bytes) -> Stats:
    if status == 401:
        raise Unreadable("401: the token is missing or wrong (WSMANAGER_OPS_TOKEN, --token-file)")
    if status == 403:
        raise Unreadable("403: without a token it answers its own host only")
    if status != 200:
        raise Unreadable(f"the answer was {status}: is the app mounted at that URL?")
    try:
        stats = json.loads(body) if len(body) <= MOST_BYTES else None
        if not isinstance(stats, dict) or "counters" not in stats:
            raise ValueError
    except (ValueError, RecursionError) as error:
        raise Unreadable("that is not the answer of an OperationsApp") from error
    return stats


# -- showing -------------------------------------------------------------------


class _Paint:
    """Colours, where there are any."""

    def __init__(self, coloured: bool) -> None:
        self.coloured = coloured

    def _in(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.coloured else text

    def good(self, text: str) -> str:
        return self._in("1;32", text)

    def bad(self, text: str) -> str:
        return self._in("1;31", text)

    def head(self, text: str) -> str:
        return self._in("1", text)


def lines(now: Stats, before: Stats | None = None, paint: _Paint | None = None) -> list[str]:
    """What is shown of one look, with rates where there was one before."""
    paint = paint or _Paint(False)
    if before is not None and (before["pid"] != now["pid"] or before["time"] >= now["time"]):
        before = None  # another process answered, or the same after a restart
    return [
        *_heading(now, paint),
        "",
        *_figures(now, before),
        "",
        *_events(now, before, paint),
        "",
        *_slowest(now, paint),
        "",
        *_errors(now, paint),
    ]


def _plain(text: str) -> str:
    """A line with what the service said in it: nothing of it reaches the terminal as a command."""
    return one_line(text, 400)


def _heading(now: Stats, paint: _Paint) -> list[str]:
    verdict = paint.good("ready") if now["ready"] else paint.bad("NOT READY")
    when = time.strftime("%H:%M:%S", time.localtime(now["time"]))
    about = (
        f"wsmanager {now['version']}, Python {now['python']}, process {now['pid']}, "
        f"up {_span(now['uptime'])}, {when}"
    )
    reasons = (_plain(f"  - {reason}") for reason in now["reasons"])
    return [f"{_plain(about)}  {verdict}", *reasons]


def _figures(now: Stats, before: Stats | None) -> list[str]:
    counters = now["counters"]
    old = before["counters"] if before else None
    buckets = _recent_buckets(counters, old)
    lag = max((loop["lag"] for loop in now["loops"]), default=0.0)
    rows = [
        f"connections {counters['connections']} ({counters['direct_connections']} direct)"
        f"   users {counters['users']}   opened {counters['opened']}"
        f"   closed {sum(counters['closed'].values())}",
        f"emit to write  p50 {_span(percentile(buckets, 0.5))}  p99 {_span(percentile(buckets, 0.99))}"
        f"   loop lag {_span(lag)} ({len(now['loops'])} loops)",
        f"queued {counters['queued_events']} events, {counters['queued_bytes']} bytes"
        f"   waiting {counters['waiting_connections']} (longest {_span(counters['longest_wait'])})"
        f"   slow, closed {counters['slow']['close']}",
    ]
    return [_plain(row) for row in rows]


def _recent_buckets(counters: Stats, old: Stats | None) -> list[tuple[float, int]]:
    past = dict(map(tuple, old["emit_to_write"]["buckets"])) if old else {}
    fresh = [(bound, n - past.get(bound, 0)) for bound, n in counters["emit_to_write"]["buckets"]]
    return [(bound, n) for bound, n in fresh if n > 0]


def _events(now: Stats, before: Stats | None, paint: _Paint) -> list[str]:
    counters = now["counters"]
    title = f"{'EVENT':<16}{'EMIT/S':>10}{'SENT/S':>10}{'EMITTED':>12}{'SENT':>12}{'DROPPED':>10}{'FAILED':>10}"
    rows = []
    for kind, emitted in counters["emitted"].items():
        sent = counters["sent"][kind]
        dropped = sum(kinds[kind] for kinds in counters["dropped"].values())
        rows.append(
            f"{kind:<16}{_rate(now, before, 'emitted', kind):>10}{_rate(now, before, 'sent', kind):>10}"
            f"{emitted:>12}{sent:>12}{dropped:>10}{counters['failed'][kind]:>10}"
        )
    return [paint.head(title), *map(_plain, rows)]


def _rate(now: Stats, before: Stats | None, what: str, kind: str) -> str:
    if before is None:
        return "-"
    more = now["counters"][what][kind] - before["counters"][what][kind]
    return "-" if more < 0 else f"{more / (now['time'] - before['time']):.1f}"


def _slowest(now: Stats, paint: _Paint) -> list[str]:
    title = f"{'SLOWEST':<16}{'WAY':>10}{'EVENTS':>10}{'BYTES':>12}{'WAITS':>12}"
    rows = []
    for row in now["slowest"]:
        rows.append(
            f"{row['conn']:<16}{row['channel']:>10}{row['queued_events']:>10}"
            f"{row['queued_bytes']:>12}{_span(row['waited']):>12}"
        )
    return [paint.head(title), *map(_plain, rows or ["nothing is queued"])]


def _errors(now: Stats, paint: _Paint) -> list[str]:
    title = f"{'LAST ERRORS':<12}{'TIMES':>8}  WHAT"
    rows = []
    for row in now["errors"]:
        when = time.strftime("%H:%M:%S", time.localtime(row["last"]))
        rows.append(f"{when:<12}{row['count']:>8}  {row['what']}: {row['reason']}")
    return [paint.head(title), *map(_plain, rows or ["none since the start"])]


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

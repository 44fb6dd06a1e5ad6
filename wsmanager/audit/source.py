"""One file's bytes, text and tree, and the way between an AST position and a byte.

A :class:`Source` never changes a byte by itself: the text keeps its line ends,
and ``encode`` gives back exactly the bytes that were read, or says that it cannot.
"""

from __future__ import annotations
import __future__

import ast
import codecs
import re
import warnings
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

#: Bytes above which a file is listed as unparsed; no hand-written module comes near.
MAX_BYTES: Final = 16 * 1024 * 1024

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_COOKIE: Final = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_EMPTY: Final = re.compile(rb"[ \t\f]*(?:#.*)?$")
#: The first line that :func:`check` gives a file, and what the compiler says to it.
_REFUSED: Final = "from __future__ import braces\n"
_REFUSAL: Final = "not a chance"
_NUMBER: Final = re.compile(r"\d")
#: The import of a future that there is not: since 3.14 the parser's business as well.
_NO_FUTURE: Final = re.compile(
    rf"__future__\s+import\s+(?!(?:{'|'.join(__future__.all_feature_names)})\b(?!\s*,))"
)


class Unparsed(Exception):
    """A file that cannot be audited: *reason* in words, *line* from 1 where there is one."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


@dataclass
class Source:
    """A decoded Python file.

    *text* has the file's own line ends and no byte order mark; *encoding* is a
    codec name without the mark, *bom* the mark's bytes or nothing.
    """

    path: str
    data: bytes
    text: str
    encoding: str
    bom: bytes
    _starts: list[int] = field(default_factory=list, repr=False)

    @property
    def starts(self) -> list[int]:
        """The index in *text* at which each line starts, as the Python tokenizer counts lines."""
        if not self._starts:
            if "\r" in self.text:
                self._starts = [0, *(match.end() for match in _LINE_END.finditer(self.text))]
            else:
                lengths = (len(line) + 1 for line in self.text.split("\n"))
                self._starts = [0, *accumulate(lengths)][:-1]
        return self._starts

    def line(self, number: int) -> str:
        """Line *number* (from 1), without its end; empty when there is no such line."""
        if not 1 <= number <= len(self.starts):
            return ""
        start = self.starts[number - 1]
        found = _LINE_END.search(self.text, start)
        return self.text[start : found.start() if found else len(self.text)]

    def column(self, line: int, utf8: int) -> int:
        """The character column (from 0) of an AST's UTF-8 offset in *line*."""
        return len(
            self.line(line).encode("utf-8", "surrogatepass")[:utf8].decode("utf-8", "ignore")
        )

    def index(self, line: int, utf8: int) -> int:
        """The index in *text* of an AST position; ValueError when the line does not exist."""
        if not 1 <= line <= len(self.starts):
            raise ValueError(f"no line {line}")
        return self.starts[line - 1] + self.column(line, utf8)

    def parse(self) -> ast.Module:
        """The tree of the text; :exc:`Unparsed` for whatever the parser refuses."""
        return parse(self.text)

    def encode(self, text: str) -> bytes:
        """*text* in the file's own encoding and with its mark; UnicodeError when it has no such bytes."""
        return self.bom + text.encode(self.encoding)

    @property
    def reversible(self) -> bool:
        """Whether encoding the unchanged text gives the file's bytes again."""
        try:
            return self.encode(self.text) == self.data
        except UnicodeError:
            return False


def read(path: str) -> Source:
    """Read and decode *path* as Python would; :exc:`Unparsed` for what cannot be read or decoded."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unparsed(f"cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise Unparsed(f"larger than {MAX_BYTES // (1024 * 1024)} MiB")
    return decode(path, data)


def decode(path: str, data: bytes) -> Source:
    """Decode *data* by its mark or coding cookie (PEP 263), else as UTF-8."""
    if b"\0" in data:
        raise Unparsed("contains null bytes", data[: data.index(b"\0")].count(b"\n") + 1)
    bom = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    encoding = _cookie(data[len(bom) :]) or "utf-8"
    if bom and encoding != "utf-8":
        raise Unparsed(f"bad encoding: a UTF-8 byte order mark and a cookie for {encoding}", 1)
    try:
        text = data[len(bom) :].decode(encoding)
    except (UnicodeError, LookupError) as error:
        raise Unparsed(f"is not {encoding}: {error}") from error
    return Source(path, data, text, encoding, bom)


def _cookie(data: bytes) -> str | None:
    """The codec that a cookie in the first two lines names; :exc:`Unparsed` for one that does not exist."""
    # tokenize.detect_encoding() knows no line end but "\\n"; the parser does.
    for line in re.split(rb"\r\n|\r|\n", data[:2000], maxsplit=2)[:2]:
        found = _COOKIE.match(line)
        if found:
            name = found.group(1).decode("ascii", "replace")
            try:
                return codecs.lookup(name).name
            except LookupError as error:
                raise Unparsed(f"bad encoding: {error}", 1) from error
        if not _EMPTY.match(line):
            return None
    return None


def check(source: str | bytes) -> None:
    """:exc:`Unparsed` where :func:`parse` raises it, in less time: no tree is made.

    But for what CPython's parser takes and only a tree of objects is too shallow for.
    Bytes are UTF-8.
    """
    if isinstance(source, bytes) and source.startswith(codecs.BOM_UTF8):
        parse(source)  # the mark must come first, and has a say in what a cookie may be
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A future that is always refused ends the compilation right after the
            # parser: nothing else of it is wanted.
            head = _REFUSED if isinstance(source, str) else _REFUSED.encode()
            compile(head + source, "<audited>", "exec", dont_inherit=True)  # type: ignore[operator]
    except SyntaxError as error:
        if error.msg == _REFUSAL:
            if _NO_FUTURE.search(source if isinstance(source, str) else source.decode("latin-1")):
                parse(source)
            return
        if error.lineno and not _NUMBER.search(error.msg):
            # What it says of the text it says of the file, which starts a line later.
            raise Unparsed(f"syntax error: {error.msg}", error.lineno - 1) from error
        parse(source)
    except (ValueError, OverflowError, RecursionError, MemoryError):
        parse(source)


def parse(source: str | bytes) -> ast.Module:
    """``ast.parse`` without its warnings; :exc:`Unparsed` for whatever it raises."""
    try:
        with warnings.catch_warnings():
            # Invalid escapes and the like are the business of other tools, and
            # must not become errors under -W error.
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except SyntaxError as error:
        raise Unparsed(f"syntax error: {error.msg}", error.lineno) from error
    except (ValueError, OverflowError) as error:
        raise Unparsed(f"syntax error: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise Unparsed("nested too deeply for the parser") from error

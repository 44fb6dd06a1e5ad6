"""A code base like those that are audited, made up: ``python tests/support/codebase.py FOLDER --files 25000``.

Sizes are spread as in real trees (a log-normal distribution, median 7 KB, mean 11 KB); two in five
files are tests; half have coroutines; 6 % do not parse. There are about 130 syntax nodes a kilobyte,
between a library's (110) and a test suite's (150). A few files in a hundred use the manager factory,
most of them rightly; how many wrong awaits there are :func:`grow` tells, which planted them.

The same numbers give the same tree. Nothing in it is anybody's code.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

MEDIAN: Final = 7_000  # bytes
SIGMA: Final = 1.0
LARGEST: Final = 250_000
BROKEN: Final = 0.06
FACTORY: Final = 0.04  # of the files use the factory, one in four of them wrongly
FILES_A_FOLDER: Final = 40

_NOUNS = (
    "account agent batch billing cache channel client config context cursor document engine event "
    "export feature filter gateway handler index invoice job ledger message metric model monitor node "
    "order page parser payment pipeline policy pool profile query queue record report request resource "
    "result router run schedule schema search segment session signal snapshot source state store stream "
    "task tenant thread token tool trace usage user worker workflow"
).split()
_VERBS = (
    "apply build check collect compute create decode describe encode expand fetch find flush format "
    "handle join list load merge normalize parse prepare process publish read refresh register resolve "
    "run save schedule select send split start store sync transform update validate write"
).split()
_STDLIB = ("json", "logging", "os", "re", "time", "uuid", "asyncio", "hashlib", "itertools")


class _Writer:
    """The text of one file, piece by piece."""

    def __init__(self, rng: random.Random, modules: list[str]) -> None:
        self.rng = rng
        self.modules = modules
        self.lines: list[str] = []
        self.size = 0
        self.plain: list[str] = []
        self.coroutines: list[str] = []
        self.imported: list[str] = []

    def add(self, *lines: str) -> None:
        self.lines += lines
        self.size += sum(map(len, lines)) + len(lines)

    def noun(self) -> str:
        return self.rng.choice(_NOUNS)

    def name(self) -> str:
        return f"{self.rng.choice(_VERBS)}_{self.noun()}"

    def words(self, count: int) -> str:
        return " ".join(self.rng.choice(_NOUNS + _VERBS) for _ in range(count))

    # -- pieces ------------------------------------------------------------------

    def head(self) -> None:
        self.add('"""' + self.words(6).capitalize() + ".", "", self.words(14) + ".", '"""', "")
        self.add("from __future__ import annotations", "")
        for module in sorted({*self.rng.sample(_STDLIB, 4), "logging"}):
            self.add(f"import {module}")
        self.add("from dataclasses import dataclass, field", "from typing import Any", "")
        for module in self.rng.sample(self.modules, min(3, len(self.modules))):
            name = self.name()
            self.imported.append(name)
            self.add(f"from {module} import {name}")
        self.add("", "logger = logging.getLogger(__name__)", "")

    def constants(self) -> None:
        self.add(f"{self.noun().upper()}_TABLE = {{")
        for _ in range(self.rng.randrange(4, 30)):
            self.add(
                f'    "{self.noun()}_{self.rng.randrange(1000)}": ("{self.words(3)}", {self.rng.random():.4f}),'
            )
        self.add("}", "")

    def record(self) -> None:
        name = self.noun().capitalize() + self.noun().capitalize()
        self.add("", "@dataclass(frozen=True)", f"class {name}:", f'    """{self.words(7)}."""', "")
        for noun in self.rng.sample(_NOUNS, self.rng.randrange(3, 10)):
            kind = self.rng.choice(("str", "int", "float | None", "list[str]", "dict[str, Any]"))
            self.add(f"    {noun}: {kind}")
        self.add(
            "", "    def as_dict(self) -> dict[str, Any]:", "        return vars(self).copy()", ""
        )

    def docstring(self, indent: str) -> None:
        self.add(f'{indent}"""{self.words(8).capitalize()}.', "")
        for _ in range(self.rng.randrange(1, 5)):
            self.add(f"{indent}{self.words(13)}")
        self.add("", f"{indent}Returns:", f"{indent}    {self.words(10)}.", f'{indent}"""')

    def body(self, indent: str, deep: int = 0) -> None:
        self.add(f"{indent}# {self.words(9)}.", f"{indent}# {self.words(8)}")
        for _ in range(self.rng.randrange(2, 6)):
            what = self.rng.randrange(6)
            noun, other = self.noun(), self.noun()
            if what == 0:
                self.add(
                    f"{indent}{noun} = {{key: value for key, value in {other}.items() if value}}"
                )
            elif what == 1:
                self.add(f"{indent}if {noun} is None or len({noun}) > {self.rng.randrange(99)}:")
                self.add(f'{indent}    raise ValueError(f"{self.words(4)}: {{{other}!r}}")')
            elif what == 2:
                self.add(f"{indent}for number, {noun} in enumerate({other}):")
                if deep < 2:
                    self.body(indent + "    ", deep + 1)
                self.add(f"{indent}    {noun}.append((number, {other}[number : number + 3]))")
            elif what == 3:
                self.add(f"{indent}# {self.words(9)}", f"{indent}logger.info(")
                self.add(
                    f"{indent}    '{self.words(9)} %s', {noun}, extra={{'{other}': {other}}}",
                    f"{indent})",
                )
            elif what == 4:
                self.add(f"{indent}try:", f"{indent}    {noun} = int({other}.get('{noun}', 0)) + 1")
                self.add(f"{indent}except (KeyError, TypeError) as error:")
                self.add(f"{indent}    logger.warning('{self.words(3)}', exc_info=error)")
            else:
                self.add(
                    f"{indent}{noun} = sorted({other}, key=lambda item: item[{self.rng.randrange(4)}])"
                )

    def function(self) -> None:
        name = self.name()
        self.plain.append(name)
        self.add(
            "", f"def {name}({self.noun()}, {self.noun()}_id: str, *, limit: int = 10) -> Any:"
        )
        self.docstring("    ")
        self.body("    ")
        self.add(f"    return [{self.noun()} for {self.noun()} in range(limit)]", "")

    def coroutine(self) -> None:
        name = self.name()
        self.coroutines.append(name)
        self.add("", f"async def {name}(self_or_client, {self.noun()}_id: str) -> Any:")
        self.docstring("    ")
        self.body("    ")
        self.add(f"    found = await self_or_client.{self.name()}({self.noun()!r})")
        if len(self.coroutines) > 1:
            self.add(f"    await {self.coroutines[-2]}(self_or_client, found)")
        if self.imported and self.rng.random() < 0.3:
            self.add(f"    await {self.rng.choice(self.imported)}(found)")
        self.add(f"    async with self_or_client.session.{self.noun()}() as session:")
        self.add("        await session.execute(found)", "    return found", "")

    def service(self) -> None:
        self.add("", f"class {self.noun().capitalize()}{self.noun().capitalize()}Service:")
        self.add(f'    """{self.words(10).capitalize()}."""', "")
        self.add("    def __init__(self, client, settings) -> None:")
        self.add("        self.client = client", "        self.settings = settings", "")
        for _ in range(self.rng.randrange(2, 6)):
            if self.rng.random() < 0.5:
                helper = self.name()
                self.add(f"    async def {helper}(self, {self.noun()}):")
                self.docstring("        ")
                self.body("        ")
                self.add(f"        return await self.client.{self.name()}(self.settings)", "")
                self.add(f"    async def {helper}_again(self, {self.noun()}):")
                self.add(f"        await asyncio.sleep({self.rng.random():.2f})")
                self.add(f"        return await self.{helper}(self.settings)", "")
            else:
                self.add(f"    def {self.name()}(self, {self.noun()}):")
                self.body("        ")
                self.add("        return self.settings", "")

    def test(self) -> None:
        asynchronous = self.rng.random() < 0.5
        start = "async def" if asynchronous else "def"
        self.add("", "@pytest.mark.asyncio" if asynchronous else "@pytest.mark.unit")
        self.add(f"{start} test_{self.name()}_{self.rng.randrange(9999)}(monkeypatch, client):")
        self.docstring("    ")
        self.body("    ")
        call = f"client.{self.name()}({self.words(2)!r})"
        self.add(f"    result = {'await ' if asynchronous else ''}{call}")
        self.add(f"    assert result['{self.noun()}'] == {self.rng.randrange(100)}, result", "")

    # -- the factory ----------------------------------------------------------------

    def right(self) -> None:
        self.add("", "def notify(ctx, kind):", "    manager = get_websocket_manager(ctx)")
        self.add("    return manager.emit_event(kind, {})", "")
        self.add("", "async def notify_later(ctx, kind):")
        self.add("    manager = await get_websocket_manager_async(user_context=ctx)")
        self.add("    await manager.emit_event(kind, {})", "")

    def wrong(self) -> int:
        """Several wrong awaits; how many."""
        self.add("", "async def connect(ctx, websocket):")
        self.add("    manager = await get_websocket_manager(user_context=ctx)")
        self.add("    await manager.add_connection(websocket)", "")
        if self.rng.random() < 0.5:
            return 1
        self.add("", "async def connect_all(contexts):", "    make = get_websocket_manager")
        self.add("    return [await make(context) for context in contexts]", "")
        return 2


_PLAIN: Final[list[Callable[[_Writer], None]]] = [
    _Writer.constants, _Writer.record, _Writer.function, _Writer.function, _Writer.function,
]  # fmt: skip
_ASYNC: Final[list[Callable[[_Writer], None]]] = [
    _Writer.coroutine, _Writer.service, _Writer.function, _Writer.record,
]  # fmt: skip
_TEST: Final[list[Callable[[_Writer], None]]] = [
    _Writer.test,
    _Writer.test,
    _Writer.test,
    _Writer.function,
]

#: What makes a file that does not parse, as it is met: an edit that was cut off or went wrong.
_BREAKS: Final[list[Callable[[str, random.Random], str]]] = [
    lambda text, rng: text + "\ndef unfinished(\n",
    lambda text, rng: text.replace("\n    ", "\n     ", 1) + "\nclass Empty:\n\nx = 1\n",
    lambda text, rng: text + "\n<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> branch\n",
    lambda text, rng: text[: rng.randrange(len(text) // 2, len(text))] + '\n"""\n',
    lambda text, rng: "```python\n" + text + "\n```\n",
]


def _parses(text: str) -> bool:
    try:
        compile(text, "generated", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def grow(folder: Path, files: int, seed: int = 1184) -> Counter[str]:
    """Write the tree. What is in it: ``files``, ``bytes``, ``broken``, ``factory``, ``wrong`` (awaits)."""
    rng = random.Random(seed)
    packages = [f"backend/app/part{n}" for n in range(max(1, files // FILES_A_FOLDER))]
    modules = [
        f"{rng.choice(packages).replace('/', '.')}.module{n}" for n in range(min(files, 2_000))
    ]
    sockets = folder / "backend" / "app" / "websocket_core.py"
    counts: Counter[str] = Counter(files=1)
    for number in range(files - 1):
        home = packages[number % len(packages)]
        kind = rng.choices(("plain", "async", "test", "init"), (30, 22, 40, 8))[0]
        writer = _Writer(rng, modules)
        target = min(LARGEST, int(rng.lognormvariate(0, SIGMA) * MEDIAN))
        if kind == "init":
            target = min(target, 600)
        writer.head()
        if kind == "test":
            writer.add("import pytest", "")
        uses = kind in ("async", "test") and rng.random() < FACTORY * 100 / 62
        broken = kind != "init" and rng.random() < BROKEN * 100 / 92
        if uses:
            counts["factory"] += 1
            writer.add("from backend.app.websocket_core import (", "    get_websocket_manager,")
            writer.add("    get_websocket_manager_async,", ")", "")
            writer.right()
            wrong = rng.random() < 0.25
            planted = writer.wrong() if wrong else 0
            counts["wrong"] += 0 if broken else planted
        pieces = {"plain": _PLAIN, "async": _ASYNC, "test": _TEST, "init": _PLAIN[:1]}[kind]
        while writer.size < target:
            rng.choice(pieces)(writer)
        text = "\n".join(writer.lines) + "\n"
        if broken:
            mended = text
            while _parses(mended):
                mended = rng.choice(_BREAKS)(text, rng)
            text = mended
            counts["broken"] += 1
        name = {"test": f"tests/test_module{number}.py", "init": f"sub{number}/__init__.py"}.get(
            kind, f"module{number}.py"
        )
        path = folder / home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        counts["files"] += 1
        counts["bytes"] += len(text)
    sockets.parent.mkdir(parents=True, exist_ok=True)
    sockets.write_text(
        "_managers = {}\n\n\ndef get_websocket_manager(user_context=None, mode=None):\n"
        "    return _managers[user_context]\n\n\n"
        "async def get_websocket_manager_async(user_context=None, mode=None):\n"
        "    return get_websocket_manager(user_context)\n"
    )
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="does not exist yet, or is empty")
    parser.add_argument("--files", type=int, default=25_000)
    parser.add_argument("--seed", type=int, default=1184)
    options = parser.parse_args()
    if options.folder.exists() and any(options.folder.iterdir()):
        parser.error(f"{options.folder} is not empty")
    counts = grow(options.folder, options.files, options.seed)
    print(", ".join(f"{value:,} {name}" for name, value in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

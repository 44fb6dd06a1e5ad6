"""The rules of the C sources, as functions from texts to violations.

Every rule takes ``{file name: text}`` and gives one line of text a violation,
so that a test can hand it a snippet that breaks the rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "src" / "_wsmanager"
VENDORED = "pythoncapi_compat.h"
MAX_FILE = 600  # lines
MAX_FUNCTION = 60  # lines, braces included

Sources = Mapping[str, str]


def project_sources() -> dict[str, str]:
    """Our C files; the vendored header is never edited and so never checked."""
    return {
        path.name: path.read_text()
        for path in sorted(FOLDER.glob("*.[ch]"))
        if path.name != VENDORED
    }


def bare(text: str) -> str:
    """The text with comments and literals blanked out, line by line as long as before."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match.group())

    pattern = r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    keep_includes = re.sub(r'(#\s*include\s+)"([^"]+)"', r"\1<\2>", text)
    return re.sub(pattern, blank, keep_includes, flags=re.S)


def functions(text: str) -> Iterator[tuple[str, int, str]]:
    """Name, first line and body of each function; braces of bodies stand in column 0."""
    lines = bare(text).split("\n")
    start = None
    for number, line in enumerate(lines):
        if line == "{" and start is None:
            start = number
        elif line == "}" and start is not None:
            head = " ".join(lines[max(0, start - 12) : start])
            names = re.findall(r"(\w+)\s*\((?:[^()]|\([^()]*\))*\)\s*$", head.rstrip())
            yield names[-1] if names else "?", start + 1, "\n".join(lines[start : number + 1])
            start = None


def noun(name: str) -> str:
    """A .c file and its header are one noun."""
    return name.rsplit(".", 1)[0]


def includes(sources: Sources) -> Iterator[tuple[str, str]]:
    for name, text in sources.items():
        for target in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.M):
            yield name, target


def layer_violations(
    sources: Sources, layers: Mapping[str, int], same_layer: set[tuple[str, str]]
) -> list[str]:
    """Arrows go down; within a layer only the pairs that are allowed by name."""
    found = []
    for name, target in includes(sources):
        a, b = noun(name), noun(target)
        if a == b:
            continue
        for unknown in {a, b} - layers.keys():
            found.append(f"{unknown}: has no layer in the table")
        if not {a, b} <= layers.keys():
            continue
        if layers[b] > layers[a]:
            found.append(f"{name} (layer {layers[a]}) includes {target} (layer {layers[b]}): up")
        elif layers[b] == layers[a] and (a, b) not in same_layer and layers[a] > 0:
            found.append(f"{name} includes {target}: same layer {layers[a]}")
    return found


def circle_violations(sources: Sources) -> list[str]:
    """Nouns that reach themselves through includes; one line a circle's member."""
    arrows: dict[str, set[str]] = {}
    for name, target in includes(sources):
        if noun(name) != noun(target):
            arrows.setdefault(noun(name), set()).add(noun(target))
    found = []
    for begin in sorted(arrows):
        seen: set[str] = set()
        todo = [begin]
        while todo:
            for after in arrows.get(todo.pop(), ()):
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        if begin in seen:
            found.append(f"{begin}: in a circle of includes, by way of {sorted(arrows[begin])}")
    return found


def length_violations(sources: Sources) -> list[str]:
    found = []
    for name, text in sources.items():
        lines = text.count("\n")
        if lines > MAX_FILE:
            found.append(f"{name}: {lines} lines")
        for function, line, body in functions(text):
            length = body.count("\n") + 1
            if length > MAX_FUNCTION:
                found.append(f"{name}:{line}: {function} has {length} lines")
    return found


MAY_ASK_VERSIONS = {"compat.h", "python.h", "lock.h", "module.c"}


def version_violations(sources: Sources) -> list[str]:
    """#if on the interpreter's version or build belongs into the files that are made for it."""
    found = []
    for name, text in sources.items():
        if name in MAY_ASK_VERSIONS:
            continue
        for number, line in enumerate(bare(text).split("\n"), 1):
            if re.match(r"\s*#\s*(el)?ifn?(def)?\b", line) and re.search(
                r"PY_VERSION_HEX|Py_GIL_DISABLED|PY_MINOR_VERSION", line
            ):
                found.append(f"{name}:{number}: {line.strip()}")
    return found


def allocator_violations(sources: Sources) -> list[str]:
    """set_nomemory hooks PyMem_* and PyObject_*, not malloc: a bare one escapes the memory tests."""
    found = []
    for name, text in sources.items():
        for number, line in enumerate(bare(text).split("\n"), 1):
            if re.search(r"(?<![\w.>])(malloc|calloc|realloc|free|strdup|alloca)\s*\(", line):
                found.append(f"{name}:{number}: {line.strip()}")
    return found


#: Tables that CPython's API takes by a pointer to non-const, and that are never written.
TABLE_TYPES = (
    "PyModuleDef", "PyMethodDef", "PyGetSetDef", "PyMemberDef", "PyType_Slot", "PyType_Spec",
    "PyModuleDef_Slot",
    "char",  # the names for PyArg_ParseTupleAndKeywords
)  # fmt: skip


def state_violations(sources: Sources) -> list[str]:
    """No state but the module's: no mutable static, no global variable."""
    found = []
    for name, text in sources.items():
        depth = 0
        for number, line in enumerate(bare(text).split("\n"), 1):
            statement = line.strip()
            if re.match(r"static\b", statement) and not re.match(
                r"static\s+(inline|const|_Noreturn)\b", statement
            ):
                words = statement.split()
                mutable = "(" not in statement.split("=")[0] and re.search(r"[;=\[]", statement)
                if mutable and len(words) > 1 and words[1] not in TABLE_TYPES:
                    found.append(f"{name}:{number}: {statement}")
            elif depth == 0 and re.match(
                r"(?!typedef|extern|struct|enum|#)\w[\w\s*]*\w\s*(=|;)", line
            ):
                words = statement.split()
                if words[0] not in TABLE_TYPES and words[0] not in ("const", "return", "static"):
                    found.append(f"{name}:{number}: {statement}")
            depth += line.count("{") - line.count("}")
    return found


#: What may be called between wsm_lock and wsm_unlock: moves pointers, counts up, raw memory.
HARMLESS = {
    "Py_NewRef", "Py_XNewRef", "Py_INCREF", "Py_XINCREF", "Py_REFCNT", "Py_TYPE",
    "PyTuple_GET_SIZE", "PyTuple_GET_ITEM", "PyList_GET_SIZE", "PyBytes_GET_SIZE",
    "PyBytes_AS_STRING", "PyUnicode_GET_LENGTH", "PyUnicode_Compare", "PyUnicode_CheckExact",
    "Py_ARRAY_LENGTH", "Py_UNREACHABLE", "Py_MIN", "Py_MAX", "Py_IsNone",
    "PyMem_RawMalloc", "PyMem_RawCalloc", "PyMem_RawRealloc", "PyMem_RawFree",
    "PyThreadState_Get",
}  # fmt: skip


def _words(body: str) -> Iterator[tuple[int, str]]:
    """Line offset and each brace, jump or call of a body."""
    for match in re.finditer(r"[{}]|\b(?:return|goto)\b|\b(\w+)\s*\(", body):
        yield body.count("\n", 0, match.start()), (match.group(1) or match.group())


def _runs_python(word: str) -> bool:
    return bool(re.match(r"_?Py[A-Z_]", word)) and word not in HARMLESS


def _dirty_functions(sources: Sources, harmless: set[str]) -> dict[str, str]:
    """Our functions that run Python, allocate objects, decref or lock, and by what; transitively."""
    bodies = {n: b for text in sources.values() for n, _, b in functions(text)}
    dirty: dict[str, str] = {}
    changed = True
    while changed:
        changed = False
        for name, body in bodies.items():
            if name in dirty or name in harmless:
                continue
            for _, word in _words(body):
                if word == name:
                    continue
                if _runs_python(word) or word == "wsm_lock" or word in dirty:
                    dirty[name] = word
                    changed = True
                    break
    return dirty


def _region_violations(
    name: str, body: str, line: int, dirty: Mapping[str, str], held: bool
) -> Iterator[str]:
    """Walk one body; an unlock in an inner block counts until that block ends."""
    depth = 0
    locked_by: int | None = 0 if held else None
    suspended: list[int] = []
    for offset, word in _words(body):
        where = f"{name}:{line + offset}"
        if word == "{":
            depth += 1
        elif word == "}":
            depth -= 1
            while suspended and depth < suspended[-1]:
                suspended.pop()
        elif word == "wsm_lock":
            if locked_by is not None and not suspended:
                yield f"{where}: a second lock"
            locked_by = depth
            suspended.clear()
        elif word == "wsm_unlock":
            if locked_by is not None and depth > locked_by:
                suspended.append(depth)
            else:
                locked_by = None
        elif locked_by is not None and not suspended:
            if word in ("return", "goto"):
                if not held:
                    yield f"{where}: {word} with the lock held"
            elif _runs_python(word):
                yield f"{where}: {word} with the lock held"
            elif word in dirty:
                yield f"{where}: {word} with the lock held; it calls {dirty[word]}"


def lock_violations(sources: Sources, harmless: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    """Between wsm_lock and wsm_unlock, and in every ``*_locked``: no jump, no Python, no decref.

    *harmless*: functions of ours that were looked at by hand, and why, at the
    place that names them.
    """
    dirty = _dirty_functions(sources, harmless)
    found = []
    for name, text in sources.items():
        if name == "lock.h":
            continue
        for function, line, body in functions(text):
            held = function.endswith("_locked")
            found += _region_violations(f"{name}({function})", body, line, dirty, held)
    return found


def destructor_violations(sources: Sources) -> list[str]:
    """tp_traverse, tp_clear and tp_dealloc take no lock: the world may be stopped, or half gone."""
    found = []
    for name, text in sources.items():
        for function, line, body in functions(text):
            if re.search(r"(_traverse|_clear|_dealloc|_finalize)$", function) and re.search(
                r"\bwsm_lock\s*\(", body
            ):
                found.append(f"{name}:{line}: {function} locks")
    return found


def macro_violations(sources: Sources) -> list[str]:
    """No macro hides a return or a jump."""
    found = []
    for name, text in sources.items():
        joined = re.sub(r"\\\n", "  ", bare(text))
        for line in joined.split("\n"):
            if re.match(r"\s*#\s*define\b", line) and re.search(r"\b(return|goto)\b", line):
                found.append(f"{name}: {line.split('(')[0].strip()}")
    return found

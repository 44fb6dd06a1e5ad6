"""The C sources keep the rules of the house; each rule is shown a snippet that it must catch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import sources as rules

pytestmark = pytest.mark.skipif(
    not rules.FOLDER.is_dir(), reason="the C sources are not beside these tests"
)

#: Arrows point down only. A .c file and its header are one noun.
LAYERS = {
    # ground
    "python": 0, "compat": 0, "pythoncapi_compat": 0, "lock": 0, "reflist": 0,
    # the module's own
    "state": 1, "args": 1,
    # containers
    "roster": 2, "ring": 2, "chain": 2, "front": 2, "frame": 2, "payload": 2, "waiters": 2,
    "settings": 2, "histogram": 2, "counters": 2, "position": 2, "loop": 2,
    # nouns
    "identity": 3, "verdict": 3, "event": 3, "results": 3, "channel": 3, "journal": 3,
    "acks": 3, "kept": 3, "wire": 3, "idle": 3, "limbo": 3, "sockets": 3, "reset": 3,
    "connection": 3, "manager": 3, "mailbox": 3, "registry": 3, "batch": 3,
    # verbs
    "delivery": 4, "fanout": 4, "acquire": 4, "check": 4, "driver": 4, "writer": 4, "evict": 4,
    "drive": 4, "pump": 4, "turn": 4, "parting": 4,
    "envelope": 4, "send": 4, "task": 4, "trace": 4, "once": 4, "stray": 4,
    # face
    "methods": 5, "connect": 5, "lookup": 5, "route": 5, "emit": 5, "module": 5,
    "disconnect": 5, "record": 5, "face": 5, "connection_type": 5, "dispatch": 5,
    "message": 5, "status": 5, "survey": 5, "broadcast": 5,
}  # fmt: skip

#: Within a layer, who may know whom; every pair for a reason.
SAME_LAYER = {
    ("lock", "python"),
    ("reflist", "python"),
    ("fanout", "delivery"),  # a fan-out gives a delivery
    ("counters", "histogram"),
    ("trace", "envelope"),  # what is traced is a letter
    ("dispatch", "trace"),
    ("module", "survey"),
    ("module", "broadcast"),
    ("broadcast", "methods"),
    ("registry", "connection"),  # the registry enters and removes connections
    ("connection", "event"),  # its outbox holds them
    ("connection", "channel"),  # its way to the transport
    ("channel", "event"),  # writes their frames
    ("channel", "wire"),  # by system calls
    ("wire", "event"),
    ("journal", "event"),  # keeps them
    ("acks", "event"),
    ("manager", "journal"),  # a user's stream
    ("manager", "acks"),
    ("once", "delivery"),  # a key stands for a delivery
    ("fanout", "once"),
    ("stray", "evict"),  # what is gone is removed
    ("results", "event"),  # a receipt is an event's tally
    ("manager", "connection"),  # a user's roster is of connections
    ("mailbox", "connection"),  # a loop's list is of connections
    ("mailbox", "wire"),  # and a byte wakes it
    ("registry", "manager"),
    ("registry", "mailbox"),
    ("registry", "identity"),
    ("registry", "kept"),  # what leaves the table is counted no more
    ("kept", "manager"),
    ("registry", "idle"),
    ("idle", "manager"),
    ("registry", "limbo"),
    ("limbo", "manager"),
    ("sockets", "registry"),
    ("reset", "registry"),
    ("fanout", "writer"),  # an idle connection is written at once
    ("fanout", "evict"),  # and one that is over its limit is removed
    ("acquire", "check"),  # a miss waits for the loop's check
    ("writer", "drive"),  # a library's own sends
    ("turn", "writer"),  # what waits is written
    ("parting", "writer"),  # also of who has left
    ("turn", "evict"),  # and who waits too long is removed
    ("writer", "pump"),  # and many of one event
    ("pump", "drive"),
    ("pump", "send"),
    ("drive", "driver"),  # a send that suspends is driven on
    ("drive", "send"),
    ("drive", "task"),
    ("writer", "evict"),
    ("driver", "evict"),
    ("driver", "send"),  # a driver steps sends
    ("driver", "task"),  # as the loop's current task
    ("send", "evict"),  # a send may tell that the peer is gone
    ("batch", "connection"),
    ("connect", "methods"),  # the methods of the manager's type, one file a topic
    ("lookup", "methods"),
    ("route", "methods"),
    ("emit", "methods"),
    ("emit", "dispatch"),  # an event and a message take the same way
    ("message", "dispatch"),
    ("message", "methods"),
    ("dispatch", "methods"),
    ("module", "status"),
    ("module", "methods"),
    ("module", "face"),
    ("module", "connection_type"),
    ("face", "methods"),
    ("disconnect", "methods"),
    ("connect", "record"),  # what is added may be a record
    ("disconnect", "record"),
}

#: Looked at by hand: private dicts with exact str or int keys, which run no Python,
#: and whose values are handed out, not dropped (a weak reference without a
#: callback may be: nothing runs when it goes).
UNDER_THE_LOCK = {
    "table_claim", "table_release", "table_suspend", "table_return", "table_empty",
    "table_enter", "table_leave", "table_forsake", "table_abandon", "table_remove", "table_route",
    "wsm_limbo_put", "wsm_limbo_peek", "wsm_limbo_take", "wsm_limbo_look",
}  # fmt: skip


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    found = rules.project_sources()
    assert len(found) > 20
    return found


def layer_rule(sources: rules.Sources) -> list[str]:
    return rules.layer_violations(sources, LAYERS, SAME_LAYER)


Rule = Callable[[rules.Sources], list[str]]
RULES: dict[str, Rule] = {
    "arrows point down": layer_rule,
    "no circle of includes": rules.circle_violations,
    "short files and functions": rules.length_violations,
    "versions are asked in one place": rules.version_violations,
    "one allocator": rules.allocator_violations,
    "no global state": rules.state_violations,
    "nothing happens under a lock": lambda sources: rules.lock_violations(sources, UNDER_THE_LOCK),
    "destructors take no lock": rules.destructor_violations,
    "macros do not jump": rules.macro_violations,
}


@pytest.mark.parametrize("name", RULES)
def test_the_sources_keep_the_rule(sources: dict[str, str], name: str) -> None:
    violations = RULES[name](sources)
    assert not violations, "\n".join(violations)


BODY = "static void\nf(WsmX *self)\n{{\n{}\n}}\n"
SNIPPETS: list[tuple[str, str, dict[str, str]]] = [
    ("arrows point down", "up", {"ring.c": '#include "registry.h"\n'}),
    ("arrows point down", "sideways", {"event.c": '#include "connection.h"\n'}),
    ("arrows point down", "unknown", {"novelty.c": '#include "state.h"\n'}),
    (
        "no circle of includes", "two",
        {"channel.c": '#include "mailbox.h"\n', "mailbox.h": '#include "channel.h"\n'},
    ),
    ("short files and functions", "file", {"a.c": "int x(void);\n" * 601}),
    ("short files and functions", "function", {"a.c": BODY.format("    g();\n" * 60)}),
    ("versions are asked in one place", "version", {"ring.c": "#if PY_VERSION_HEX >= 0x030C0000\n"}),
    ("versions are asked in one place", "gil", {"ring.h": "#  ifdef Py_GIL_DISABLED\n"}),
    ("versions are asked in one place", "elif", {"ring.h": "#elif PY_VERSION_HEX < 5\n"}),
    ("one allocator", "malloc", {"a.c": BODY.format("    p = malloc(5);")}),
    ("one allocator", "free", {"a.c": BODY.format("    free(self->x);")}),
    ("no global state", "counter", {"a.c": "static int counter;\n"}),
    ("no global state", "initialised", {"a.c": "static PyObject *cache = NULL;\n"}),
    ("no global state", "in a function", {"a.c": BODY.format("    static long n = 0;")}),
    ("no global state", "not even static", {"a.c": "int counter = 0;\n"}),
    ("no global state", "array", {"a.c": "static PyObject *cache[5];\n"}),
    (
        "nothing happens under a lock", "return",
        {"a.c": BODY.format("    wsm_lock(l);\n    if (x) {\n        return;\n    }\n    wsm_unlock(l);")},
    ),
    (
        "nothing happens under a lock", "goto",
        {"a.c": BODY.format("    wsm_lock(l);\n    goto done;\n    wsm_unlock(l);\ndone:")},
    ),
    (
        "nothing happens under a lock", "decref",
        {"a.c": BODY.format("    wsm_lock(l);\n    Py_DECREF(x);\n    wsm_unlock(l);")},
    ),
    (
        "nothing happens under a lock", "clear",
        {"a.c": BODY.format("    wsm_lock(l);\n    Py_CLEAR(self->x);\n    wsm_unlock(l);")},
    ),
    (
        "nothing happens under a lock", "call",
        {"a.c": BODY.format("    wsm_lock(l);\n    PyObject_CallNoArgs(f);\n    wsm_unlock(l);")},
    ),
    (
        "nothing happens under a lock", "object allocation",
        {"a.c": BODY.format("    wsm_lock(l);\n    x = PyList_New(0);\n    wsm_unlock(l);")},
    ),
    (
        "nothing happens under a lock", "through a function of ours",
        {
            "a.c": "static void\nhelper(void)\n{\n    Py_DECREF(x);\n}\n\n"
            + BODY.format("    wsm_lock(l);\n    helper();\n    wsm_unlock(l);")
        },
    ),
    (
        "nothing happens under a lock", "after an early unlock",
        {
            "a.c": BODY.format(
                "    wsm_lock(l);\n    if (x) {\n        wsm_unlock(l);\n        return;\n    }\n"
                "    Py_DECREF(x);\n    wsm_unlock(l);"
            )
        },
    ),
    (
        "nothing happens under a lock", "in a *_locked function",
        {"a.c": BODY.replace("f(", "f_locked(").format("    Py_XDECREF(x);")},
    ),
    (
        "nothing happens under a lock", "a second lock",
        {"a.c": BODY.format("    wsm_lock(l);\n    wsm_lock(m);\n    wsm_unlock(l);")},
    ),
    (
        "destructors take no lock", "dealloc",
        {"a.c": BODY.replace("f(", "x_dealloc(").format("    wsm_lock(l);\n    wsm_unlock(l);")},
    ),
    ("macros do not jump", "return", {"a.h": "#define TRY(x) \\\n    if ((x) < 0) \\\n        return -1\n"}),
    ("macros do not jump", "goto", {"a.h": "#define FAIL goto done\n"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "what", "snippet"), SNIPPETS, ids=[f"{rule}: {what}" for rule, what, _ in SNIPPETS]
)
def test_control_the_rule_catches(rule: str, what: str, snippet: dict[str, str]) -> None:
    assert RULES[rule](snippet)


GOOD = {
    "ring.c": '#include "ring.h"\n\n#include "python.h"\n',
    "a.c": BODY.format(
        "    /* return; malloc(5) in a comment */\n"
        "    wsm_lock(l);\n"
        "    if (x) {\n        wsm_unlock(l);\n        return;\n    }\n"
        "    self->x = Py_NewRef(y);\n"
        "    wsm_unlock(l);\n"
        '    Py_DECREF(x);\n    PyMem_RawFree(p);\n    log("free(x) goto");'
    )
    + "\nstatic const int table[] = {1};\nstatic PyMethodDef methods[] = {{0}};\n"
    "extern PyType_Spec spec;\nstatic int declared(void);\n",
}


@pytest.mark.parametrize("name", [name for name in RULES if name != "arrows point down"])
def test_the_rule_lets_good_code_through(name: str) -> None:
    assert RULES[name](GOOD) == []


def test_every_function_is_seen() -> None:
    """The rules look at bodies; a layout that hid one from them would make them blind."""
    import re

    for name, text in rules.project_sources().items():
        bodies = len(list(rules.functions(text)))
        openings = len(re.findall(r"^\{$", rules.bare(text), re.M))
        assert bodies == openings, name
        hidden = re.findall(r"^[^\s#].*\)[ \t]*\{[ \t]*$", rules.bare(text), re.M)
        assert not hidden, f"{name}: a brace that is not in column 0: {hidden}"

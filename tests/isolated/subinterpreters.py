"""Create, use and destroy sub-interpreters: each with a registry of its own, or an ImportError.

argv[1]: how many. Prints ``apart N refused M``; exits 1 on anything else.
"""

import sys

import wsmanager

try:
    import _interpreters as interpreters  # 3.13 on
except ImportError:
    import _xxsubinterpreters as interpreters

COUNT = int(sys.argv[1])
# The script ends normally in both good cases and tells which by a file descriptor.
SCRIPT = """
import os
try:
    import wsmanager
except ImportError:
    os.write({fd}, b"r")
else:
    before = wsmanager.get_manager_registry_status()["total_registered_managers"]
    import asyncio

    class Socket:
        texts = []

        async def send_text(self, text):
            self.texts.append(text)

    async def main():
        manager = wsmanager.get_websocket_manager("shared-name")
        manager.add_connection(Socket())
        await manager.emit_event("inner", {{}})
        return len(manager)

    good = before == 0 and asyncio.run(main()) == 1 and len(Socket.texts) == 1
    os.write({fd}, b"a" if good else b"x")
"""


def run(script):
    """Run in a fresh interpreter; any failure in there ends this process."""
    interpreter = interpreters.create()
    try:
        result = interpreters.run_string(interpreter, script)
        if result is not None:  # 3.13 on: a description of the exception
            raise RuntimeError(result)
    finally:
        interpreters.destroy(interpreter)


def main():
    import os

    manager = wsmanager.get_websocket_manager("shared-name")
    reading, writing = os.pipe()
    for _ in range(COUNT):
        run(SCRIPT.format(fd=writing))
        assert wsmanager.get_websocket_manager("shared-name") is manager
        assert len(manager) == 0, "a connection of a sub-interpreter is seen outside"
    os.close(writing)
    marks = os.read(reading, 1 << 16)
    assert len(marks) == COUNT, marks
    assert set(marks) <= set(b"ar"), marks
    print(f"apart {marks.count(b'a')} refused {marks.count(b'r')}")


main()

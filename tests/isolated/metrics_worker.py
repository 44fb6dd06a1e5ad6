"""One worker of several: emits what it is told, publishes, says so, waits to be ended.

metrics_worker.py SENT OPEN: delivers SENT events, and keeps OPEN connections open; one more was
closed by its client with 1001. Lines on
stdin: ``scrape`` prints the aggregated metrics, ``fork`` does the same work in a child.
"""

import asyncio
import os
import sys

import wsmanager
from wsmanager import _wsmanager as core
from wsmanager import metrics


class Socket:
    async def send_text(self, text: str) -> None:
        pass


def work(sent: int, keep: int) -> None:
    loop = asyncio.new_event_loop()

    async def main() -> None:
        manager = wsmanager.get_websocket_manager("ann")
        connections = [manager.add_connection(Socket()) for _ in range(max(keep, 1))]
        for _ in range(sent // len(connections)):
            await manager.emit_event("agent_started", {})
        for connection in connections[keep:]:
            manager.remove_connection(connection)
        gone = Socket()
        gone.close_code = 1001
        manager.remove_connection(manager.add_connection(gone))

    loop.run_until_complete(main())
    Kept.loops.append(loop)


class Kept:
    loops: list[asyncio.AbstractEventLoop] = []


def main() -> None:
    publisher = metrics.install(interval=0.05)
    assert metrics.install() is publisher
    work(int(sys.argv[1]), int(sys.argv[2]))
    publisher.publish()
    print("ready", os.getpid(), flush=True)
    for line in sys.stdin:
        if line == "scrape\n":
            from wsmanager import _prometheus

            kind, text = _prometheus.aggregated()
            assert kind.startswith("text/plain")
            print(text.decode() + "# EOF", flush=True)
        elif line == "fork\n":
            child = os.fork()
            if child == 0:
                assert core._counters()["sent"]["agent_started"] == 0
                work(int(sys.argv[1]), int(sys.argv[2]))
                print("ready", os.getpid(), flush=True)
                publisher._thread.join()  # the child's own, which the fork started anew
            continue
        elif line == "end\n":
            break
    for loop in Kept.loops:
        loop.close()


main()

"""Routes for whoever runs the service: health, readiness, settings, counters, a live page.

Nothing is reachable unless it is mounted::

    app.mount("/ops", OperationsApp(token=os.environ["OPS_TOKEN"]))   # FastAPI, Starlette

or served by itself, in a thread of its own if a stuck event loop is to be seen
from outside (it cannot answer for itself)::

    server = uvicorn.Server(uvicorn.Config(OperationsApp(token=...), port=9090))
    threading.Thread(target=server.run, daemon=True).start()
"""

from __future__ import annotations

from .app import OperationsApp

__all__ = ["OperationsApp"]

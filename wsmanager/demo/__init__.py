"""Agent events to real WebSocket clients of a real server: ``python -m wsmanager.demo``.

``app.py`` is the application, as a user of the package would write it;
``agent.py`` the agent, which works in a thread; ``server.py`` runs both under
uvicorn; ``tabs.py`` are the browsers, here clients of the ``websockets``
library; ``proof.py`` runs two users with two tabs each and checks what they got.
For a real browser: ``page.html`` shows two tabs side by side, each of them
``tab.html``, and the server's figures; ``frozen.py`` is a tab that hangs.
"""

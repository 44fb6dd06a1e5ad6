"""Two users with two tabs each, their agents at work at once: who got what?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from wsmanager import AGENT_EVENTS

from .tabs import Tab, open_tab, post

USERS = {"ada": "How many words has this question?", "grace": "And this one, which is longer?"}
TABS_EACH = 2
RUN_SECONDS = 20.0
GRACE_SECONDS = 0.3


async def run(url: str) -> tuple[list[Tab], dict[str, str]]:
    """All the tabs with what they got, and the run of each user."""
    sessions = {name: await post(f"{url}/login", {"name": name}) for name in USERS}
    tabs = [
        await open_tab(url, session, number)
        for session in sessions.values()
        for number in range(1, TABS_EACH + 1)
    ]
    listening = [
        asyncio.ensure_future(tab.listen(AGENT_EVENTS[-1], RUN_SECONDS, GRACE_SECONDS))
        for tab in tabs
    ]
    started = await asyncio.gather(
        *(
            post(f"{url}/run", {"question": USERS[name]}, session["token"])
            for name, session in sessions.items()
        )
    )
    await asyncio.gather(*listening)
    await asyncio.gather(*(tab.socket.close() for tab in tabs))
    runs = {
        session["user_id"]: answer["run_id"]
        for session, answer in zip(sessions.values(), started, strict=True)
    }
    return tabs, runs


def table(tabs: list[Tab]) -> Iterator[str]:
    """What each tab got, in the order it got it."""
    line = "{:<12} {:>3}  {:>2}  {:<16} {:>12}".format
    yield line("user", "tab", "#", "event", "ms from emit")
    for tab in tabs:
        for place, event in enumerate(tab.events, 1):
            yield line(tab.user_id, tab.number, place, event.type, f"{event.ms:.3f}")


def foreign(tabs: list[Tab]) -> int:
    """Events that came to another user than theirs, by the server's word or by the agent's."""
    return sum(
        event.user_id != tab.user_id or event.owner != tab.user_id
        for tab in tabs
        for event in tab.events
    )


def faults(tabs: list[Tab], runs: dict[str, str]) -> Iterator[str]:
    """Each thing that is not as it must be."""
    for tab in tabs:
        where = f"tab {tab.number} of {tab.user_id}"
        got = [event.type for event in tab.events]
        if got != list(AGENT_EVENTS):
            yield f"{where} got {', '.join(got) or 'nothing'}; due were {', '.join(AGENT_EVENTS)}"
        if any(event.run_id != runs[tab.user_id] for event in tab.events):
            yield f"{where} got an event of another run than {runs[tab.user_id]}"
        numbers = [int(event.id.partition(":")[2]) for event in tab.events]
        if numbers != sorted(set(numbers)):
            yield f"{where} got event numbers {numbers}, which do not rise"
    for user_id in runs:
        ids = [[event.id for event in tab.events] for tab in tabs if tab.user_id == user_id]
        if any(each != ids[0] for each in ids):
            yield f"the tabs of {user_id} got different events"
    if foreign(tabs):
        yield f"{foreign(tabs)} events came to a user they were not for"

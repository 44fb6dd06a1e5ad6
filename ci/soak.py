"""Print pytest's results of the soak tests as a page: the machine, the date, and a table.

Usage: soak.py RESULTS.XML
"""

from __future__ import annotations

import datetime
import os
import platform
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path


def processor() -> str:
    """The processor's name, and how many of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} x {names[0] if names else platform.machine()}"


def memory() -> str:
    """The machine's memory."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{size / 2**30:.0f} GiB"


def outcome(case: ET.Element) -> str:
    for tag in ("failure", "error", "skipped"):
        if case.find(tag) is not None:
            return tag
    return "passed"


def said(case: ET.Element) -> list[str]:
    """What the test printed, without pytest's own captions."""
    text = (case.findtext("system-out") or "").splitlines()
    return [line for line in text if line.strip() and not line.startswith("-----")]


def table(root: ET.Element) -> Iterator[str]:
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield "   :widths: 40 10 10 40"
    yield ""
    yield "   * - Test\n     - Seconds\n     - Outcome\n     - Figures"
    for case in root.iter("testcase"):
        name = f"{case.get('classname', '').rsplit('.', 1)[-1]}: {case.get('name', '')}"
        seconds = float(case.get("time", "0"))
        figures = said(case) or [""]
        yield f"   * - ``{name}``\n     - {seconds:.0f}\n     - {outcome(case)}"
        yield "     - | " + "\n       | ".join(figures) if figures[0] else "     -"


def main() -> None:
    root = ET.parse(sys.argv[1]).getroot()
    today = datetime.datetime.now(datetime.timezone.utc).date()
    print("The long forms")
    print("==============\n")
    print("What ``make soak`` measured: the tests marked ``soak``, each the long form of a promise")
    print("that the suite keeps in a short one.\n")
    print(f":Date: {today}")
    print(f":Machine: {processor()}, {memory()}, {platform.system()} {platform.release()}")
    print(f":Load at the end: {os.getloadavg()[0]:.1f}")
    print(f":Python: {platform.python_implementation()} {platform.python_version()}\n")
    print("\n".join(table(root)))


main()

"""Benchmarks of wsmanager against its peers: ``python -m benchmarks``.

One table answers the questions S1 to S11, one file a question
(``s1_hit.py`` ... ``s11_leave.py``). A row is printed, never asserted: its
``holds`` says whether the bar of :mod:`benchmarks.bars` is met on this
machine, in this run.
"""

import importlib.machinery
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _prefer_a_built_wsmanager() -> None:
    """Let an installed wsmanager win over a source tree without a compiled core.

    Run from the project's root, Python looks there first, and would find the
    package of the tree although its extension may be built elsewhere only.
    """
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    if any((ROOT / "wsmanager" / f"_wsmanager{suffix}").exists() for suffix in suffixes):
        return
    here = [entry for entry in sys.path if Path(entry or ".").resolve() == ROOT]
    sys.path[:] = [entry for entry in sys.path if entry not in here] + here


_prefer_a_built_wsmanager()

"""Whether the package that is imported is the one that is installed, and the only one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import machinery, metadata

import wsmanager

from .finding import Finding

__all__ = ["check"]


def check() -> Iterator[Finding]:
    """Shadowed and duplicate installs, trees without the compiled core, versions that differ."""
    here = os.path.realpath(os.path.dirname(wsmanager.__file__))
    yield Finding(
        "install",
        "info",
        f"wsmanager {wsmanager.__version__} is imported from {here}",
        details={"version": wsmanager.__version__, "path": here},
    )
    for folder in _others(here):
        if has_core(folder):
            yield Finding(
                "install-duplicate",
                "warning",
                f"another wsmanager is on the path: {folder}",
                "uninstall one of the two: which is imported depends on where Python is started",
                {"path": folder},
            )
        else:
            yield Finding(
                "install-without-core",
                "warning",
                f"{folder} has no compiled core: where it comes first on the path, the import fails",
                "start Python elsewhere than in the source tree, or build the core there: "
                "pip install -e .",
                {"path": folder},
            )
    yield from _distributions(here)


def has_core(folder: str) -> bool:
    """Whether the package in *folder* has a core that this interpreter could load."""
    return any(
        os.path.isfile(os.path.join(folder, "_wsmanager" + suffix))
        for suffix in machinery.EXTENSION_SUFFIXES
    )


def _others(here: str) -> list[str]:
    """Every folder ``wsmanager`` with an ``__init__`` in a place that imports are looked for, but *here*."""
    places = [os.getcwd() if entry == "" else entry for entry in sys.path]
    places += filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    places.append(os.getcwd())
    found = (os.path.realpath(os.path.join(place, "wsmanager")) for place in places)
    return list(
        dict.fromkeys(
            folder
            for folder in found
            if folder != here and os.path.isfile(os.path.join(folder, "__init__.py"))
        )
    )


def _distributions(here: str) -> Iterator[Finding]:
    found: dict[str, str] = {}
    for distribution in metadata.distributions(name="wsmanager"):
        place = os.path.realpath(str(distribution.locate_file("")))
        found.setdefault(place, distribution.version)
    if len(found) > 1:
        listed = ", ".join(f"{version} in {place}" for place, version in found.items())
        yield Finding(
            "install-metadata-duplicate",
            "warning",
            f"wsmanager is installed {len(found)} times: {listed}",
            "pip uninstall wsmanager until nothing is left, then install it once",
            {"installed": found},
        )
    elif not found:
        yield Finding(
            "install-uninstalled",
            "info",
            "wsmanager is not installed, only on the path: the command `wsmanager` and the "
            "versions of the extras are missing",
            "pip install wsmanager",
        )
    for place, version in found.items():
        if version != wsmanager.__version__:
            yield Finding(
                "install-version",
                "warning",
                f"version {wsmanager.__version__} is imported, and {version} is installed in {place}",
                "install anew; a stale build or a second copy comes first on the path",
                {"imported": wsmanager.__version__, "installed": version},
            )

"""Check what an sdist and a wheel hold: the sdist everything, the wheel the package only.

Usage: check_dist.py TREE SDIST WHEEL
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path, PurePosixPath

# What else belongs to the package's folder; anything else there is a stray.
PACKAGE_SUFFIXES = {".py", ".pyi", ".typed", ".html", ".css", ".js", ".ts", ".json"}


def tree_files(tree: Path) -> set[str]:
    """The files of the source tree, which all belong into the sdist."""
    return {
        str(path.relative_to(tree))
        for path in tree.rglob("*")
        if path.is_file() and "wsmanager.egg-info" not in path.parts
    }


def sdist_files(sdist: Path) -> set[str]:
    """The files of the sdist, without its own top folder and what the build adds."""
    with tarfile.open(sdist) as archive:
        names = {
            str(PurePosixPath(*PurePosixPath(m.name).parts[1:])) for m in archive if m.isfile()
        }
    return {n for n in names if n not in {"PKG-INFO", "setup.cfg"} and "egg-info" not in n}


def exported_symbols(library: bytes) -> set[str]:
    """The symbols a shared library defines for others."""
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(library)
        file.flush()
        listing = subprocess.run(
            ["nm", "-D", "--defined-only", file.name], stdout=subprocess.PIPE, check=True, text=True
        ).stdout
    return {line.split()[-1] for line in listing.splitlines()} - {"_init", "_fini"}


def wheel_faults(wheel: Path, files: set[str]) -> Iterator[str]:
    """What is wrong with the wheel, given the files of the source tree."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        cores = [n for n in names if re.fullmatch(r"wsmanager/_wsmanager\.[\w.-]+\.so", n)]
        (metadata_name,) = (n for n in names if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(metadata_name).decode())
        symbols = exported_symbols(archive.read(cores[0])) if cores else set()

    if len(cores) != 1:
        yield f"the wheel holds {len(cores)} compiled cores: {cores}"
    if symbols != {"PyInit__wsmanager"}:
        yield f"the core exports {sorted(symbols)}; it must export PyInit__wsmanager alone"
    info = str(PurePosixPath(metadata_name).parent)
    package = {n for n in names if not n.startswith(info + "/")} - set(cores)
    for name in sorted(package):
        if not name.startswith("wsmanager/") or PurePosixPath(name).suffix not in PACKAGE_SUFFIXES:
            yield f"the wheel holds {name}"
    for name in sorted(n for n in files - package if n.startswith("wsmanager/")):
        yield f"the wheel lacks {name}"
    if f"{info}/licenses/LICENSE" not in names:
        yield "the wheel lacks the licence"
    needed = [r for r in metadata.get_all("Requires-Dist", []) if "extra ==" not in r]
    if needed:
        yield f"the package has dependencies: {needed}"
    if metadata["License-Expression"] != "MIT":
        yield f"the licence is {metadata['License-Expression']!r}"


def main() -> None:
    tree, sdist, wheel = map(Path, sys.argv[1:])
    files = tree_files(tree)
    faults = [f"the sdist lacks {name}" for name in sorted(files - sdist_files(sdist))]
    faults += [f"the sdist holds {name}" for name in sorted(sdist_files(sdist) - files)]
    faults += wheel_faults(wheel, files)
    for fault in faults:
        print(f"check_dist: {fault}")
    if faults:
        sys.exit(1)
    print(f"check_dist: {sdist.name} and {wheel.name} hold what they should")


main()

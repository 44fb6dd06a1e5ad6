"""Print a name for what a wheel of the tree would be made from: same name, same wheel.

Usage: fingerprint.py TREE COMPILER
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

FILES = ("setup.py", "pyproject.toml", "README.rst", "LICENSE")
FOLDERS = ("src", "wsmanager")
SWITCHES = (
    "ARCHFLAGS",
    "CFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "WSMANAGER_COVERAGE",
    "WSMANAGER_DEBUG",
    "WSMANAGER_PLANT",
    "WSMANAGER_SANITIZE",
    "WSMANAGER_WERROR",
)


def sources(tree: Path) -> Iterator[Path]:
    """The files a wheel is made from, in a fixed order."""
    for name in FILES:
        yield tree / name
    for name in FOLDERS:
        for path in sorted((tree / name).rglob("*")):
            compiled = path.suffix in {".so", ".pyc"} or "__pycache__" in path.parts
            if path.is_file() and not compiled:
                yield path


def parts(tree: Path, compiler: str) -> Iterator[bytes]:
    """All that the wheel depends on, each part told apart from the next."""
    yield f"{sys.version} {sysconfig.get_config_var('SOABI')}".encode()
    yield subprocess.run(
        [*shlex.split(compiler), "--version"], stdout=subprocess.PIPE, check=True
    ).stdout
    for name in SWITCHES:
        yield f"{name}={os.environ.get(name, '')}".encode()
    for path in sources(tree):
        yield str(path.relative_to(tree)).encode()
        yield path.read_bytes()


def main() -> None:
    tree, compiler = sys.argv[1:]
    digest = hashlib.sha256()
    for part in parts(Path(tree), compiler):
        digest.update(len(part).to_bytes(8, "big") + part)
    print(digest.hexdigest()[:20])


main()

"""Compiles the C programs of the benchmark with the machine's own compiler."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

_SOURCES = Path(__file__).parent / "native"


class NoCompiler(RuntimeError):
    """There is no C compiler, so nothing that needs the C client can be measured."""


def compiler() -> str:
    """Return the C compiler: ``$CC``, Python's own, ``cc`` or ``gcc``."""
    for name in (os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang"):
        if name and shutil.which(name.split()[0]):
            return name
    raise NoCompiler("no C compiler was found: install gcc or clang, or set CC")


@functools.cache
def program(name: str) -> Path:
    """Compile ``native/<name>.c`` and return the program.

    It is kept in the directory for temporary files under a name made of its
    source and the compiler, so that it is compiled again only if one changed.
    """
    cc = compiler()
    source = _SOURCES / f"{name}.c"
    digest = hashlib.sha256(cc.encode())
    for file in (source, _SOURCES / "wire.h"):
        digest.update(file.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"wsmanager-benchmarks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / f"{name}-{digest.hexdigest()[:16]}"
    if not target.exists():
        fresh = target.with_suffix(f".{os.getpid()}")
        command = [*cc.split(), "-O2", "-std=gnu11", "-o", str(fresh), str(source)]
        subprocess.run(command, check=True)
        fresh.replace(target)
    return target

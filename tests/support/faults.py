"""The library that makes the core's system calls fail, and counts them (faultio.c)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).with_name("faultio.c")


def compile_faultio(folder: Path) -> Path | None:
    """The library, compiled into *folder*; None without a C compiler."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    if shutil.which(compiler[0]) is None:
        return None
    library = folder / "faultio.so"
    warnings = ["-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        [*compiler, *warnings, "-shared", "-fPIC", str(SOURCE), "-ldl", "-o", str(library)],
        check=True,
        capture_output=True,
        text=True,
    )
    return library


def preload(library: Path) -> dict[str, str]:
    """The environment of a child that loads *library* first; a sanitizer's runtime stays before it."""
    return {"LD_PRELOAD": " ".join(filter(None, [os.environ.get("LD_PRELOAD"), str(library)]))}

"""Build of the C extension; everything else about the package is in pyproject.toml.

Switches, all by environment variable, none needed for an ordinary build:

``WSMANAGER_WERROR=1``
    A compiler warning is an error, from our sources and the vendored header.
``WSMANAGER_DEBUG=1``
    ``-O0 -g3`` and every ``assert`` of the core at work.
``WSMANAGER_SANITIZE=address,undefined`` or ``thread``
    Sanitizers, with asserts. The sanitizer's runtime must be loaded before
    Python is (``LD_PRELOAD``); ``make sanitize`` does so.
``WSMANAGER_COVERAGE=1``
    gcov counters, unoptimised. ``make coverage`` uses it.
``WSMANAGER_PLANT=NAME``
    For tests only, never for use: compiles with ``-DWSM_PLANT_NAME``, which
    puts one known bug into the core. The safety gates are tried on such
    builds: a gate that lets the planted bug pass is broken.
"""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE_DIR = "src/_wsmanager"

BASE_FLAGS = [
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wstrict-prototypes",
    "-Wvla",
    "-fvisibility=hidden",
    "-fno-plt",
]

SANITIZERS = {"address", "undefined", "leak", "thread"}


def switch(name: str) -> bool:
    """Whether the environment variable *name* is set to something other than 0."""
    return os.environ.get(name, "") not in ("", "0")


def sanitize_flags(names: str) -> list[str]:
    """Flags, for the compiler and the linker alike, of a comma-separated list of sanitizers."""
    wanted = [name.strip() for name in names.split(",")]
    unknown = sorted(set(wanted) - SANITIZERS)
    if unknown:
        raise SystemExit(
            f"WSMANAGER_SANITIZE={names}: {', '.join(map(repr, unknown))} is not one of "
            f"{', '.join(sorted(SANITIZERS))}"
        )
    if "thread" in wanted and len(wanted) > 1:
        raise SystemExit("WSMANAGER_SANITIZE: 'thread' cannot be combined with another sanitizer")
    return [
        "-fsanitize=" + ",".join(wanted),
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
    ]


def plant_flag(name: str) -> str:
    """The macro that puts the bug called *name* into a build for the controls of the gates."""
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
        raise SystemExit(f"WSMANAGER_PLANT={name}: expected a name in capitals, such as UAF")
    return f"-DWSM_PLANT_{name}"


def build_flags() -> tuple[list[str], list[str]]:
    """The compiler's and the linker's flags that the environment's switches ask for."""
    compile_flags = list(BASE_FLAGS)
    link_flags: list[str] = []
    sanitizers = os.environ.get("WSMANAGER_SANITIZE", "")

    if switch("WSMANAGER_DEBUG"):
        compile_flags += ["-O0", "-g3", "-UNDEBUG"]
    elif switch("WSMANAGER_COVERAGE"):
        compile_flags += ["-O0", "-g", "-UNDEBUG"]
    elif sanitizers:
        compile_flags += ["-O1", "-g", "-UNDEBUG"]
    else:
        compile_flags += ["-O3"]

    if sanitizers:
        flags = sanitize_flags(sanitizers)
        compile_flags += flags
        link_flags += flags
    if switch("WSMANAGER_COVERAGE"):
        compile_flags += ["--coverage", "-fprofile-update=atomic"]
        link_flags += ["--coverage"]
    if switch("WSMANAGER_WERROR"):
        # CPython's own headers are not clean under these warnings, and are not ours to mend.
        compile_flags += ["-Werror", "-isystem", sysconfig.get_path("include")]
    plant = os.environ.get("WSMANAGER_PLANT", "")
    if plant:
        compile_flags.append(plant_flag(plant))
    return compile_flags, link_flags


class BuildExt(build_ext):
    """``build_ext`` that asks each compiler for what it is good at.

    clang checks the locking rules, which gcc cannot; gcc sees all the files of
    a release build at once when it links, so that calls between them cost
    nothing (clang would need a linker that not everyone has).
    """

    def build_extensions(self) -> None:
        clang = self._compiler_is_clang()
        for extension in self.extensions:
            if clang:
                extension.extra_compile_args.append("-Wthread-safety")
            elif "-O3" in extension.extra_compile_args:
                extension.extra_compile_args.append("-flto=auto")
                extension.extra_link_args += ["-O3", "-flto=auto"]
        super().build_extensions()

    def _compiler_is_clang(self) -> bool:
        command = getattr(self.compiler, "compiler_so", None)
        if not command:
            return False
        macros = subprocess.run(
            [*command, "-dM", "-E", "-x", "c", os.devnull],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        ).stdout
        return b"__clang__" in macros


compile_args, link_args = build_flags()

setup(
    ext_modules=[
        Extension(
            "wsmanager._wsmanager",
            sources=sorted(glob(f"{SOURCE_DIR}/*.c")),
            depends=["setup.py", *sorted(glob(f"{SOURCE_DIR}/*.h"))],
            include_dirs=[SOURCE_DIR],
            extra_compile_args=compile_args,
            extra_link_args=link_args,
        )
    ],
    cmdclass={"build_ext": BuildExt},
)

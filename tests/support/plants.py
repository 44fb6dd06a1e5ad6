"""Builds of the core with one known bug in: the controls of the safety gates.

A gate that stays green on such a build is broken. Only the files that mention
the plant are compiled anew, so a control costs a second, not a whole build.
"""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import wsmanager

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = PROJECT / "src" / "_wsmanager"


class PlantMissing(AssertionError):
    """The core's source has no place for the named bug."""


class Nursery:
    """Makes planted packages under *work*; one a session."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.compiler = (sysconfig.get_config_var("CC") or "cc").split()
        self._made: dict[str, Path] = {}

    @property
    def available(self) -> bool:
        return shutil.which(self.compiler[0]) is not None and SOURCES.is_dir()

    def _compile(self, source: Path, target: Path, flags: list[str]) -> None:
        if target.exists():
            return
        include = sysconfig.get_path("include")
        command = [
            *self.compiler, "-c", "-std=c11", "-O1", "-g", "-fPIC", "-fvisibility=hidden",
            "-UNDEBUG", f"-I{SOURCES}", f"-I{include}", *flags, str(source), "-o", str(target),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, text=True)

    def _objects(self, plant: str | None) -> list[Path]:
        macros = [f"WSM_PLANT_{name}" for name in (plant.split("+") if plant else [])]
        texts = {path: path.read_text() for path in sorted(SOURCES.glob("*.[ch]"))}
        for macro in macros:
            if not any(macro in text for text in texts.values()):
                raise PlantMissing(f"no {macro} in {SOURCES.name}: this control cannot be run")
        in_header = any(
            macro in text for path, text in texts.items() if path.suffix == ".h" for macro in macros
        )
        jobs: list[tuple[Path, Path, list[str]]] = []
        for source, text in texts.items():
            if source.suffix != ".c":
                continue
            if plant and (in_header or any(macro in text for macro in macros)):
                flags = [f"-D{macro}" for macro in macros]
                jobs.append((source, self.work / f"{source.stem}.{plant}.o", flags))
            else:
                jobs.append((source, self.work / f"{source.stem}.o", []))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda job: self._compile(*job), jobs))
        return [target for _, target, _ in jobs]

    def package(self, plant: str | None) -> Path:
        """A folder for PYTHONPATH with the package and the core that has the bug *plant*.

        Several are joined by a plus sign.
        """
        name = plant or "none"
        if name in self._made:
            return self._made[name]
        folder = self.work / f"package-{name}"
        installed = Path(wsmanager.__file__).parent
        shutil.copytree(
            installed,
            folder / "wsmanager",
            ignore=shutil.ignore_patterns("_wsmanager*.so", "_wsmanager*.pyd", "__pycache__"),
        )
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        library = folder / "wsmanager" / f"_wsmanager{suffix}"
        objects = [str(path) for path in self._objects(plant)]
        subprocess.run(
            [*self.compiler, "-shared", *objects, "-lm", "-lpthread", "-o", str(library)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        self._made[name] = folder
        return folder

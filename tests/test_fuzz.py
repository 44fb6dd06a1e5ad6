"""B5 in its short form: libFuzzer over the parsers and writers in C, and its planted bugs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.sanitizers import SANITIZED

PROJECT = Path(__file__).resolve().parents[1]
SCRIPT = PROJECT / "ci" / "fuzz.sh"


def clang_with_fuzzer(folder: Path) -> str | None:
    """A clang that links libFuzzer; None where there is none."""
    probe = folder / "probe.c"
    probe.write_text("int LLVMFuzzerTestOneInput(void) { return 0; }\n")
    for name in ["clang", *(f"clang-{n}" for n in range(21, 13, -1))]:
        path = shutil.which(name)
        if path is not None:
            command = [path, "-fsanitize=fuzzer", str(probe), "-o", str(folder / "probe")]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return path
    return None


@pytest.mark.timeout(400)
@pytest.mark.skipif(not SCRIPT.is_file(), reason="the fuzz targets are not beside these tests")
@pytest.mark.skipif(SANITIZED, reason="the targets bring sanitizers of their own")
def test_what_is_parsed_in_c_has_the_answers_of_its_oracle(tmp_path: Path) -> None:
    clang = clang_with_fuzzer(tmp_path)
    if clang is None:
        pytest.skip("no clang with libFuzzer (Debian: clang, libclang-rt-14-dev) is here")
    environment = {
        **os.environ,
        "CLANG": clang,
        "PYTHON": sys.executable,
        "WORK": str(tmp_path / "w"),
    }
    done = subprocess.run(
        [str(SCRIPT), "200000"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the planted bug is found") == 3

"""What is being measured right now, on standard error."""

from __future__ import annotations

import shutil
import sys
import time


class Progress:
    """One line that is rewritten on a terminal, one line a step elsewhere."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._step = ""

    def step(self, text: str) -> None:
        """Begin a step; it is shown on a line of its own."""
        self._step = text
        self._write(text, newline=not self._terminal)

    def detail(self, text: str) -> None:
        """Show what the step does at the moment; on a terminal only."""
        if self._terminal:
            self._write(f"{self._step}: {text}", newline=False)

    def done(self) -> None:
        """Clear the line."""
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _write(self, text: str, *, newline: bool) -> None:
        line = f"[{time.monotonic() - self._start:5.0f} s] {text}"
        if newline:
            sys.stderr.write(line + "\n")
        else:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write("\r\x1b[K" + line[:width])
        sys.stderr.flush()

"""How much is measured: the whole of SPEED's questions, or a short look."""

from __future__ import annotations

from dataclasses import dataclass

from .progress import Progress


@dataclass(frozen=True)
class Plan:
    """What every question is run with."""

    quick: bool
    progress: Progress

    @property
    def rounds(self) -> int:
        """Paired rounds of a comparison."""
        return 5 if self.quick else 11

    @property
    def lap(self) -> float:
        """Seconds one contender of the fan-out runs in a round."""
        return 0.04 if self.quick else 0.15

    @property
    def loop(self) -> float:
        """Seconds one timed loop runs in a round."""
        return 0.01 if self.quick else 0.04

    @property
    def connections(self) -> tuple[int, ...]:
        """How many connections the fan-out reaches."""
        return (100,) if self.quick else (100, 1000)

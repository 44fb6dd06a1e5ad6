"""Runs of Hypothesis' state machines, as long as one likes."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def run_machines(
    machine: type[RuleBasedStateMachine], examples: int, steps: int, *, control: bool = False
) -> None:
    """Run *examples* histories of *steps* steps; a *control* has to fail."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            # A control fails always alike; how short it fails is no matter.
            derandomize=control,
            phases=[Phase.generate] if control else [Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )

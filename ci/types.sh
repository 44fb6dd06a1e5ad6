#!/usr/bin/env bash
# What the type checkers say of the package, the examples and tests/typed, and
# whether the stub of the core tells the truth about the core that is installed.
# Started by `make types` in an environment with the wheel.
set -euo pipefail

step() {
    printf 'types: %s\n' "$*" >&2
    "$@"
}

# From the folder we are in, which holds no wsmanager/: the installed one.
step python -m mypy.stubtest wsmanager._wsmanager \
    --allowlist "$WSMANAGER_TREE/ci/stubtest.txt" \
    --mypy-config-file "$WSMANAGER_TREE/pyproject.toml"

cd "$WSMANAGER_TREE"
step mypy --cache-dir build/run/types/.mypy_cache
step pyright --pythonpath "$(command -v python)"

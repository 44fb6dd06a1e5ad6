#!/usr/bin/env bash
# The long forms of the promises (pytest -m soak), one after another, and a
# table of what they measured.
#
#   ci/soak.sh [PYTEST ARGUMENT...]      -k crowd runs some of them
#
# Takes an hour or more on a quiet machine. The table goes to
# build/run/soak/table.rst; docs/soak.rst keeps one from a whole run.
set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
results=$tree/build/run/soak
mkdir -p "$results"
rm -f "$results/results.xml"

status=0
"$tree/ci/bootstrap.sh" --env test --extras test -- "$tree/ci/pytest.sh" -m soak -v \
    -o timeout=7200 -o faulthandler_timeout=0 -o junit_logging=system-out \
    --junitxml "$results/results.xml" "$@" || status=$?
"$tree/build/env/test/bin/python" "$tree/ci/soak.py" "$results/results.xml" >"$results/table.rst"
cat "$results/table.rst"
exit "$status"

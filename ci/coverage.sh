#!/usr/bin/env bash
# Coverage of the Python and the C code by the suite, as two tables. That of the
# C code, lines, branches and functions of each file and the total, is also
# written as reStructuredText to build/coverage/c.rst.
#
#   ci/coverage.sh [PYTEST ARGUMENT...]
set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stage=$tree/build/stage/coverage

export WSMANAGER_COVERAGE=1
find "$stage" -name '*.gcda' -delete 2>/dev/null || true
bootstrap=("$tree/ci/bootstrap.sh" --env coverage --extras test
    --requirements "$tree/ci/coverage.txt" --)

# --cov=wsmanager, of pytest-cov, measures the processes that tests start too.
# Our own pytest plugin would import the package before the measurement begins.
"${bootstrap[@]}" "$tree/ci/pytest.sh" -q -p no:wsmanager --cov=wsmanager --cov-config="$tree/pyproject.toml" \
    --cov-report=term:skip-covered "$@"
report=$tree/build/coverage
mkdir -p "$report"
# Branches that only an exception of C++ takes, and those of assert(), are not counted.
"${bootstrap[@]}" gcovr --root "$stage" --exclude '.*pythoncapi_compat\.h' \
    --exclude-throw-branches --exclude-unreachable-branches \
    --exclude-branches-by-pattern '.*\bassert\(.*' \
    --json-summary "$report/c.json" --html-details "$report/c.html" "$stage"
"${bootstrap[@]}" python "$tree/ci/coverage_table.py" "$report/c.json" "$report/c.rst"

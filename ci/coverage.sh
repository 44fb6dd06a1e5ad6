#!/usr/bin/env bash
# Line coverage of the Python and the C code by the suite, as two tables.
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
"${bootstrap[@]}" "$tree/ci/pytest.sh" -q --cov=wsmanager --cov-config="$tree/pyproject.toml" \
    --cov-report=term:skip-covered "$@"
"${bootstrap[@]}" gcovr --root "$stage" --exclude '.*pythoncapi_compat\.h' "$stage"

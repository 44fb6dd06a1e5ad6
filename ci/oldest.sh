#!/usr/bin/env bash
# What meets other libraries, with the oldest versions of them that are allowed
# (ci/oldest.txt), by a CPython they were made for: 3.11 or 3.12.
#
#   ci/oldest.sh [PYTEST ARGUMENT...]
set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$("$tree/ci/matrix.sh" --list | awk '!found && ($1 == "3.11" || $1 == "3.12") { found = $2 } END { print found }')
[ -n "$python" ] || {
    echo "oldest: NOT CHECKED: no CPython 3.11 or 3.12 with headers and venv on this machine" >&2
    exit 0
}

# They use what their own successors no longer do. The protocol that this uvicorn
# takes by itself is the legacy one: what its handlers read as the code of a close
# that both sides begin is a matter of chance.
PYTHON=$python "$tree/ci/bootstrap.sh" --env oldest --extras test \
    --requirements "$tree/ci/oldest.txt" -- "$tree/ci/pytest.sh" -q \
    -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning \
    -k "not (test_busy_handlers and auto)" \
    tests/regression tests/test_uvicorn_protocol.py tests/test_channel.py \
    tests/test_connections.py tests/test_busy_handlers.py tests/test_drain.py \
    tests/test_close_counts.py tests/test_metrics.py tests/test_tracing.py \
    tests/test_operations.py tests/test_operations_access.py \
    tests/test_security_credentials.py tests/test_security_reject.py \
    tests/test_security_sessions.py tests/test_security_tickets.py \
    tests/test_sse.py "$@"

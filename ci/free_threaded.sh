#!/usr/bin/env bash
# The tests of what threads share on a CPython without the GIL.
#
#   ci/free_threaded.sh [--optional] [PYTEST ARGUMENT...]
#
# PYTHON=... names the interpreter. Without any, this fails and says what to
# install; with --optional it says so and ends well.
set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
find=("$tree/ci/find_free_threaded.sh")
if [ "${1:-}" = --optional ]; then
    find+=(--optional)
    shift
fi
python=$("${find[@]}") || {
    status=$?
    [ "$status" != 3 ] || exit 0
    exit "$status"
}

# Not -X gil=0: an extension that turns the GIL back on is what is looked for.
unset PYTHON_GIL
PYTHON=$python "$tree/ci/bootstrap.sh" --env free-threaded \
    --requirements "$tree/ci/free_threaded.txt" -- "$tree/ci/pytest.sh" -q \
    -o timeout=300 \
    tests/test_threads.py tests/test_fanout.py tests/test_registry.py tests/test_isolation.py \
    tests/test_connections.py tests/test_channel.py tests/test_acquire.py \
    tests/test_slow_consumers.py tests/test_storm.py tests/test_descriptors.py \
    tests/test_syscalls.py "$@"

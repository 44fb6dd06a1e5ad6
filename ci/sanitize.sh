#!/usr/bin/env bash
# The suite on a core built with AddressSanitizer and UBSan, for memory errors
# and undefined behaviour; then a part of it again, for leaks of our own.
#
#   ci/sanitize.sh [PYTEST ARGUMENT...]
#
# The interpreter itself is not instrumented; the runtimes are preloaded, and
# PYTHONMALLOC=malloc takes every object from the malloc they watch. Reports go
# to files, so that one in a child process, or in one that a test expects to
# die, counts as well.
set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
reports=$tree/build/run/sanitize/reports
leaks=$tree/build/run/sanitize/leaks

command -v gcc >/dev/null || {
    echo "sanitize: needs gcc, whose runtimes can be preloaded" >&2
    exit 1
}
export CC=gcc
# The suite sees this one too, and leaves out what ASan makes meaningless, such
# as the memory of the process: what is freed stays in quarantine.
export WSMANAGER_SANITIZE=address,undefined

# Runs pytest with $1 added to ASan's options.
run() {
    local asan=$1:strict_string_checks=1:detect_stack_use_after_return=1
    shift
    "$tree/ci/bootstrap.sh" --env sanitize --extras test -- env \
        LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
        PYTHONMALLOC=malloc ASAN_OPTIONS="halt_on_error=1:abort_on_error=0:$asan" \
        UBSAN_OPTIONS="halt_on_error=1:exitcode=87:print_stacktrace=1:log_path=$reports/ubsan" \
        "$tree/ci/pytest.sh" -o timeout=600 -o faulthandler_timeout=1200 -q "$@"
}

rm -rf "$reports" "$leaks"
mkdir -p "$reports" "$leaks"

status=0
run "detect_leaks=0:exitcode=86:log_path=$reports/asan" "$@" || status=$?
for report in "$reports"/*; do
    [ -e "$report" ] || continue
    status=1
    printf '\nsanitize: %s\n' "${report#"$tree"/}" >&2
    head -n 40 "$report" >&2
done
[ "$status" = 0 ] || exit "$status"

# Whole stacks, without which a leak cannot be told to be ours, make every
# allocation slow: the files that use most of the core have to do. Leaks must
# not change how a process ends; ci/leaks.py judges them.
run "detect_leaks=1:exitcode=0:fast_unwind_on_malloc=0:malloc_context_size=12:log_path=$leaks/asan" \
    -k "not uvloop" tests/test_connections.py tests/test_events.py tests/test_threads.py
python3 "$tree/ci/leaks.py" "$leaks"

#!/usr/bin/env bash
# The suite on a core built with AddressSanitizer and UBSan.
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

# The suite reads this too: memory cannot be measured on such a build.
export WSMANAGER_SANITIZE=address,undefined
export CC=gcc
command -v gcc >/dev/null || {
    echo "sanitize: needs gcc, whose runtimes can be preloaded" >&2
    exit 1
}

rm -rf "$reports"
mkdir -p "$reports"

asan=halt_on_error=1:abort_on_error=0:exitcode=86:strict_string_checks=1
asan+=:detect_stack_use_after_return=1:detect_leaks=0:log_path=$reports/asan
ubsan=halt_on_error=1:exitcode=87:print_stacktrace=1:log_path=$reports/ubsan

status=0
"$tree/ci/bootstrap.sh" --env sanitize --extras test -- env \
    LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
    PYTHONMALLOC=malloc ASAN_OPTIONS="$asan" UBSAN_OPTIONS="$ubsan" \
    "$tree/ci/pytest.sh" -o timeout=600 -q "$@" || status=$?

for report in "$reports"/*; do
    [ -e "$report" ] || continue
    status=1
    printf '\nsanitize: %s\n' "${report#"$tree"/}" >&2
    head -n 40 "$report" >&2
done
exit "$status"

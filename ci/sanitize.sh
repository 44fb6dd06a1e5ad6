#!/usr/bin/env bash
# The suite on a core built with AddressSanitizer and UBSan, for memory errors
# and undefined behaviour; then a part of it again, for leaks of our own.
#
#   ci/sanitize.sh [PYTEST ARGUMENT...]
#
# Without arguments the files are left out that are about Python alone (the
# audit, the pages, the testing kit) or about other programs (browsers, Node):
# the core has nothing to do there that it does not do elsewhere.
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

if [ $# = 0 ]; then
    for name in audit_ browser client_app close_codes compat demo docs doctor drain \
        examples fuzz logs metrics monitor operations readme secure_example security_ shim \
        source_rules sse testing_ top tracing tutorial typing; do
        set -- "$@" "--ignore-glob=$tree/tests/test_$name*"
    done
fi
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

# The gate itself: bugs put into the core on purpose must be seen, and a core
# without any must not be accused.
control() {
    local folder=$tree/build/run/sanitize/$1 expected=$2 status=0 leaked=no
    shift 2
    "$tree/ci/build_core.sh" "$python" "$folder" -fsanitize=address,undefined \
        -fno-sanitize-recover=undefined "$@"
    mkdir "$folder/leaks"
    watch "$folder" 0:exitcode=86 || status=$?
    watch "$folder" "1:exitcode=0:fast_unwind_on_malloc=0:malloc_context_size=12:log_path=$folder/leaks/asan" ||
        true
    python3 "$tree/ci/leaks.py" "$folder/leaks" >"$folder/leaks.out" || leaked=yes
    if [ "$status $leaked" != "$expected" ]; then
        tail -n 20 "$folder/out.log" >&2
        echo "sanitize: ${folder##*/}: exit $status, leaks of ours: $leaked; expected: $expected" >&2
        exit 1
    fi
    printf 'sanitize: %s: as expected (exit %s, leaks of ours: %s)\n' "${folder##*/}" "$status" "$leaked"
}

# Runs the walk through the core in $1 with $2 as the end of ASan's options.
watch() {
    LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
        PYTHONMALLOC=malloc PYTHONPATH=$1 PYTHONDONTWRITEBYTECODE=1 \
        ASAN_OPTIONS="halt_on_error=1:abort_on_error=0:detect_stack_use_after_return=1:detect_leaks=$2" \
        UBSAN_OPTIONS="halt_on_error=1:exitcode=87:print_stacktrace=1" \
        "$python" "$tree/tests/isolated/exercise.py" 10 >"$1/out.log" 2>&1
}

python=$tree/build/env/sanitize/bin/python
control clean "0 no"
control UAF "86 no" -DWSM_PLANT_UAF
control OOB "86 no" -DWSM_PLANT_OOB
control LEAK "0 yes" -DWSM_PLANT_LEAK

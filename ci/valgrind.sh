#!/usr/bin/env bash
# valgrind's memcheck over a walk through the core, and over cores with a bug in.
#
#   ci/valgrind.sh [ROUNDS]      40 by default
#
# Nothing but the core is compiled; PYTHONMALLOC=malloc shows memcheck every
# object. PYTHON=... is the interpreter. The planted bugs (a read of freed
# memory, a byte too far, a block never freed) must each be seen.
set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$tree/build/run/valgrind
rounds=${1:-40}
# The interpreter itself: of a script that starts it valgrind would watch the shell.
python=$("${PYTHON:-python3}" -c 'import sys; print(sys.executable)')
export CC=${CC:-gcc}

command -v valgrind >/dev/null || {
    echo "valgrind: NOT CHECKED: valgrind is not installed (Debian: valgrind)" >&2
    exit 1
}

# Builds the core with the flags after $1, runs it; status as ci/memcheck.py's.
check() {
    local folder=$work/$1
    shift
    "$tree/ci/build_core.sh" "$python" "$folder" "$@"
    PYTHONMALLOC=malloc PYTHONPATH=$folder PYTHONDONTWRITEBYTECODE=1 \
        valgrind --tool=memcheck --leak-check=full --show-leak-kinds=definite,indirect \
        --num-callers=24 --error-exitcode=0 --log-file="$folder/valgrind.log" \
        "$python" "$tree/tests/isolated/exercise.py" "$rounds" >"$folder/out.log" 2>&1 || {
        tail -n 20 "$folder/out.log" >&2
        echo "valgrind: the walk itself failed" >&2
        return 2
    }
    python3 "$tree/ci/memcheck.py" "$folder/valgrind.log" >"$folder/records"
}

rm -rf "$work"
mkdir -p "$work"
check none || {
    cat "$work/none/records" 2>/dev/null
    exit 1
}
tail -n 1 "$work/none/records"
rounds=4
for plant in UAF OOB LEAK; do
    status=0
    check "$plant" "-DWSM_PLANT_$plant" || status=$?
    if [ "$status" != 1 ]; then
        echo "valgrind: the planted $plant was not seen: this gate is broken" >&2
        exit 1
    fi
    printf 'valgrind: the planted %s is seen: %s\n' "$plant" "$(tail -n 1 "$work/$plant/records")"
done

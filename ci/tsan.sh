#!/usr/bin/env bash
# ThreadSanitizer over interpreter and core: no data race in a frame of ours.
#
#   ci/tsan.sh [--optional] [SECONDS]
#
# PYTHON=... names a free-threaded CPython that was built with ThreadSanitizer
# (ci/find_free_threaded.sh says how). SECONDS, 60 by default, is how long
# tests/isolated/races.py goes on; short runs are weak evidence, the promise is
# ten minutes: `make tsan ARGS=660`. A core with a race planted in it must be
# caught each time, or the gate itself is broken.
set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$tree/build/run/tsan
find=("$tree/ci/find_free_threaded.sh" --tsan)
if [ "${1:-}" = --optional ]; then
    find+=(--optional)
    shift
fi
seconds=${1:-60}
python=$("${find[@]}") || {
    status=$?
    [ "$status" != 3 ] || exit 0
    exit "$status"
}

ask() { "$python" -c "import sysconfig; print($1)"; }
# The compiler the interpreter was built with: one runtime for both.
CC=$(ask 'sysconfig.get_config_var("CC")')
export CC
# The exit code stays the script's own; races.py judges the reports.
options="halt_on_error=0:exitcode=0:history_size=7:suppressions=$tree/ci/tsan.txt"

# Runs a script of tests/isolated on the package in $1.
run() {
    local folder=$1
    shift
    # Without address randomisation, which older runtimes cannot place their memory around.
    (cd "$work" && env -u PYTHON_GIL PYTHONPATH="$folder" PYTHONDONTWRITEBYTECODE=1 \
        TSAN_OPTIONS="$options:log_path=$folder/reports/tsan" \
        setarch -R "$python" "$tree/tests/isolated/$1" "${@:2}")
}

mkdir -p "$work"
folder=$work/clean
"$tree/ci/build_core.sh" "$python" "$folder" -fsanitize=thread
mkdir "$folder/reports"
status=0
for what in "races.py $seconds 8" "forget.py 20 6" "storm.py 8 500"; do
    read -ra words <<<"$what"
    printf 'tsan: %s\n' "$what"
    run "$folder" "${words[@]}" || status=$?
done
python3 "$tree/ci/races.py" "$folder/reports" || status=1
[ "$status" = 0 ] || exit "$status"

folder=$work/planted
"$tree/ci/build_core.sh" "$python" "$folder" -fsanitize=thread -DWSM_PLANT_RACE
mkdir "$folder/reports"
run "$folder" races.py 10 4 >"$work/planted.out" 2>&1 || true
if python3 "$tree/ci/races.py" "$folder/reports" >"$work/planted.races"; then
    echo "tsan: the planted race was not seen: this gate is broken" >&2
    exit 1
fi
printf 'tsan: the planted race is seen: %s\n' "$(tail -n 1 "$work/planted.races")"

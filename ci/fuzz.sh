#!/usr/bin/env bash
# libFuzzer with ASan and UBSan over what the core parses and writes in C.
#
#   ci/fuzz.sh [RUNS]         10,000,000 by default; payload has a tenth of them
#
# WORK=... is the folder to work in.
#
# Each target of tests/fuzz has an oracle of its own, so a wrong answer is a
# finding as well as a crash; each is also built with a bug planted in, which
# must be found. Needs clang with its compiler-rt (Debian: clang, libclang-rt-dev);
# CLANG=... names it. PYTHON=... is the interpreter that payload is linked with.
set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=${WORK:-$tree/build/run/fuzz}
runs=${1:-10000000}
python=${PYTHON:-python3}

clang=${CLANG:-}
for candidate in clang clang-{21,20,19,18,17,16,15,14}; do
    [ -n "$clang" ] || clang=$(command -v "$candidate" || true)
done
[ -n "$clang" ] || {
    echo "fuzz: NOT CHECKED: needs clang with libFuzzer (Debian: clang, libclang-rt-14-dev)" >&2
    exit 1
}

# How a program is linked with the interpreter: its library, shared or static.
mapfile -t embed < <("$python" -c '
import os, sysconfig
get = sysconfig.get_config_var
print("-I" + sysconfig.get_path("include"))
for folder in (get("LIBDIR"), get("LIBPL")):
    if os.path.exists(os.path.join(folder, get("LDLIBRARY"))):
        print(os.path.join(folder, get("LDLIBRARY")))
        print("-Wl,-rpath," + folder)
        break
for flag in ((get("LIBS") or "") + " " + (get("SYSLIBS") or "") + " -lm").split():
    print(flag)')

# Builds target $1 as $2, with the flags that follow.
build() {
    local target=$1 program=$2
    shift 2
    local sources=("$tree/tests/fuzz/$target.c" "$tree/src/_wsmanager/$target.c") more=()
    [ "$target" != payload ] || more=("${embed[@]}")
    "$clang" -g -O1 -std=c11 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
        -I"$tree/src/_wsmanager" "$@" "${sources[@]}" "${more[@]}" -o "$program"
}

# Runs program $1 so many times; its findings stay beside it.
fuzz() {
    rm -rf "$1.corpus"
    mkdir "$1.corpus"
    printf '0123456789abcdef:77' >"$1.corpus/position"
    PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 "$1" -runs="$2" -max_len=256 -seed=1 \
        -artifact_prefix="$1-" "$1.corpus" >"$1.log" 2>&1
}

rm -rf "$work"
mkdir -p "$work"
for pair in frame:LENGTH_FORM position:WRAP payload:NAN; do
    target=${pair%:*}
    count=$runs
    [ "$target" != payload ] || count=$((runs / 10))
    build "$target" "$work/$target"
    if ! fuzz "$work/$target" "$count"; then
        tail -n 40 "$work/$target.log" >&2
        echo "fuzz: $target: a finding; see $work" >&2
        exit 1
    fi
    printf 'fuzz: %s: %s\n' "$target" "$(grep -oE 'Done [0-9]+ runs in [0-9]+ second' "$work/$target.log")"

    build "$target" "$work/$target-planted" "-DWSM_PLANT_${pair#*:}"
    if fuzz "$work/$target-planted" "$count"; then
        echo "fuzz: $target: the planted bug was not found: this gate is broken" >&2
        exit 1
    fi
    printf 'fuzz: %s: the planted bug is found\n' "$target"
done

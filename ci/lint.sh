#!/usr/bin/env bash
# Layout and warnings of every language in the tree: all of them, or with
# --quick without the builds of the C code; with --fix, formats instead.
# Started by `make lint` and `make format` in the tools' environment.
set -euo pipefail

cd "$WSMANAGER_TREE"

python_files=(ci docs examples benchmarks setup.py tests wsmanager)
mapfile -t c_files < <(find src -name '*.[ch]' ! -name pythoncapi_compat.h | sort)
mapfile -t shell_files < <(find .ci ci -type f \( -name '*.sh' -o -name run \) | sort)

step() {
    printf 'lint: %s\n' "$*" >&2
    "$@"
}

# Builds the core anew with compiler $1, every warning an error; keeps nothing.
build_strictly() {
    local folder=$WSMANAGER_TREE/build/strict/${1##*/}
    printf 'lint: build with %s -Werror\n' "$1" >&2
    CC=$1 WSMANAGER_WERROR=1 python setup.py -q build_ext --force \
        --build-temp "$folder" --build-lib "$folder" >"$folder.log" 2>&1 || {
        cat "$folder.log" >&2
        return 1
    }
}

# Prints the newest clang there is.
find_clang() {
    local candidate
    for candidate in clang clang-{21,20,19,18,17,16,15,14}; do
        if command -v "$candidate" 2>/dev/null; then
            return
        fi
    done
    return 1
}

if [ "${1:-}" = --fix ]; then
    step ruff check --quiet --fix-only "${python_files[@]}"
    step ruff format "${python_files[@]}"
    step clang-format -i "${c_files[@]}"
    exit
fi

step ruff check "${python_files[@]}"
step ruff format --check "${python_files[@]}"
step clang-format --dry-run -Werror "${c_files[@]}"
step shellcheck "${shell_files[@]}"
for page in README.rst CHANGES.rst; do
    step docutils --strict --writer=null "$page"
done
[ "${1:-}" != --quick ] || exit 0

mkdir -p build/strict
build_strictly gcc

# clang checks what is locked where (-Wthread-safety, added by setup.py).
if ! find_clang >/dev/null && [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] &&
    command -v apt-get >/dev/null; then
    echo "lint: installing clang" >&2
    {
        apt-get update &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends clang
    } </dev/null >build/log/clang.log 2>&1 || echo "lint: no clang from apt-get (build/log/clang.log)" >&2
fi
if clang=$(find_clang); then
    build_strictly "$clang"
else
    echo "lint: NOT CHECKED: clang -Wthread-safety, as there is no clang on this machine" >&2
fi

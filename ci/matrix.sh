#!/usr/bin/env bash
# Build and test with every CPython >= 3.10 of this machine, the newest patch
# release of each minor version. Free-threaded builds are left out: libraries
# the suite drives (pydantic, uvloop) have no wheels for them.
#
#   ci/matrix.sh [--list] [PYTEST ARGUMENT...]
set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

candidates() {
    local folder minor
    for folder in "${PYENV_ROOT:-${HOME:-/root}/.pyenv}"/versions/*; do
        printf '%s\n' "$folder/bin/python"
    done
    for minor in 10 11 12 13 14 15; do
        type -ap "python3.$minor" || true
    done
}

# One line for each interpreter that can build: version, patch release, path.
describe() {
    local python
    while read -r python; do
        [ -x "$python" ] || continue
        "$python" -c '
import os, sys, sysconfig
header = os.path.join(sysconfig.get_path("include"), "Python.h")
usable = (
    sys.version_info >= (3, 10)
    and sys.version_info.releaselevel == "final"
    and sys.implementation.name == "cpython"
    and not sysconfig.get_config_var("Py_GIL_DISABLED")
    and os.path.exists(header)
)
if usable:
    import ensurepip, venv
    print("3.%d" % sys.version_info[1], sys.version_info[2], sys.executable)
' 2>/dev/null || true
    done
}

found=$(candidates | describe | sort -k1,1V -k2,2nr | awk '!seen[$1]++ { print $1, $3 }')
[ -n "$found" ] || {
    echo "matrix: no CPython >= 3.10 with headers and venv on this machine" >&2
    exit 1
}
if [ "${1:-}" = --list ]; then
    printf '%s\n' "$found"
    exit
fi

# Read from another descriptor: what runs in the loop must not eat the list.
while read -r -u 3 version python; do
    printf '\nmatrix: CPython %s (%s)\n' "$version" "$python" >&2
    PYTHON=$python "$tree/ci/bootstrap.sh" --env "py$version" --extras test -- "$tree/ci/pytest.sh" -q "$@"
done 3<<<"$found"
echo "matrix: passed with CPython $(printf '%s\n' "$found" | awk '{ printf "%s%s", sep, $1; sep = ", " }')" >&2

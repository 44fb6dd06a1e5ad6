#!/usr/bin/env bash
# pytest over this tree's tests/, from a folder that is not the tree.
#
#   ci/pytest.sh [PYTEST ARGUMENT...]
#
# A test may be named as from the tree, tests/test_x.py::test_y; with none
# named, all run. Started in an environment of ci/bootstrap.sh.
set -euo pipefail

arguments=()
named=no
for argument in "$@"; do
    case $argument in
    tests/*) arguments+=("$WSMANAGER_TREE/$argument") named=yes ;;
    *) arguments+=("$argument") ;;
    esac
done
[ "$named" = yes ] || arguments+=("$WSMANAGER_TREE/tests")

exec pytest -c "$WSMANAGER_TREE/pyproject.toml" --rootdir "$WSMANAGER_TREE" \
    -o cache_dir="$PWD/.pytest_cache" "${arguments[@]}"

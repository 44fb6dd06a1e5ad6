#!/usr/bin/env bash
# Makes the sdist from a copy of the tree, the wheel from the sdist alone, and
# checks what both hold.  Usage: ci/dist.sh FOLDER (that they are put into)
# Started by `make wheel` in the tools' environment.
set -euo pipefail

folder=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The sdist is made where no earlier build has left anything to pick up.
mkdir "$work/tree" "$work/out"
(cd "$WSMANAGER_TREE" && tar cf - --exclude=./.git --exclude=./build --exclude=./dist \
    --exclude='*.egg-info' --exclude='*.so' --exclude=__pycache__ --exclude='.*_cache' \
    --exclude=.hypothesis --exclude='./.coverage*' --exclude=./.venv .) | tar xf - -C "$work/tree"
python -m build --no-isolation --sdist --outdir "$work/out" "$work/tree" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    exit 1
}

mkdir "$work/unpacked"
tar xzf "$work"/out/*.tar.gz -C "$work/unpacked" --strip-components=1
python -m build --no-isolation --wheel --outdir "$work/out" "$work/unpacked" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    exit 1
}
python "$WSMANAGER_TREE/ci/check_dist.py" "$work/tree" "$work"/out/*.tar.gz "$work"/out/*.whl

mkdir -p "$folder"
rm -f "$folder"/wsmanager-*.tar.gz "$folder"/wsmanager-*.whl
cp "$work"/out/* "$folder/"
ls -l "$folder"

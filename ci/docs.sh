#!/usr/bin/env bash
# The pages of docs/ into build/docs/html, every warning an error. Started by
# `make docs` in its environment, where the package is installed: the
# reference is read from the docstrings of what was built.
set -euo pipefail

out=$WSMANAGER_TREE/build/docs
sphinx-build -W --keep-going -q -E -b html -d "$out/doctrees" "$@" \
    "$WSMANAGER_TREE/docs" "$out/html"
printf 'docs: %s\n' "$out/html/index.html"

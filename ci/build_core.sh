#!/usr/bin/env bash
# Compile the core into a copy of the package, for gates that need flags of their own.
#
#   ci/build_core.sh PYTHON FOLDER [COMPILER FLAG...]
#
# FOLDER/wsmanager is the package then, for PYTHONPATH. CC=... is the compiler.
# The objects stay in FOLDER/objects.
set -euo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$1
folder=$2
shift 2

read -ra compiler <<<"${CC:-gcc}"
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
link=()
for flag in "$@"; do
    case $flag in -fsanitize=*) link+=("$flag") ;; esac
done

rm -rf "$folder"
mkdir -p "$folder/objects"
cp -R "$tree/wsmanager" "$folder/"
rm -f "$folder"/wsmanager/*.so
# shellcheck disable=SC2016  # the inner shell's own
printf '%s\0' "$tree"/src/_wsmanager/*.c | xargs -0 -n 1 -P 2 sh -c '
    objects=$1 && shift
    for source; do :; done
    exec "$@" -o "$objects/$(basename "$source" .c).o"' sh "$folder/objects" \
    "${compiler[@]}" -c -std=c11 -g -O1 -fPIC -fvisibility=hidden -fno-omit-frame-pointer \
    -UNDEBUG -I"$tree/src/_wsmanager" -I"$include" "$@"
"${compiler[@]}" -shared "${link[@]}" "$folder"/objects/*.o -lm -lpthread \
    -o "$folder/wsmanager/_wsmanager$suffix"

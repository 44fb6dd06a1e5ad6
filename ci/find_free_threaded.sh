#!/usr/bin/env bash
# Print the path of a free-threaded CPython, or say how to get one and fail.
#
#   ci/find_free_threaded.sh [--tsan] [--optional]
#
# PYTHON=... names it; otherwise python3.14t and python3.13t are looked for, on
# PATH and among pyenv's. --tsan: it must have been built with ThreadSanitizer.
# --optional: without one, NOT CHECKED is printed and the exit code is 3, which
# the caller may take for success; nobody can take it for a pass.
set -euo pipefail

tsan=no
optional=no
for argument in "$@"; do
    case $argument in
    --tsan) tsan=yes ;;
    --optional) optional=yes ;;
    *) echo "find_free_threaded: unknown argument $argument" >&2 && exit 2 ;;
    esac
done

candidates() {
    local folder minor
    if [ -n "${PYTHON:-}" ]; then
        printf '%s\n' "$PYTHON"
        return
    fi
    for minor in 14 13 15; do
        type -ap "python3.${minor}t" || true
    done
    for folder in "${PYENV_ROOT:-${HOME:-/root}/.pyenv}"/versions/*t; do
        printf '%s\n' "$folder/bin/python"
    done
}

while read -r python; do
    path=$(WANT_TSAN=$tsan "$python" -c '
import os, sys, sysconfig
header = os.path.join(sysconfig.get_path("include"), "Python.h")
instrumented = "with-thread-sanitizer" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
fits = (
    sys.version_info >= (3, 13)
    and sysconfig.get_config_var("Py_GIL_DISABLED")
    and os.path.exists(header)
    and instrumented == (os.environ["WANT_TSAN"] == "yes")
)
print(sys.executable if fits else "")' 2>/dev/null) || continue
    if [ -n "$path" ]; then
        printf '%s\n' "$path"
        exit
    fi
done < <(candidates)

what="a free-threaded CPython (3.13t or later) with its headers"
configure="./configure --disable-gil --prefix=\$HOME/py313t && make -j2 install"
if [ "$tsan" = yes ]; then
    what="$what, built with ThreadSanitizer"
    configure="CC=clang setarch -R ./configure --disable-gil --with-thread-sanitizer \\
        --without-ensurepip --prefix=\$HOME/py313t-tsan && setarch -R make -j2 install"
fi
cat >&2 <<END
wsmanager: NOT CHECKED: there is no such interpreter here: $what
wsmanager: install one, from a package (python3.14-nogil, uv python install 3.14t,
wsmanager: pyenv install 3.14t) or from CPython's sources:
    $configure
wsmanager: and name it: PYTHON=\$HOME/py313t/bin/python3.13t make ...
END
[ "$optional" = no ] || exit 3
exit 1

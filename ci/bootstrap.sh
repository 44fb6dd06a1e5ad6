#!/usr/bin/env bash
# Run a command in an environment of its own, with this tree's package
# installed in it the way a user gets it: as a wheel, never from the tree.
#
#   ci/bootstrap.sh [--env NAME] [--extras A,B] [--requirements FILE]
#                   [--no-package] -- COMMAND [ARGUMENT...]
#
# Everything is kept under build/: env/NAME is the environment, wheel/ holds
# the wheels, run/NAME is the folder the command starts in (from there, the
# tree's own wsmanager/ cannot be imported by accident), log/ what was said.
# Whatever is already up to date is not made again; the wheel is made again
# when the text of any source, the compiler, the interpreter or a build
# switch (setup.py lists them) differs from what it was made with.
#
# What it needs of the machine: CPython >= 3.10 with its headers and venv, and
# a C compiler. On Debian what is missing is installed where that is possible
# without a question (root, or sudo without a password); otherwise the command
# to do so is printed. WSMANAGER_NO_APT=1 never installs. For the tests Chromium
# is wanted in the same way (WSMANAGER_CHROMIUM=... chooses one), but not needed.
#
# PYTHON=... chooses the interpreter, CC=... the compiler. The command finds
# WSMANAGER_TREE, this folder, in its environment.
set -Eeuo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name="test"
extras=
requirements=
package=yes

say() { printf 'wsmanager: %s\n' "$*" >&2; }

die() {
    say "$@"
    exit 1
}

# -- what the machine must have -------------------------------------------------

# Prints the real path of interpreter $1, if it is a CPython we run on.
usable_python() {
    command -v "$1" >/dev/null 2>&1 || return 1
    "$1" -c '
import sys
if sys.version_info < (3, 10) or sys.implementation.name != "cpython":
    sys.exit(1)
print(sys.executable)' 2>/dev/null
}

has_headers() {
    "$1" -c '
import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
}

has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null || "$1" -c 'import virtualenv' 2>/dev/null; }

# Sets $python: the first interpreter that has all it needs, or else the first
# that could be completed; empty when there is none.
find_python() {
    local candidate path candidates
    candidates=(python3 python3.13 python3.12 python3.11 python3.10 python3.14 /usr/bin/python3)
    if [ -n "${PYTHON:-}" ]; then
        python=$(usable_python "$PYTHON") || die "PYTHON=$PYTHON is not a CPython of 3.10 or later"
        return
    fi
    python=
    for candidate in "${candidates[@]}"; do
        path=$(usable_python "$candidate") || continue
        if has_headers "$path" && has_venv "$path"; then
            python=$path
            return
        fi
        [ -n "$python" ] || python=$path
    done
}

# Sets and exports CC, unless the one this Python was built with is there.
find_compiler() {
    local candidate own
    compiler=${CC:-}
    if [ -z "$compiler" ] && [ -n "$python" ]; then
        own=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CC") or "")')
        command -v "${own%% *}" >/dev/null 2>&1 && compiler=$own
    fi
    for candidate in gcc clang cc; do
        [ -z "$compiler" ] || return 0
        if command -v "$candidate" >/dev/null 2>&1; then
            export CC=$candidate
            compiler=$candidate
        fi
    done
}

# Whether a C file that includes Python.h compiles: all a build asks for.
compiles() {
    local include probe=$tree/build/log/probe.c
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    echo '#include <Python.h>' >"$probe"
    # CC may be a command with arguments, as in CC="ccache gcc".
    # shellcheck disable=SC2086
    $compiler -I"$include" -fsyntax-only "$probe" >"$tree/build/log/probe.log" 2>&1
}

# Installs Debian packages, or dies with the command that would.
install_packages() {
    local as_root=() text="apt-get update && apt-get install --no-install-recommends $*"
    if [ "$(id -u)" != 0 ]; then
        as_root=(sudo -n)
        text="sudo sh -c '$text'"
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        die "this machine lacks (by their Debian names): $*; install them and run this again"
    fi
    if [ "${WSMANAGER_NO_APT:-0}" != 0 ] || { [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; }; then
        die "this machine lacks: $*; run this, then try again:  $text"
    fi
    say "installing Debian packages: $*"
    {
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y --no-install-recommends "$@"
    } </dev/null >"$tree/build/log/apt.log" 2>&1 || {
        tail -n 20 "$tree/build/log/apt.log" >&2
        die "apt-get failed (build/log/apt.log); by hand:  $text"
    }
}

# Debian's package prefix for $python ("python3.12"), where it is Debian's own.
debian_prefix() {
    case $python in
    /usr/bin/*) "$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])' ;;
    *) return 1 ;;
    esac
}

# What is missing, as Debian packages; dies where no package would help.
missing_packages() {
    local prefix
    missing=()
    if [ -z "$python" ]; then
        missing+=(python3 python3-venv python3-dev)
    elif ! has_headers "$python" || ! has_venv "$python"; then
        prefix=$(debian_prefix) ||
            die "$python has no Python.h or no venv module; set PYTHON to an interpreter that has both"
        has_headers "$python" || missing+=("$prefix-dev")
        has_venv "$python" || missing+=("$prefix-venv")
    fi
    [ -n "$compiler" ] || missing+=(gcc libc6-dev)
}

# What some tests drive; where it cannot be had, they are skipped, and say so.
find_browser() {
    local candidate
    for candidate in "${WSMANAGER_CHROMIUM:-}" chromium chromium-browser google-chrome \
        google-chrome-stable headless-shell; do
        [ -z "$candidate" ] || ! command -v "$candidate" >/dev/null 2>&1 || return 0
    done
    (trap - ERR && install_packages chromium) ||
        say "no Chromium: the tests in a browser are skipped"
}

prepare_machine() {
    find_python
    find_compiler
    missing_packages
    if [ "${#missing[@]}" != 0 ]; then
        install_packages "${missing[@]}"
        find_python
        find_compiler
        missing_packages
        if [ "${#missing[@]}" != 0 ]; then
            die "still missing after the installation: ${missing[*]} (is this Debian's Python older than 3.10?)"
        fi
    fi
    [ "$package" = yes ] || return 0
    # A compiler is there without the C library's headers on some machines.
    compiles || [ -n "${CC:-}" ] || install_packages gcc libc6-dev
    compiles || {
        cat "$tree/build/log/probe.log" >&2
        die "'$compiler' does not compile a file that includes Python.h"
    }
}

# -- the environment --------------------------------------------------------------

# Runs "$@" quietly; its output goes to build/log/$1.log and is shown on failure.
logged() {
    local log=$tree/build/log/$name-$1.log
    shift
    "$@" </dev/null >"$log" 2>&1 || {
        tail -n 60 "$log" >&2
        die "failed (whole log: $log): $*"
    }
}

# pip with no say for the settings that would lead it out of the environment.
in_env_pip() {
    env -u PIP_TARGET -u PIP_PREFIX PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 \
        "$env/bin/python" -m pip --disable-pip-version-check --no-input "$@"
}

make_env() {
    local identity
    identity=$("$python" -c 'import sys; print(sys.executable, sys.version)')
    if [ "$(cat "$env/.made-with" 2>/dev/null)" = "$identity" ] &&
        "$env/bin/python" -c 'import pip' 2>/dev/null; then
        return
    fi
    say "making the environment build/env/$name with $python"
    rm -rf "$env"
    mkdir -p "$(dirname "$env")"
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        logged venv "$python" -m venv "$env"
    else
        logged venv "$python" -m virtualenv "$env"
    fi
    printf '%s\n' "$identity" >"$env/.made-with"
}

# Prints the wheel in folder $1, if there is one.
wheel_in() {
    local path
    for path in "$1"/*.whl; do
        [ ! -e "$path" ] || printf '%s\n' "$path"
    done
}

# Builds the wheel, unless the one of just these sources is there; sets $wheel.
make_wheel() {
    local folder=$tree/build/wheel/$fingerprint stage=$tree/build/stage/$name backend
    wheel=$(wheel_in "$folder")
    [ -z "$wheel" ] || return 0

    backend=$(sed -n 's/^requires = \["\(setuptools[^"]*\)"\]$/\1/p' "$tree/pyproject.toml")
    [ -n "$backend" ] || die "pyproject.toml: no line requires = [\"setuptools...\"]"
    logged setuptools in_env_pip install "$backend"

    # A copy, because a build in the tree would leave its products there and
    # pick up those of an earlier one, such as modules deleted since.
    rm -rf "$stage" "$folder"
    mkdir -p "$stage"
    (cd "$tree" && cp -R setup.py pyproject.toml README.rst LICENSE src wsmanager "$stage/")
    find "$stage" \( -name '*.so' -o -name '*.py[cod]' \) -delete

    say "building the wheel (Python $("$env/bin/python" -c 'import platform; print(platform.python_version())'))"
    logged wheel in_env_pip wheel -v --no-deps --no-build-isolation --no-index -w "$folder" "$stage"
    grep -E '(warning|note): ' "$tree/build/log/$name-wheel.log" | grep -E '\.[ch]:' >&2 || true
    wheel=$(wheel_in "$folder")
    [ -n "$wheel" ] || die "the build left no wheel in $folder"
}

# Installs what is asked for; a file in the environment remembers what it holds.
fill_env() {
    local wanted what=() target
    wanted=$(printf '%s ' "$extras" "${fingerprint:-}" &&
        cat "$tree/pyproject.toml" ${requirements:+"$requirements"} | cksum)
    [ "$(cat "$env/.holds" 2>/dev/null)" != "$wanted" ] || return 0
    rm -f "$env/.holds"
    [ -z "$requirements" ] || what+=(-r "$requirements")
    if [ "$package" = yes ]; then
        make_wheel
        target=$wheel${extras:+[$extras]}
        what+=("$target")
        say "installing $(basename "$target")"
        # Removed first: the version number is the same from one build to the next.
        logged uninstall in_env_pip uninstall -y wsmanager
    fi
    logged install in_env_pip install "${what[@]}"
    printf '%s\n' "$wanted" >"$env/.holds"
}

check_env() {
    [ "$package" = yes ] || return 0
    (cd "$run" && "$env/bin/python" -c '
import importlib.util, pathlib, sys
origin = pathlib.Path(importlib.util.find_spec("wsmanager").origin).resolve()
if pathlib.Path(sys.prefix).resolve() not in origin.parents:
    sys.exit(f"wsmanager would be imported from {origin}, not from the installed wheel")')
}

# -- the command line -----------------------------------------------------------

while [ $# -gt 0 ]; do
    case $1 in
    --env) name=$2 && shift 2 ;;
    --extras) extras=$2 && shift 2 ;;
    --requirements) requirements=$(cd "$(dirname "$2")" && pwd)/$(basename "$2") && shift 2 ;;
    --no-package) package=no && shift ;;
    --) shift && break ;;
    *) die "unknown argument $1; see the head of ci/bootstrap.sh" ;;
    esac
done
[ $# -gt 0 ] || die "no command given; see the head of ci/bootstrap.sh"

# The environment of whoever calls must not reach into ours.
unset PYTHONHOME PYTHONPATH PYTHONSTARTUP VIRTUAL_ENV
env=$tree/build/env/$name
run=$tree/build/run/$name
mkdir -p "$tree/build/log" "$run" || die "cannot write to $tree/build (made by another user?)"

# A subshell, so that the lock is let go before the command runs.
(
    trap 'say "ci/bootstrap.sh: line $LINENO failed: $BASH_COMMAND"' ERR
    # One at a time for each environment, where the machine has flock.
    exec 9>"$tree/build/log/$name.lock"
    ! command -v flock >/dev/null 2>&1 || flock 9
    prepare_machine
    make_env
    fingerprint=
    if [ "$package" = yes ]; then
        fingerprint=$("$env/bin/python" "$tree/ci/fingerprint.py" "$tree" "$compiler")
    fi
    [ "$extras" != test ] || find_browser
    fill_env
    check_env
)

export VIRTUAL_ENV=$env PATH=$env/bin:$PATH WSMANAGER_TREE=$tree
cd "$run"
exec "$@"

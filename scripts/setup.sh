#!/usr/bin/env bash
# Makes .venv hold exactly what requirements.lock names, and this checkout as an editable install.
#
# Needs: bash, coreutils, and a Python >= 3.11; nothing else. Done before (same lock, same pyproject.toml, same Python)? Then it
# returns in some milliseconds. What it does not do: remove packages that somebody installed into .venv by hand.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
lock=requirements.lock
stamp=$venv/millstream-setup

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if is_new_enough "$candidate"; then echo "$candidate"; return; fi
    done
    die "Millstream needs Python 3.11 or later, and ${PYTHON:-python3} is: $("${PYTHON:-python3}" --version 2>&1 | head -1)." \
        "Install one, or name it: make setup PYTHON=/path/to/python3.12"
}

# The environment's state in one line: what was installed, on which interpreter, into which folder (a moved .venv is a broken one).
fingerprint() {
    { cat "$lock" pyproject.toml setup.py scripts/setup.sh native/*.[ch]; "$venv/bin/python" -VV; readlink -f "$venv"; } | sha256sum | cut -d' ' -f1
}

has_ensurepip() { "$1" -c 'import venv; from ensurepip import version' 2>/dev/null; }
has_pip() { "$1" -m pip --version >/dev/null 2>&1; }

# Debian keeps ensurepip, without which a venv gets no pip, in a package of its own (python3-venv).
get_ensurepip() {
    local package
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "this Python has neither ensurepip nor pip: installing $package"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$package" >/dev/null
    else
        die "this Python has neither ensurepip nor pip. Run: sudo apt-get install $package    and then: make setup"
    fi
}

make_venv() {
    local python
    python=$(find_python)
    say "making $venv with $("$python" --version)"
    if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then die "$venv is there and is no virtual environment: name another, VENV=..."; fi
    rm -rf "$venv" # of another machine, another folder, or an older Python
    has_ensurepip "$python" || has_pip "$python" || get_ensurepip "$python"
    if has_ensurepip "$python"; then
        "$python" -m venv "$venv"
    else
        "$python" -m venv --without-pip "$venv"
    fi
}

# pip of the venv where it has one, else the pip of the Python it was made from, told to work in the venv.
pip_install() {
    if has_pip "$venv/bin/python"; then
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    else
        "$(find_python)" -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check "$@"
    fi
}

# uv is an order of magnitude faster than pip, and is in the lock like everything else: its entry alone goes first.
install_uv() {
    [ -x "$venv/bin/uv" ] && return
    local entry
    entry=$(mktemp)
    awk '/^[^ #]/ { inside = /^uv==/ } inside' "$lock" >"$entry"
    pip_install --require-hashes -r "$entry" || say "uv did not install: pip does the rest, which takes longer"
    rm -f "$entry"
}

# The native library wants a C compiler, any: where the machine has none, one comes as a package.
install_compiler() {
    if [ -n "${CC:-}" ] || command -v cc >/dev/null; then return; fi
    say "no C compiler here: installing the one in the package ziglang"
    pip_install --require-hashes -r requirements-compiler.lock || say "ziglang did not install: the native library is left out"
}

install() {
    say "installing what $lock names (a few minutes the first time, then from the cache)"
    install_uv
    if [ -x "$venv/bin/uv" ] && VIRTUAL_ENV=$venv "$venv/bin/uv" pip install --quiet --compile-bytecode --require-hashes -r "$lock"; then
        install_compiler
        VIRTUAL_ENV=$venv "$venv/bin/uv" pip install --quiet --no-deps --no-build-isolation --editable .
    else
        pip_install --require-hashes -r "$lock"
        install_compiler
        pip_install --no-deps --no-build-isolation --editable .
    fi
}

mkdir -p build
exec 9>build/setup.lock # two verbs at once: the second waits
if command -v flock >/dev/null; then flock 9; fi
is_new_enough "$venv/bin/python" || make_venv
if [ "$(cat "$stamp" 2>/dev/null)" != "$(fingerprint)" ]; then
    install
    # Every command and every worker of the tests is a process of its own: none should compile the package again.
    "$venv/bin/python" -m compileall -q -j 0 native topics state workers rag ops || true
    fingerprint >"$stamp"
    [ -e native/libmillstream.so ] || say "the native library was not built: everything works, more slowly"
    say "ready: $("$venv/bin/python" --version), $venv"
fi

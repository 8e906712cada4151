#!/usr/bin/env bash
# mypy over the layers and the folders beside them: scripts/types.sh topics state ... tests benchmarks
#
# The repository's root is the package, so mypy would take the name of the checkout's folder for the package's name, and give up on a
# folder called `clone-1`. It is shown build/src instead, where a link carries the import name (made by `make setup`).
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(-m millstream)
for folder in "$@"; do
    case $folder in
        tests | benchmarks | examples) packages+=(-p "$folder") ;;
        *) packages+=(-p "millstream.$folder") ;;
    esac
done
MYPYPATH=build/src:. "${VENV:-.venv}/bin/mypy" "${packages[@]}" | sed 's#^build/src/millstream/##'

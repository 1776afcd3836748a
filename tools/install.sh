#!/usr/bin/env bash
# Make .venv and install LesionLens there with what was tested; the stamp makes a second run quick.
set -euo pipefail
cd "$(dirname "$0")/.."
extras="all,dev"

usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if ! usable .venv/bin/python; then
  python=""
  for name in ${PYTHON:-} python3 python3.11 python3.12 python3.13 python3.14; do
    if command -v "$name" >/dev/null && usable "$name"; then python=$name && break; fi
  done
  if [[ -z $python ]]; then
    echo "install: found no Python 3.11 or later; install it, or name it: make PYTHON=/path/to/python" >&2
    exit 1
  fi
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
      echo "install: this Python has no venv module; as root: apt-get install python3-venv" >&2
      exit 1
    fi
    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv
  fi
  rm -rf .venv
  "$python" -m venv .venv
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
  -c constraints.txt -e ".[$extras]"
# pip compiles with one core, which takes as long as the rest; a few files are templates, and over a
# quarter are of tests and programs that nothing here imports
.venv/bin/python -m compileall -q -j 0 -x '/(tests?|_inductor|debugpy|mypyc?|pip)/' \
  .venv/lib src >/dev/null 2>&1 || true
touch .venv/installed

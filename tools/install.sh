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
# MONAI Label's client for its tests: the wheel alone (20 MB), for what it depends on takes gigabytes
if ! compgen -G ".venv/wheels/monailabel-*.whl" >/dev/null; then
  .venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps \
    -d .venv/wheels monailabel==0.8.5 ||
    echo "install: found no wheel of MONAI Label 0.8.5; the tests of its client will be skipped" >&2
fi
touch .venv/installed

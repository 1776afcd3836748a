#!/usr/bin/env bash
# Run a command on the display there is, else on a virtual one.
set -euo pipefail
if [[ -n ${DISPLAY:-} || -n ${WAYLAND_DISPLAY:-} ]]; then exec "$@"; fi
export LESIONLENS_VIRTUAL_DISPLAY=1  # processes of the tests start one each
exec xvfb-run --auto-servernum --server-args="-screen 0 1600x1000x24" "$@"

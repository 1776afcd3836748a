#!/usr/bin/env bash
# Analyse the sample patient, then show the result in napari, or paint it where there is no display.
set -euo pipefail
cd "$(dirname "$0")/.."
lesionlens analyze sample_data/study --out out/demo
if [[ -n ${DISPLAY:-} || -n ${WAYLAND_DISPLAY:-} ]]; then
  lesionlens open out/demo
else
  tools/with_display.sh lesionlens open out/demo --screenshot out/demo/napari.png
  echo "No display: napari is painted in out/demo/napari.png"
fi

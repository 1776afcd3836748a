#!/bin/sh
# What a MONAI application does: read the input folder, write the output folder, say how it ended.
set -eu
exec lesionlens analyze "${MONAI_INPUTPATH:-/var/monai/input}" \
  --out "${MONAI_OUTPUTPATH:-/var/monai/output}/lesionlens" "$@"

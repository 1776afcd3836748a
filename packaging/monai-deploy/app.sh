#!/bin/sh
# What a MONAI application package does: read the input folder, write the output folder, say how it
# ended. `show` prints the manifests, `extract` copies what the package holds to where a folder was
# mounted below /var/run/holoscan/export; so does a start without words where one is mounted.
set -eu
target=/var/run/holoscan/export

copy() { # what, where to
  mkdir -p "$2"
  cp -R "$1"/. "$2"
}

extract() {
  if [ ! -d "$target" ]; then
    echo "app.sh: found no $target; mount a folder there, or at config, app, models or docs in it" >&2
    exit 2
  fi
  any=""
  for part in config app models docs; do
    if [ -d "$target/$part" ]; then any=yes; fi
  done
  for part in config app models docs; do
    if [ -n "$any" ] && [ ! -d "$target/$part" ]; then continue; fi
    case $part in
      config) copy /etc/holoscan "$target/config" ;;
      *) copy "/opt/holoscan/$part" "$target/$part" ;;
    esac
  done
}

case ${1-} in
  show)
    for name in ${2:-app pkg}; do cat "/etc/holoscan/$name.json"; done
    ;;
  extract) extract ;;
  *)
    if [ $# -eq 0 ] && [ -d "$target" ]; then
      extract
    else
      out=${HOLOSCAN_OUTPUT_PATH:-/var/holoscan/output/}
      exec lesionlens analyze "${HOLOSCAN_INPUT_PATH:-/var/holoscan/input/}" \
        --out "${out%/}/lesionlens" "$@"
    fi
    ;;
esac

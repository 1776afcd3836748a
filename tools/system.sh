#!/usr/bin/env bash
# Install the Debian packages of system_packages.txt that are missing; needs root only then.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v dpkg-query >/dev/null; then
  echo "system: not a Debian system; see system_packages.txt for what napari needs" >&2
  exit 0
fi

# a package counts as there when another that provides it is (libglib2.0-0t64 for libglib2.0-0)
installed=" $(dpkg-query -W -f '${db:Status-Status} ${Package}, ${Provides}\n' |
  sed -n 's/^installed //p' | sed 's/([^)]*)//g' | tr ',\n' '  ') "
missing=()
needed=0
while read -r name note; do
  if [[ -z "$name" || "$name" == \#* || "$installed" == *" $name "* ]]; then continue; fi
  missing+=("$name")
  [[ "$note" == *"[tests]"* ]] || needed=1
done <system_packages.txt
[[ ${#missing[@]} -eq 0 ]] && exit 0
if [[ $EUID -ne 0 && $needed -eq 0 ]]; then
  echo "system: some tests will be skipped; only root may install ${missing[*]}" >&2
  exit 0
fi

if [[ $EUID -ne 0 ]]; then
  {
    echo "system: napari needs these Debian packages, and only root may install them:"
    echo "    sudo apt-get install -y --no-install-recommends ${missing[*]}"
    echo "Run that line once, then start again."
  } >&2
  exit 1
fi
echo "system: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"

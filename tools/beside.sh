#!/usr/bin/env bash
# beside.sh CHECK... -- TESTS...: run a check beside the tests; fail if either fails.
# What the check says is printed in one piece: below the tests, and if it fails at once too.
set -uo pipefail
check=()
while [[ $1 != -- ]]; do check+=("$1") && shift; done
shift

said=$(mktemp)
("${check[@]}" >"$said" 2>&1 || { cat "$said" >&2; exit 1; }) &
checking=$!
trap 'kill "$checking" 2>/dev/null; rm -f "$said"' EXIT
"$@"
tested=$?
wait "$checking"
checked=$?
cat "$said"
((checked == 0)) || echo "beside the tests failed: ${check[*]}" >&2
((tested == 0 && checked == 0))

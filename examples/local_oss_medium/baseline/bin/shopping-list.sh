#!/usr/bin/env bash
# Print what to buy for the given recipes: QUANTITY UNIT NAME, sorted by name.
set -euo pipefail

awk '
  /^- / {
    if ($2 !~ /^[0-9]+$/ || NF < 4) { print FILENAME ": not an ingredient: " $0 > "/dev/stderr"; bad = 1; next }
    name = $4
    for (i = 5; i <= NF; i++) name = name " " $i
    sum[name "\t" $3] += $2
  }
  END {
    if (bad) exit 1
    for (key in sum) print key "\t" sum[key]
  }
' "$@" | LC_ALL=C sort | awk -F '\t' '{ print $3, $2, $1 }'

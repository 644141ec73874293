# Does scripts/test.sh fail when bin/shopping-list.sh is broken, and only then? Prints the share of bugs noticed.
#
# A bug counts as noticed when the broken program really ran: comparing checksums is not testing.
set -euo pipefail

bugs=(  # as sed(1) makes them
  's/ += \$2/ = $2/'           # forgets all recipes but the last
  's/(i = 5; /(i = 6; /'       # cuts names short
  's/ sort / sort -r /'        # begins at the end
  's/print \$3, \$2, /print $3, /'  # forgets the units
)

report() { printf '{"score": %s, "feedback": "%s"}\n' "$1" "$2"; exit; }

succeeds_with() {  # succeeds_with BUG: whether test.sh succeeds while the program has it
  local exit_code=0
  rm -f "$note"
  { sed "$1" "$original"; printf '\necho ran >> "%s"\n' "$note"; } > bin/shopping-list.sh
  bash scripts/test.sh > /dev/null 2>&1 || exit_code=$?
  [[ -f "$note" ]] || report 0 "test.sh does not run bin/shopping-list.sh"
  return "$exit_code"
}

main() {
  rm -r measure  # in this checkout only: what is measured shall not read how
  local folder original note bug noticed=0
  folder="$(mktemp -d)"
  original="$folder/original" note="$folder/note-$RANDOM"
  cp bin/shopping-list.sh "$original"

  succeeds_with '' || report 0 "test.sh fails although bin/shopping-list.sh works"
  for bug in "${bugs[@]}"; do
    ! sed "$bug" "$original" | cmp -s "$original" - || { echo "no effect: $bug" >&2; exit 1; }
    succeeds_with "$bug" || noticed=$((noticed + 1))
  done
  report "$(awk "BEGIN { print $noticed / ${#bugs[@]} }")" "test.sh noticed $noticed of ${#bugs[@]} bugs"
}

main; exit

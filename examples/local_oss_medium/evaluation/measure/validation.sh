# Does scripts/validate.sh fail when the harness loses something it must have, and only then?
set -euo pipefail

fail() { printf '%s\n' "$*"; exit 1; }

validates() { bash scripts/validate.sh > /dev/null 2>&1; }

lose() {  # lose FILE TEXT: validation must fail while FILE is without TEXT
  local kept
  kept="$(cat "$1")"
  [[ "$kept" == *"$2"* ]] || fail "$1 lacks $2: there is nothing to enforce yet"
  printf '%s\n' "${kept//"$2"/}" > "$1"
  ! validates || fail "validate.sh did not notice that $1 lost: $2"
  printf '%s\n' "$kept" > "$1"
}

main() {
  rm -r measure  # in this checkout only: what is measured shall not read how
  local file
  validates || fail "validate.sh fails on the harness as it is"
  printf '\nWelcome.\n' | tee -a AGENTS.md >> GEMINI.md
  validates || fail "validate.sh fails after a harmless addition to AGENTS.md and GEMINI.md"

  for file in bootstrap test validate; do lose AGENTS.md "bash scripts/$file.sh"; done
  lose AGENTS.md "git reset --hard"
  lose GEMINI.md "AGENTS.md"
  for file in bootstrap test; do lose "scripts/$file.sh" "set -euo pipefail"; done
  for file in AGENTS.md GEMINI.md scripts/bootstrap.sh scripts/test.sh; do
    mv "$file" away
    ! validates || fail "validate.sh did not notice that $file is missing"
    mv away "$file"
  done
  validates || fail "validate.sh fails on the harness as it is, after it failed on others"
}

main; exit

# Does scripts/bootstrap.sh write the index of all recipes, from any folder, and again after they changed?
set -euo pipefail

fail() { printf '%s\n' "$*"; exit 1; }

bootstrap() {  # bootstrap FOLDER: call the script there, and compare the index with the recipes
  local root="$PWD"
  (cd "$1" && bash "$root/scripts/bootstrap.sh") || fail "bootstrap.sh, called in $1, ended with exit code $?"
  [[ -f build/index.txt ]] || fail "bootstrap.sh, called in $1, left no build/index.txt"
  (cd recipes && for file in *.txt; do printf '%s: %s\n' "$file" "$(sed -n 's/^# //p;q' "$file")"; done) > "$wanted"
  diff "$wanted" build/index.txt || fail "build/index.txt (>) is not the index of recipes/ (<)"
}

main() {
  rm -r measure  # in this checkout only: what is measured shall not read how
  local wanted
  wanted="$(mktemp)"
  bootstrap .
  rm recipes/pea-soup.txt
  printf '# Lemonade no. %s\n\n- 1 l water\n' "$RANDOM" > recipes/lemonade.txt
  bootstrap recipes
  bootstrap .
  rm recipes/lemonade.txt
}

main; exit

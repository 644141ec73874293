# Does scripts/test.sh run every test in tests/, and fail when one fails?
set -euo pipefail

fail() { printf '%s\n' "$*"; exit 1; }

planted="$PWD/tests/case-$RANDOM-$RANDOM"
trap 'rm -rf "$planted"' EXIT  # later checks run the tests too

main() {
  rm -r measure  # in this checkout only: what is measured shall not read how
  local grams="$((RANDOM + 10))"
  bash scripts/test.sh || fail "test.sh ended with exit code $? although every test passes"

  mkdir "$planted"
  printf '# One\n\n- %s g oats\n' "$grams" > "$planted/one.txt"
  printf '# Two\n\n- 5 g oats\n' > "$planted/two.txt"
  printf '%s g oats\n' "$((grams + 5))" > "$planted/expected"
  bash scripts/test.sh || fail "test.sh fails after a test was added that passes"
  (cd recipes && bash ../scripts/test.sh) || fail "test.sh fails when it is called from another folder"

  printf '%s g oats\n' "$grams" > "$planted/expected"
  ! bash scripts/test.sh || fail "test.sh succeeds although a test that was added fails"
  ! (cd recipes && bash ../scripts/test.sh) || fail "test.sh succeeds in another folder although a test fails"
}

main; exit

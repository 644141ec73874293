"""Does scripts/test.sh run every unit test in tests/ with the interpreter of .venv?

Tests are planted that note who runs them, under names that are new each time; test.sh has to fail when one of them
fails.
"""

from __future__ import annotations

import json
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

ROOT = Path.cwd().resolve()
VENV = ROOT / ".venv"
SECONDS = 40

WITNESS = """
import sys
import unittest
from pathlib import Path

import hourglass


class Witness(unittest.TestCase):
    def test_who_runs_me(self):
        Path({note!r}).write_text(sys.prefix + "\\n" + hourglass.__file__, encoding="utf-8")
        self.assertTrue({passes})
"""


def report(score: float, feedback: str) -> NoReturn:
    """End with the verdict, which is the last line of standard output."""
    print(json.dumps({"score": score, "feedback": feedback}))
    sys.exit()


def run_tests() -> tuple[int, str]:
    try:
        done = subprocess.run(
            ["bash", "scripts/test.sh"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        report(0, f"test.sh did not end within {SECONDS} s")
    return done.returncode, done.stdout.decode(errors="replace")[-800:]


def examine_run(notes: Path, *, passes: bool) -> None:
    """Run test.sh with one test more, which passes or fails; report when it does not tell."""
    note = notes / secrets.token_hex(8)
    planted = ROOT / "tests" / f"test_{secrets.token_hex(8)}.py"
    planted.write_text(WITNESS.format(note=str(note), passes=passes), encoding="utf-8")
    try:
        exit_code, output = run_tests()
    finally:
        planted.unlink(missing_ok=True)

    if not note.is_file():
        report(0, f"test.sh does not run a test that is added to tests/; its output:\n{output}")
    prefix, package = note.read_text(encoding="utf-8").split("\n")
    if Path(prefix).resolve() != VENV:
        report(0, f"the tests do not run with the interpreter of .venv, but with that of {prefix}")
    if ROOT / "src" not in Path(package).resolve().parents:
        report(0, f"the tests do not import the sources of the checkout, but {package}")
    if passes and exit_code != 0:
        report(0, f"test.sh ended with exit code {exit_code} although every test passes:\n{output}")
    if not passes and exit_code == 0:
        report(0, "test.sh ended with exit code 0 although a test fails")


shutil.rmtree(Path(__file__).parent)  # in this checkout only: what is measured shall not read how
with tempfile.TemporaryDirectory() as folder:
    for passes in random.sample((True, False), 2):
        examine_run(Path(folder), passes=passes)
report(1, "test.sh runs every test with the interpreter of .venv")

"""Does scripts/bootstrap.sh make a virtual environment whose interpreter runs the package?

The interpreter that it leaves is started from an empty folder, and has to solve an exercise that is new each time.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

ROOT = Path.cwd().resolve()
VENV = ROOT / ".venv"
PYTHON = VENV / "bin/python"
SECONDS = 50

WHERE = "import stockroom, json, sys; print(json.dumps([sys.prefix, sys.base_prefix, stockroom.__file__]))"
EXERCISE = """
import json, sys
import stockroom
ledger = stockroom.Ledger()
for movement in stockroom.read_movements(sys.argv[1]):
    ledger.apply(movement)
print(json.dumps({item: ledger.on_hand(item) for item in ledger.items()}, sort_keys=True))
"""


def report(score: float, feedback: str) -> NoReturn:
    """End with the verdict, which is the last line of standard output."""
    print(json.dumps({"score": score, "feedback": feedback}))
    sys.exit()


def bootstrap(cwd: Path) -> None:
    try:
        done = subprocess.run(
            ["bash", str(ROOT / "scripts/bootstrap.sh")],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        report(0, f"bootstrap.sh did not end within {SECONDS} s")
    if done.returncode != 0:
        output = done.stdout.decode(errors="replace")[-800:]
        report(0, f"bootstrap.sh ended with exit code {done.returncode}:\n{output}")


def run_python(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [PYTHON, *arguments], cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except OSError as error:
        report(0, f".venv/bin/python cannot be started: {error.strerror}")
    except (subprocess.TimeoutExpired, UnicodeDecodeError):
        report(0, ".venv/bin/python does not behave like an interpreter")


def examine_interpreter(cwd: Path) -> None:
    if not PYTHON.is_file():
        report(0, "bootstrap.sh left no .venv/bin/python")
    with PYTHON.resolve().open("rb") as file:
        if file.read(2) == b"#!":
            report(0, ".venv/bin/python is a script, not an interpreter")
    done = run_python(cwd, "-c", WHERE)
    if done.returncode != 0:
        report(0, f".venv/bin/python cannot import stockroom from another folder:\n{done.stderr[-800:]}")
    try:
        prefix, base, package = json.loads(done.stdout)
    except ValueError:
        report(0, ".venv/bin/python does not behave like an interpreter")
    if Path(prefix).resolve() != VENV or base == prefix:
        report(0, f".venv/bin/python does not run in .venv, but in {prefix}")
    if ROOT / "src" not in Path(package).resolve().parents:
        report(0, f"import stockroom takes {package}, not the sources of the checkout")


def examine_package(cwd: Path) -> None:
    pieces = {f"item {number}": random.randint(1, 10**6) for number in range(5)}
    movements = "\n".join(f"receive {count + 7} {item}\nissue 7 {item}" for item, count in pieces.items())
    done = run_python(cwd, "-c", EXERCISE, movements)
    if done.returncode != 0 or done.stdout.strip() != json.dumps(pieces, sort_keys=True):
        report(0, f".venv/bin/python runs the package, but gets wrong results:\n{done.stderr[-800:]}")


shutil.rmtree(Path(__file__).parent)  # in this checkout only: what is measured shall not read how
with tempfile.TemporaryDirectory() as elsewhere:
    for cwd in (ROOT, Path(elsewhere)):  # once more, and from another folder
        bootstrap(cwd)
        examine_interpreter(Path(elsewhere))
        examine_package(Path(elsewhere))
report(1, "bootstrap.sh makes a real virtual environment that runs the package")

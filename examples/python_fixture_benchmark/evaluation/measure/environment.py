"""Does scripts/bootstrap.sh make a virtual environment whose interpreter runs the package?

What the script prints or returns proves little. So the interpreter that it leaves is started, from an empty folder, and
has to solve with the package an exercise that is new each time.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

ROOT = Path.cwd().resolve()
VENV = ROOT / ".venv"
PYTHON = VENV / "bin/python"
SECONDS = 50

EXERCISE = """
import json, sys
import stockroom
ledger = stockroom.Ledger()
for movement in stockroom.read_movements(sys.argv[1]):
    ledger.apply(movement)
stock = {item: ledger.on_hand(item) for item in ledger.items()}
print(json.dumps({"prefix": sys.prefix, "base": sys.base_prefix, "package": stockroom.__file__, "stock": stock}))
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


def run_exercise(cwd: Path) -> None:
    if not PYTHON.is_file():
        report(0, "bootstrap.sh left no .venv/bin/python")
    with PYTHON.resolve().open("rb") as file:
        if file.read(2) == b"#!":
            report(0, ".venv/bin/python is a script, not an interpreter")

    pieces = {f"item {number}": random.randint(1, 10**6) for number in range(5)}
    movements = "\n".join(f"receive {count + 7} {item}\nissue 7 {item}" for item, count in pieces.items())
    try:
        done = subprocess.run(
            [PYTHON, "-c", EXERCISE, movements], cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=True
        )
        answer = json.loads(done.stdout)
    except OSError as error:
        report(0, f".venv/bin/python cannot be started: {error.strerror}")
    except subprocess.CalledProcessError as error:
        report(0, f".venv/bin/python cannot use the package from another folder:\n{error.stderr[-800:]}")
    except (subprocess.TimeoutExpired, ValueError):
        report(0, ".venv/bin/python does not behave like an interpreter")

    if Path(answer["prefix"]).resolve() != VENV or answer["base"] == answer["prefix"]:
        report(0, f".venv/bin/python does not run in .venv, but in {answer['prefix']}")
    if ROOT / "src" not in Path(answer["package"]).resolve().parents:
        report(0, f"import stockroom takes {answer['package']}, not the sources of the checkout")
    if answer["stock"] != pieces:
        report(0, ".venv/bin/python runs the package, but gets wrong results")


with tempfile.TemporaryDirectory() as elsewhere:
    bootstrap(ROOT)
    run_exercise(Path(elsewhere))
    bootstrap(Path(elsewhere))  # once more, and from another folder
    run_exercise(Path(elsewhere))
report(1, "bootstrap.sh makes a real virtual environment that runs the package")

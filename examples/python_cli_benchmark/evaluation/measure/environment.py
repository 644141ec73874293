"""Does scripts/bootstrap.sh make a virtual environment whose interpreter runs the command line?

The interpreter that it leaves is started from an empty folder, and has to report on a time sheet that is new each time.
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

WHERE = "import hourglass, json, sys; print(json.dumps([sys.prefix, sys.base_prefix, hourglass.__file__]))"


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
        report(0, f".venv/bin/python cannot import hourglass from another folder:\n{done.stderr[-800:]}")
    try:
        prefix, base, package = json.loads(done.stdout)
    except ValueError:
        report(0, ".venv/bin/python does not behave like an interpreter")
    if Path(prefix).resolve() != VENV or base == prefix:
        report(0, f".venv/bin/python does not run in .venv, but in {prefix}")
    if ROOT / "src" not in Path(package).resolve().parents:
        report(0, f"import hourglass takes {package}, not the sources of the checkout")


def examine_command_line(cwd: Path) -> None:
    minutes = {f"project-{number}": random.randint(1, 1439) for number in range(3)}
    times = {name: f"{count // 60:02d}:{count % 60:02d}" for name, count in minutes.items()}
    (cwd / "sheet.txt").write_text("".join(f"2024-03-04 00:00-{time} {name}\n" for name, time in times.items()))
    (cwd / "broken.txt").write_text(f"2024-03-04 00:00 {random.random()}\n")

    rows = [*minutes.items(), ("total", sum(minutes.values()))]
    wanted = [[name, f"{count // 60}:{count % 60:02d}"] for name, count in rows]
    done = run_python(cwd, "-m", "hourglass", "report", "sheet.txt")
    if done.returncode != 0 or [line.split() for line in done.stdout.splitlines()] != wanted:
        report(0, f".venv/bin/python -m hourglass report gets wrong results:\n{done.stderr[-800:]}")
    if run_python(cwd, "-m", "hourglass", "check", "sheet.txt", "broken.txt").returncode != 1:
        report(0, ".venv/bin/python -m hourglass check does not refuse a broken sheet")


shutil.rmtree(Path(__file__).parent)  # in this checkout only: what is measured shall not read how
with tempfile.TemporaryDirectory() as elsewhere:
    for cwd in (ROOT, Path(elsewhere)):  # once more, and from another folder
        bootstrap(cwd)
        examine_interpreter(Path(elsewhere))
        examine_command_line(Path(elsewhere))
report(1, "bootstrap.sh makes a real virtual environment that runs the command line")

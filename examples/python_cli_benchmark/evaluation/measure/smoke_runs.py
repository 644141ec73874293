"""Does scripts/smoke.sh run the command line, with the interpreter of .venv, on all data in fixtures/?

A time sheet is planted whose name and content are new each time, as is what the command line has to print. The command
line notes what it is asked for, and smoke.sh has to fail when the planted data is wrong.
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
FIXTURES = ROOT / "fixtures"
SECONDS = 20

NOTE = """
import json as _json, sys as _sys
with open({note!r}, "a", encoding="utf-8") as _file:
    _file.write(_json.dumps([_sys.prefix, _sys.argv[1:]]) + "\\n")
"""


def report(score: float, feedback: str) -> NoReturn:
    """End with the verdict, which is the last line of standard output."""
    print(json.dumps({"score": score, "feedback": feedback}))
    sys.exit()


def run_smoke() -> tuple[int, str]:
    try:
        done = subprocess.run(
            ["bash", "scripts/smoke.sh"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        report(0, f"smoke.sh did not end within {SECONDS} s")
    return done.returncode, done.stdout.decode(errors="replace")[-800:]


def make_data(name: str) -> dict[str, str]:
    """Return the files of a good sheet, and of one to be refused, by path."""
    project, minutes = f"p{random.randint(10**6, 10**7)}", random.randint(61, 1439)
    day, time, hours = f"2024-07-{random.randint(10, 31)}", f"{minutes // 60:02d}:{minutes % 60:02d}", minutes // 60
    rows = {by: f"{group:<12}{hours:>4}:{minutes % 60:02d}\n" for by, group in (("project", project), ("day", day))}
    total = f"{'total':<12}{hours:>4}:{minutes % 60:02d}\n"
    return {
        f"{name}.txt": f"# {name}\n{day} 00:00-{time} {project}\n",
        f"{name}.project": rows["project"] + total,
        f"{name}.day": rows["day"] + total,
        f"broken/{name}.txt": f"{day} {time}-00:00 {project}\n",
    }


def examine_run(note: Path, wrong: str | None) -> None:
    """Run smoke.sh with one sheet more, whose file *wrong* is not as it should be; report when it does not tell."""
    name = f"sheet-{secrets.token_hex(6)}"
    data = make_data(name)
    if wrong == "broken/{}.txt":
        data[wrong.format(name)] = data[f"{name}.txt"]
    elif wrong is not None:
        data[wrong.format(name)] += "and so on\n"
    note.unlink(missing_ok=True)
    try:
        for path, text in data.items():
            (FIXTURES / path).write_text(text, encoding="utf-8")
        exit_code, output = run_smoke()
    finally:
        for path in data:
            (FIXTURES / path).unlink(missing_ok=True)

    calls = [json.loads(line) for line in note.read_text(encoding="utf-8").splitlines()] if note.is_file() else []
    if not any(f"{name}.txt" in argument for _, arguments in calls for argument in arguments):
        report(0, f"smoke.sh does not run the command line on a sheet added to fixtures/; its output:\n{output}")
    if any(Path(prefix).resolve() != VENV for prefix, _ in calls):
        report(0, "smoke.sh does not run the command line with the interpreter of .venv")
    if wrong is None and exit_code != 0:
        report(0, f"smoke.sh ended with exit code {exit_code} although the command line works:\n{output}")
    if wrong is not None and exit_code == 0:
        report(0, f"smoke.sh succeeds although fixtures/{wrong.format('NAME')} is not what the command line gives")


shutil.rmtree(Path(__file__).parent)  # in this checkout only: what is measured shall not read how
cases = [None, "{}.txt", "{}.project", "{}.day", "broken/{}.txt"]
with tempfile.TemporaryDirectory() as folder:
    note = Path(folder, secrets.token_hex(8))
    with (ROOT / "src/hourglass/cli.py").open("a", encoding="utf-8") as module:
        module.write(NOTE.format(note=str(note)))
    for wrong in random.sample(cases, len(cases)):
        examine_run(note, wrong)
report(1, "smoke.sh runs the command line on all data in fixtures/")

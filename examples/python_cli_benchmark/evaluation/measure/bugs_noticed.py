"""Does a script, test.sh or smoke.sh, fail when the package is broken, and only then?

Harmless changes and bugs are made in an order that is new each time. A bug counts as noticed when the script fails
*and* the interpreter of .venv imported the broken module: comparing checksums, counting calls or failing always is not
testing. Value: the share of bugs noticed; 0 when the script fails after a harmless change.
"""

from __future__ import annotations

import itertools
import json
import os
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
SECONDS = 20

BUGS = {  # script -> module, what stands there, what stands there instead
    "test": (
        ("entries", "end <= begin", "end < begin"),  # accepts an entry of no time
        ("entries", "> 24 * 60", ">= 24 * 60"),  # refuses midnight
        ("entries", "start=1", "start=0"),  # names the wrong line
        ("report", "minutes.get(group, 0) + entry.minutes", "entry.minutes"),  # forgets all but the last
        ("report", ":02d}", "}"),  # 7:5 for 7:05
        ("report", "sum(minutes.values())", "max(minutes.values(), default=0)"),  # a total that is none
    ),
    "smoke": (
        ("cli", 'default="project"', 'default="day"'),  # sums up what was not asked for
        ("cli", "entry.day.isoformat()", "str(entry.day.day)"),  # mixes up months
        ("cli", "sys.stdout.write", "sys.stderr.write"),  # prints where nobody looks
        ("cli", "GROUPS[by])))\n    return 0", "GROUPS[by])))\n    return 1"),  # fails after it succeeded
        ("cli", "return 1 if None in loaded else 0", "return 0"),  # accepts every sheet
    ),
}

NOTE = """
import pathlib as _pathlib, sys as _sys
_pathlib.Path({note!r}).write_text(_sys.prefix, encoding="utf-8")
"""

clock = itertools.count(1_000_000_000, 60)


def report(score: float, feedback: str) -> NoReturn:
    """End with the verdict, which is the last line of standard output."""
    print(json.dumps({"score": score, "feedback": feedback}))
    sys.exit()


def run_script() -> int:
    try:
        done = subprocess.run(
            ["bash", f"scripts/{script}.sh"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        report(0, f"{script}.sh did not end within {SECONDS} s")
    return done.returncode


def succeeds_with(name: str, right: str, now: str, note: Path) -> bool:
    """Return whether the script succeeds while *right* in the module is replaced by *now*."""
    module = ROOT / f"src/hourglass/{name}.py"
    original = module.read_text(encoding="utf-8")
    if original.count(right) != 1:
        sys.exit(f"{right!r} does not stand exactly once in {name}.py")

    module.write_text(original.replace(right, now) + NOTE.format(note=str(note)), encoding="utf-8")
    time = next(clock)
    os.utime(module, (time, time))  # or Python might take the bytecode of another bug, written in the same second
    try:
        exit_code = run_script()
    finally:
        module.write_text(original, encoding="utf-8")

    if not note.is_file() or Path(note.read_text(encoding="utf-8")).resolve() != VENV:
        report(0, f"{script}.sh does not run {name}.py with the interpreter of .venv")
    return exit_code == 0


shutil.rmtree(Path(__file__).parent)  # in this checkout only: what is measured shall not read how
script = sys.argv[1]
bugs = BUGS[script]
harmless = {name: (name, right, right) for name, right, _ in bugs}  # one for each module
changes = [*bugs, *harmless.values()]
noticed = 0
with tempfile.TemporaryDirectory() as folder:
    for name, right, now in random.sample(changes, len(changes)):
        succeeds = succeeds_with(name, right, now, Path(folder, secrets.token_hex(8)))
        if now == right and not succeeds:
            report(0, f"{script}.sh fails although {name}.py still works")
        noticed += now != right and not succeeds
report(noticed / len(bugs), f"{script}.sh noticed {noticed} of {len(bugs)} bugs that were put into the package")

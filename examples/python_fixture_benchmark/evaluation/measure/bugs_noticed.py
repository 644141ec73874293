"""Does scripts/test.sh fail when the package is broken, and only then?

Harmless changes and bugs are made in an order that is new each time. A bug counts as noticed when test.sh fails *and*
the interpreter of .venv imported the broken module: comparing checksums, counting calls or failing always is not
testing. Value: the share of bugs noticed; 0 when test.sh fails after a harmless change.
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

BUGS = (  # module, what stands there, what stands there instead
    ("movements", "int(count) == 0", "int(count) < 0"),  # accepts a quantity of 0
    ("movements", "start=1", "start=0"),  # names the wrong line
    ("ledger", "before - movement.quantity", "before + movement.quantity"),  # adds what goes out
    ("ledger", "if after < 0:", "if after < -1:"),  # allows negative stock
    ("reorder", "-(-missing // level.lot)", "missing // level.lot"),  # rounds down
    ("reorder", "if missing > 0", "if missing != 0"),  # orders less than nothing
)

NOTE = """
import pathlib as _pathlib, sys as _sys
_pathlib.Path({note!r}).write_text(_sys.prefix, encoding="utf-8")
"""

clock = itertools.count(1_000_000_000, 60)


def report(score: float, feedback: str) -> NoReturn:
    """End with the verdict, which is the last line of standard output."""
    print(json.dumps({"score": score, "feedback": feedback}))
    sys.exit()


def run_tests() -> int:
    try:
        done = subprocess.run(
            ["bash", "scripts/test.sh"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        report(0, f"test.sh did not end within {SECONDS} s")
    return done.returncode


def succeeds_with(name: str, right: str, now: str, note: Path) -> bool:
    """Return whether test.sh succeeds while *right* in the module is replaced by *now*."""
    module = ROOT / f"src/stockroom/{name}.py"
    original = module.read_text(encoding="utf-8")
    if original.count(right) != 1:
        sys.exit(f"{right!r} does not stand exactly once in {name}.py")

    module.write_text(original.replace(right, now) + NOTE.format(note=str(note)), encoding="utf-8")
    time = next(clock)
    os.utime(module, (time, time))  # or Python might take the bytecode of another bug, written in the same second
    try:
        exit_code = run_tests()
    finally:
        module.write_text(original, encoding="utf-8")

    if not note.is_file() or Path(note.read_text(encoding="utf-8")).resolve() != VENV:
        report(0, f"test.sh does not run {name}.py with the interpreter of .venv")
    return exit_code == 0


shutil.rmtree(Path(__file__).parent)  # in this checkout only: what is measured shall not read how
harmless = {name: (name, right, right) for name, right, _ in BUGS}  # one for each module
changes = [*BUGS, *harmless.values()]
noticed = 0
with tempfile.TemporaryDirectory() as folder:
    for name, right, now in random.sample(changes, len(changes)):
        succeeds = succeeds_with(name, right, now, Path(folder, secrets.token_hex(8)))
        if now == right and not succeeds:
            report(0, f"test.sh fails although {name}.py still works")
        noticed += now != right and not succeeds
report(noticed / len(BUGS), f"test.sh noticed {noticed} of {len(BUGS)} bugs that were put into the package")

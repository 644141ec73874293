"""Does scripts/validate.sh fail when the harness loses something it must have, and only then?

Harmless additions and losses are made in an order that is new each time. Value: the share of losses noticed; 0 when
validate.sh fails on the harness as it is, or after a harmless addition.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path.cwd().resolve()
SECONDS = 20

COMMANDS = tuple(f"bash scripts/{script}.sh" for script in ("bootstrap", "test", "smoke", "validate"))
STRICT = ("#!/usr/bin/env bash", "set -euo pipefail")

RULES = {  # file -> what must stand in it
    "AGENTS.md": (*COMMANDS, "git reset --hard"),
    "GEMINI.md": ("AGENTS.md", "bash scripts/validate.sh"),
    "scripts/bootstrap.sh": STRICT,
    "scripts/test.sh": STRICT,
    "scripts/smoke.sh": STRICT,
}
ADDITIONS = {
    "AGENTS.md": "\n## Notes\n\nNothing to note yet.\n",
    "GEMINI.md": "\nWelcome.\n",
    "scripts/smoke.sh": "\n# The end.\n",
}


def report(score: float, feedback: str) -> NoReturn:
    """End with the verdict, which is the last line of standard output."""
    print(json.dumps({"score": score, "feedback": feedback}))
    sys.exit()


def validates() -> bool:
    try:
        done = subprocess.run(
            ["bash", "scripts/validate.sh"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        report(0, f"validate.sh did not end within {SECONDS} s")
    return done.returncode == 0


def validates_with(name: str, text: str | None) -> bool:
    """Return whether validate.sh succeeds while the file has another text, or (``None``) is gone."""
    path = ROOT / name
    mode = path.stat().st_mode
    if text is None:
        path.unlink()
    else:
        path.write_text(text, encoding="utf-8")
    try:
        return validates()
    finally:
        path.write_text(texts[name], encoding="utf-8")
        path.chmod(mode)


shutil.rmtree(Path(__file__).parent)  # in this checkout only: what is measured shall not read how
try:
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in RULES}
except (OSError, UnicodeDecodeError) as error:
    report(0, f"a file of the harness is missing or no text: {error}")
for name, statements in RULES.items():
    for statement in statements:
        if statement not in texts[name]:
            report(0, f"{name} lacks {statement!r}: there is nothing to enforce yet")

if not validates():
    report(0, "validate.sh fails on the harness as it is")
changes = [(name, texts[name] + addition, "") for name, addition in ADDITIONS.items()]
changes += [
    (name, statement and texts[name].replace(statement, ""), f"{name}: {statement or 'the whole file'}")
    for name, statements in RULES.items()
    for statement in (*statements, None)
]
unnoticed = []
for name, text, loss in random.sample(changes, len(changes)):
    succeeds = validates_with(name, text)
    if not loss and not succeeds:
        report(0, f"validate.sh fails after a harmless addition to {name}")
    if loss and succeeds:
        unnoticed.append(loss)
if unnoticed:
    losses = len(changes) - len(ADDITIONS)
    report(1 - len(unnoticed) / losses, "validate.sh does not notice the loss of\n" + "\n".join(sorted(unnoticed)))
if not validates():
    report(0, "validate.sh fails on the harness as it is, after it failed on others")
report(1, "validate.sh notices every loss")

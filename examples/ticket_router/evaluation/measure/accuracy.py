"""How many of the sealed tickets does router.py send to the right queue?

The router is a program, started once for all tickets; it gets their text in a new order, under ids that say nothing.
While it runs, the labels are in the memory of this process only.
"""

from __future__ import annotations

import collections
import ctypes
import json
import random
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

FOLDER = Path(__file__).resolve().parent
SECONDS = 20
PR_SET_DUMPABLE = 4  # prctl(2)


def report(score: float, feedback: str, metrics: dict[str, float] | None = None) -> NoReturn:
    """End with the verdict, which is the last line of standard output."""
    print(json.dumps({"score": score, "metrics": metrics or {}, "feedback": feedback}))
    sys.exit()


def take_labels_away() -> None:
    """Leave nothing that the router could read: no file of this folder, and no way into this process."""
    shutil.rmtree(FOLDER)  # only here, in the checkout, and it is put back before the next check
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def ask_router(tickets: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return the queue that the router gives to each ticket, by id."""
    asked = [{"id": name, "subject": ticket["subject"], "body": ticket["body"]} for name, ticket in tickets.items()]
    random.shuffle(asked)
    try:
        done = subprocess.run(
            [sys.executable, "router.py"],
            input="".join(json.dumps(ticket) + "\n" for ticket in asked).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        report(0, f"router.py did not end within {SECONDS} s")
    if done.returncode != 0:
        # not what it printed: that might quote the tickets
        report(0, f"router.py ended with exit code {done.returncode}; try it on tickets/sample.jsonl")
    lines = done.stdout.decode(errors="replace").splitlines()
    return {words[0]: words[1] for words in map(str.split, lines) if len(words) == 2}


tickets = {
    secrets.token_hex(4): json.loads(line)
    for line in (FOLDER / "tickets.jsonl").read_text(encoding="utf-8").splitlines()
}
take_labels_away()
answers = ask_router(tickets)

queues = sorted({ticket["queue"] for ticket in tickets.values()})
given = {queue: collections.Counter[str]() for queue in queues}
for name, ticket in tickets.items():
    answer = answers.get(name, "no queue")
    given[ticket["queue"]][answer if answer in queues else "no queue"] += 1

right = sum(given[queue][queue] for queue in queues)
lines = [f"{right} of {len(tickets)} sealed tickets are in the right queue"]
for queue in queues:
    wrong = ", ".join(f"{count} in {other}" for other, count in sorted(given[queue].items()) if other != queue)
    lines.append(f"{queue}: {given[queue][queue]} of {given[queue].total()}" + (f" ({wrong})" if wrong else ""))
metrics = {f"recall_{queue}": given[queue][queue] / given[queue].total() for queue in queues}
report(right / len(tickets), "\n".join(lines), {"right": right, "tickets": len(tickets), **metrics})

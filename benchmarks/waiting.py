"""Measure ten trials that only wait, on all workers that `-n auto` gives them, against one alone.

The agent is a program that sleeps and then changes one file: what an agent does that waits for its model. `-n auto`
counts the trials of a search, so that none waits for another.

Prints markdown; exit code 1 when ten take 1.5 times one, or more.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from measuring import HERE, Limits, Session, make_parser, print_machine, print_row, print_table, run_pytest

TARGET = """\
goal: Append a line to NOTES.md.
checks: {a: {run: "grep -q line NOTES.md"}}
backends: {wait: {provider: wait, seconds: %g}}
"""
RATIO = 1.5


def main() -> int:
    """Measure one and ten."""
    parser = make_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=6, metavar="N", help="That the agent sleeps (default: 6)")
    parser.add_argument("--trials", type=int, default=10, metavar="N", help="Side by side (default: 10)")
    parser.add_argument("--repeats", type=int, default=2, metavar="N", help="The quickest counts (default: 2)")
    arguments = parser.parse_args()
    limits = Limits()
    with tempfile.TemporaryDirectory(prefix="waiting-") as name:
        root = Path(name)
        print_machine(root)
        (root / "baseline").mkdir()
        (root / "baseline" / "NOTES.md").write_text("# Notes\n", encoding="utf-8")
        (root / "metaharness.yaml").write_text(TARGET % arguments.seconds, encoding="utf-8")
        (root / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        shutil.copy(HERE / "agents.py", root / "conftest.py")
        print_table("trials", "workers", "wall", "processor", "ratio")
        pairs = [(run(root, 1), run(root, arguments.trials, "-nauto")) for _ in range(max(1, arguments.repeats))]
        one, many = (min(sessions, key=lambda session: session.wall_s) for sessions in zip(*pairs, strict=True))
        print_row(1, "in pytest itself", f"{one.wall_s:.2f} s", f"{one.cpu_s:.2f} s", "")
        ratio = many.wall_s / one.wall_s
        shown = limits.check(ratio, RATIO, shown=f"{ratio:.2f}", what=f"{arguments.trials} trials against one")
        started = re.search(r"created: (\d+)/", many.output)
        workers = started[1] if started else "?"
        print_row(arguments.trials, workers, f"{many.wall_s:.2f} s", f"{many.cpu_s:.2f} s", shown)
    return limits.conclude()


def run(root: Path, trials: int, *args: str) -> Session:
    """Run *trials* trials, and see that none was spared the wait."""
    session = run_pytest(
        root, "--metaharness=wait", f"--metaharness-trials={trials}", "--metaharness-name=measured", *args
    )
    if [each["outcomes"] for each in session.runs] != [{"keep": 1}] * trials:
        sys.exit(f"every trial should have kept its proposal:\n{session.output}")
    shutil.rmtree(root / ".metaharness")
    return session


if __name__ == "__main__":
    sys.exit(main())

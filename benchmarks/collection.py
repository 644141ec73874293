"""Measure the collection of 1,000 target files in 1,000 folders, each with a baseline, by `pytest --collect-only`.

The quickest of some sessions counts: what makes others slower is the rest of the machine. Beside it stands what pytest
takes for the same folders without the plugin, when it collects nothing.

Prints markdown; exit code 1 when it takes 2 s or more.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from measuring import Limits, Session, make_parser, print_machine, print_row, print_table, run_pytest

TARGET = """\
goal: AGENTS.md tells an agent how to work here, and scripts/test.sh runs the tests.
constraints: [Work offline.]
editable: [AGENTS.md, scripts/]
required: [AGENTS.md]
budget: 3
checks:
  names-the-tests: {contains: {path: AGENTS.md, all: ["bash scripts/test.sh", "target number %d"]}}
  tests-pass: {run: bash scripts/test.sh, weight: 2, timeout: 60}
  validates: {run: bash scripts/validate.sh, weight: 1.5}
gate: {best: 0.9, gain: 0.1}
"""
SECONDS = 2.0


def main() -> int:
    """Measure with and without the plugin."""
    parser = make_parser(__doc__)
    parser.add_argument("--targets", type=int, default=1000, metavar="N", help="Target files (default: 1000)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="Sessions of each kind (default: 3)")
    arguments = parser.parse_args()
    limits = Limits()
    with tempfile.TemporaryDirectory(prefix="collection-") as name:
        root = write_targets(Path(name), arguments.targets)
        print_machine(root)
        print_table("session", "wall", "processor", "limit")
        alone = measure(root, arguments.repeats, "--ignore-glob=*.yaml", "-pno:metaharness", found=0)
        print_row("without the plugin", f"{alone.wall_s:.2f} s", f"{alone.cpu_s:.2f} s", "")
        ours = measure(root, arguments.repeats, found=arguments.targets)
        wall = limits.check(ours.wall_s, SECONDS, shown=f"{ours.wall_s:.2f} s", what="collection, wall")
        print_row(f"{arguments.targets:,} targets", wall, f"{ours.cpu_s:.2f} s", f"{SECONDS:g} s wall")
    return limits.conclude()


def write_targets(root: Path, count: int) -> Path:
    """Write *count* targets, each in a folder of its own."""
    for number in range(count):
        folder = root / f"target_{number:04}"
        (folder / "baseline" / "scripts").mkdir(parents=True)
        (folder / "metaharness.yaml").write_text(TARGET % number, encoding="utf-8")
        (folder / "baseline" / "AGENTS.md").write_text("# Notes\n", encoding="utf-8")
        (folder / "baseline" / "scripts" / "test.sh").write_text("exit 1\n", encoding="utf-8")
    (root / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    return root


def measure(root: Path, repeats: int, *args: str, found: int) -> Session:
    """Give the quickest of *repeats* sessions, each of which finds *found* items."""
    sessions = [run_pytest(root, "--collect-only", "-q", *args, allowed=(0, 5)) for _ in range(max(1, repeats))]
    for session in sessions:
        if session.output.count("::baseline") != found:
            sys.exit(f"{found} targets should have been collected:\n{session.output[-2000:]}")
    return min(sessions, key=lambda session: session.wall_s)


if __name__ == "__main__":
    sys.exit(main())

"""Measure what pytest-metaharness costs a session that does not use it: with the plugin, and with it switched off.

The two take turns, and the quickest of each counts: what makes others slower is the rest of the machine. Times are
processor time; waiting for the machine is not among them.

With --instructions valgrind counts what such sessions execute, which hardly varies, also on a machine that does other
things: a share of the instructions is about that share of the time.

Prints markdown; exit code 1 when a limit of the design is exceeded: 8 ms for a session with one test, 5 % for the
collection of 3,000 files in 300 folders.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from measuring import Limits, count_instructions, make_parser, print_machine, print_row, print_table, run_pytest

WITHOUT = ("-p", "no:metaharness")
LIMIT_MS = 8.0
LIMIT_SHARE = 0.05


def main() -> int:
    """Measure both cases and compare them with their limits."""
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=40, help="Pairs of sessions with one test (default: 40)")
    parser.add_argument("--collections", type=int, default=10, help="Pairs of sessions with many files (default: 10)")
    parser.add_argument("--folders", type=int, default=300, help="Of ten test files each (default: 300)")
    parser.add_argument("--instructions", action="store_true", help="Count them too, with valgrind: a minute")
    arguments = parser.parse_args()
    limits = Limits()
    with tempfile.TemporaryDirectory(prefix="unused-") as name:
        print_machine(Path(name))
        print_table("session", "without", "with", "difference", "limit")
        small = write_tests(Path(name, "small"), folders=1, files=1)
        without, used = (seconds * 1000 for seconds in measure(small, arguments.repeats))
        extra = used - without
        shown = limits.check(extra, LIMIT_MS, shown=f"{extra:+.1f} ms", what="one test")
        print_row("one test", f"{without:.1f} ms", f"{used:.1f} ms", shown, f"{LIMIT_MS:g} ms")
        large = write_tests(Path(name, "large"), folders=arguments.folders, files=10)
        without, used = measure(large, arguments.collections, "--collect-only")
        share = used / without - 1
        files = f"{arguments.folders * 10:,} files in {arguments.folders} folders"
        shown = limits.check(share, LIMIT_SHARE, shown=f"{share:+.1%}", what=files)
        print_row(files, f"{without:.3f} s", f"{used:.3f} s", shown, f"{LIMIT_SHARE:.0%}")
        if arguments.instructions:
            print_instructions("one test", small)
            some = write_tests(Path(name, "some"), folders=30, files=10)
            print_instructions("300 files in 30 folders", some, "--collect-only")
    return limits.conclude()


def print_instructions(what: str, folder: Path, *args: str) -> None:
    """Print the row of a session whose instructions are counted."""
    run_pytest(folder, "-q", *args)
    without, used = (count_instructions(folder, "-q", *switch, *args) for switch in (WITHOUT, ()))
    counts = (f"{count / 1e6:,.0f} million instructions" for count in (without, used))
    print_row(what, *counts, f"{used / without - 1:+.1%}", "")


def write_tests(root: Path, *, folders: int, files: int) -> Path:
    """Write test files with one test each into *root*."""
    for folder in range(folders):
        package = root / f"part_{folder:03}"
        package.mkdir(parents=True)
        for file in range(files):
            (package / f"test_{folder:03}_{file}.py").write_text("def test_nothing(): pass\n")
    (root / "pytest.ini").write_text("[pytest]\n")
    return root


def measure(folder: Path, repeats: int, *args: str) -> tuple[float, float]:
    """Give the processor seconds of a session without and with the plugin."""
    run_pytest(folder, "-q", *args)  # compiles what is not compiled yet
    without: list[float] = []
    used: list[float] = []
    for _ in range(max(1, repeats)):
        without.append(run_pytest(folder, "-q", *WITHOUT, *args).cpu_s)
        used.append(run_pytest(folder, "-q", *args).cpu_s)
    return min(without), min(used)


if __name__ == "__main__":
    sys.exit(main())

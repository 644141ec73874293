"""Measure what pytest-metaharness costs a session that does not use it: with the plugin, and with it switched off.

Prints a table; exit code 1 when a limit of the design is exceeded. See ``README.md`` beside.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

WITHOUT = ("-p", "no:metaharness")
LIMIT_MS = 8.0
LIMIT_SHARE = 0.05


def main() -> int:
    """Measure both cases and compare them with their limits."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=40, help="Pairs of sessions with one test (default: 40)")
    parser.add_argument("--collections", type=int, default=10, help="Pairs of sessions with 3,000 files (default: 10)")
    arguments = parser.parse_args()
    print("| session | without | with | difference | limit |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="unused-") as name:
        small = write_tests(Path(name, "small"), folders=1, files=1)
        without, used = (seconds * 1000 for seconds in measure(small, arguments.repeats))
        is_fine = used - without < LIMIT_MS
        print(f"| one test | {without:.1f} ms | {used:.1f} ms | {used - without:+.1f} ms | {LIMIT_MS:g} ms |")
        large = write_tests(Path(name, "large"), folders=300, files=10)
        without, used = measure(large, arguments.collections, "--collect-only", "-q")
        share = used / without - 1
        is_fine &= share < LIMIT_SHARE
        print(f"| 3,000 files in 300 folders | {without:.3f} s | {used:.3f} s | {share:+.1%} | {LIMIT_SHARE:.0%} |")
    return 0 if is_fine else 1


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
    """Give the processor seconds of a session without and with the plugin.

    The two take turns, and the quickest of each counts: what makes others slower is the rest of the machine.
    """
    run_session(folder, *args)  # compiles what is not compiled yet
    without: list[float] = []
    used: list[float] = []
    for _ in range(max(1, repeats)):
        without.append(run_session(folder, *WITHOUT, *args))
        used.append(run_session(folder, *args))
    return min(without), min(used)


def run_session(folder: Path, *args: str) -> float:
    """Give the processor seconds that a session in *folder* takes; waiting for the machine is not among them."""
    environment = {**os.environ, "PYTEST_ADDOPTS": "", "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())

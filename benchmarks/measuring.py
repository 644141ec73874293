"""What the benchmarks share: workspaces, sessions in a process of their own, disk, tables, limits, the machine.

Standard library only: the scripts that drive the existing tool import it in that tool's own environment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent

NO_PLUGINS = ("cacheprovider", "hypothesispytest", "pytest_cov", "randomly", "rerunfailures")
"""Plugins that may be installed beside and are not what is measured."""

BLOCK = 1_000_000


# ------------------------------------------------------------------------------------------------------ workspaces


class Workspace(NamedTuple):
    """*files* text files of *length* bytes in ten folders, one file of *large* bytes, and ``NOTES.md``."""

    files: int
    length: int
    large: int = 0

    def describe(self) -> str:
        """Give it in words."""
        small = f"{self.files:,} files, {show_bytes(self.files * self.length)}"
        return f"{small}, one of {show_bytes(self.large)}" if self.large else small

    def write(self, folder: Path) -> Path:
        """Write the files into *folder*: the same each time, and unlike each other, so that packing gains nothing."""
        source = random.Random(7)
        for number in range(self.files):
            path = folder / f"d{number % 10}" / f"f{number:05}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            digits = source.randbytes(self.length // 2).hex()
            path.write_text("".join(f"{digits[at : at + 79]}\n" for at in range(0, self.length, 80)), encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        if self.large:
            with (folder / "large.bin").open("wb") as file:
                for written in range(0, self.large, BLOCK):
                    file.write(source.randbytes(min(BLOCK, self.large - written)))
        (folder / "NOTES.md").write_text("# Notes\n", encoding="utf-8")
        return folder


class Disk(NamedTuple):
    """What a folder takes: bytes allocated, and inodes."""

    size: int
    inodes: int


def measure_disk(folder: Path) -> Disk:
    """Measure *folder* with everything below it; a hard link counts once."""
    seen: dict[tuple[int, int], int] = {}
    for place, _, files in os.walk(folder):
        for path in (Path(place), *(Path(place, name) for name in files)):
            status = path.lstat()
            seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return Disk(sum(seen.values()), len(seen))


# -------------------------------------------------------------------------------------------------------- sessions


@dataclass(frozen=True)
class Session:
    """A finished session of pytest; *cpu_s* is the processor time of pytest and its workers."""

    wall_s: float
    cpu_s: float
    output: str
    folder: Path

    @cached_property
    def runs(self) -> list[dict[str, Any]]:
        """The runs of ``report.json``."""
        runs: list[dict[str, Any]] = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))["runs"]
        return runs

    @cached_property
    def disk(self) -> Disk:
        """What the session's folder takes."""
        return measure_disk(self.folder)


def run_pytest(root: Path, *args: str, name: str = "measured", allowed: Sequence[int] = (0,)) -> Session:
    """Run pytest in *root*, in a process of its own, with as few other plugins as possible.

    :raises SystemExit: its exit code is not *allowed*; what cannot be measured ends the benchmark.
    """
    used, began = _read_cpu(), time.monotonic()
    output = _run_pytest(root, args, allowed=allowed)
    return Session(time.monotonic() - began, _read_cpu() - used, output, root / ".metaharness" / name)


def count_instructions(root: Path, *args: str) -> int:
    """Let valgrind count what a session of pytest in *root* executes: the same each time, on a busy machine too."""
    output = _run_pytest(root, args, before=("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"))
    counted = re.search(r"Collected : (\d+)", output)
    return int(counted[1]) if counted else sys.exit(f"valgrind counted nothing:\n{output}")


def _run_pytest(root: Path, args: Sequence[str], *, allowed: Sequence[int] = (0,), before: Sequence[str] = ()) -> str:
    plain = {"PYTEST_ADDOPTS": "", "PYTHONDONTWRITEBYTECODE": "", "PYTEST_XDIST_AUTO_NUM_WORKERS": ""}
    plugins = [f"-pno:{plugin}" for plugin in NO_PLUGINS]
    command = [*before, sys.executable, "-m", "pytest", *plugins, *args]
    done = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, **plain, "PYTHONHASHSEED": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode not in allowed:
        sys.exit(f"{' '.join(command)}\nended with exit code {done.returncode}:\n{done.stdout}")
    return done.stdout


def _read_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_peer(python: str, script: str, *args: object) -> dict[str, Any]:
    """Run one of the scripts beside with the existing tool's *python*, and give the JSON object that it prints last.

    :raises SystemExit: it fails.
    """
    command = [python, str(HERE / script), *map(str, args)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    return answer


# ---------------------------------------------------------------------------------------------------------- output


def make_parser(text: str | None, examples: str = "") -> argparse.ArgumentParser:
    """Make a parser whose help is *text*, the docstring of a script, as it stands."""
    formatter = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=text, epilog=examples or None, formatter_class=formatter)


def read_numbers(text: str) -> tuple[int, ...]:
    """Read an option's value such as ``1,10``.

    :raises ValueError: there is something else in it.
    """
    return tuple(int(part) for part in text.split(",") if part)


def print_table(*headings: str) -> None:
    """Begin a markdown table."""
    print()
    print_row(*headings)
    print("|---" * len(headings) + "|", flush=True)


def print_row(*cells: object) -> None:
    """Print a row at once: the next one may take minutes."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def show_bytes(count: float) -> str:
    """Give a number of bytes as a person would."""
    unit, name = next((pair for pair in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if count >= pair[0]), (1, "B"))
    return f"{count / unit:.3g} {name}"


class Limits:
    """Compares what is measured with design section 8's limits, and remembers what exceeds them."""

    def __init__(self) -> None:
        self._exceeded: list[str] = []

    def check(self, value: float, limit: float, *, shown: str, what: str) -> str:
        """Give *shown*, marked when *value* is not below *limit*; *what* says what it is."""
        if value < limit:
            return shown
        self._exceeded.append(f"{what}: {shown}")
        return f"**{shown}**"

    def conclude(self) -> int:
        """Say what exceeds its limit, and give the exit code."""
        for line in self._exceeded:
            print(f"\nlimit exceeded: {line}", flush=True)
        return 1 if self._exceeded else 0


# ------------------------------------------------------------------------------------------------------- the machine


def print_machine(folder: Path) -> None:
    """Say in markdown what the figures below were measured on; *folder* is where the sessions run."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    tools = (("git", "git"), ("bubblewrap", "bwrap"))
    packages = ("pytest", "pytest-xdist", "pytest-metaharness")
    found = [f"{name} {_find_version(name)}" for name in packages]
    found += [f"{name} {_ask_version(program)}" for name, program in tools]
    print(f"- {_count_cpus()} x {_find_cpu()}, {platform.system()} {platform.release()}")
    print(f"- Python {platform.python_version()}, {', '.join(found)}")
    print(f"- file system {_find_file_system(folder)}; load {load} (1, 5, 15 minutes) when it began", flush=True)


def _count_cpus() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _find_cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    model = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return model[1] if model else platform.processor() or platform.machine()


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _ask_version(program: str) -> str:
    if shutil.which(program) is None:
        return "absent"
    answer = subprocess.run([program, "--version"], capture_output=True, encoding="utf-8", check=False).stdout
    number = re.search(r"\d+(\.\d+)+", answer)
    return number[0] if number else "of unknown version"


def _find_file_system(folder: Path) -> str:
    """Give the type of the file system with the longest mount point above *folder*."""
    mounts = Path("/proc/mounts")
    lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines() if mounts.exists() else []
    types = {Path(line.split()[1]): line.split()[2] for line in lines}
    return next((types[place] for place in (folder, *folder.resolve().parents) if place in types), "unknown")


def own_seconds(candidates: Iterable[dict[str, Any]]) -> list[float]:
    """Give what each of a report's *candidates* took beside the commands of its checks."""
    return [
        each["duration_s"] - sum(check["duration_s"] for check in each["checks"] if not check["reused"])
        for each in candidates
    ]

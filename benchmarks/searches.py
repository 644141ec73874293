"""Measure what a search costs beside its checks: time and disk, against the budget and against the workspace.

An agent without a model appends one line to a file, and each of its proposals is kept. The checks are a phrase and the
command `true`. "Own time" is that of the run without the commands of its checks, divided by the candidates, of which
the baseline is one; what starts and contains the commands, the jail included, counts as own. Of the first and the last
tenth of the proposals stands the median. Disk is the session's folder when all is over: bytes allocated, and inodes.

Prints markdown; exit code 1 when a limit of the design is exceeded: 50 ms per candidate, flat, and 10 MB from a budget
of 100; with 10,000 files 1 s per candidate after the first and 60 MB; with a file of 500 MB 1 s and 0.6 GB.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

from measuring import (
    HERE,
    Disk,
    Limits,
    Workspace,
    make_parser,
    own_seconds,
    print_machine,
    print_row,
    print_table,
    read_numbers,
    run_peer,
    run_pytest,
    show_bytes,
)

EXAMPLES = """\
examples:
  python benchmarks/searches.py                          everything: about three minutes
  python benchmarks/searches.py --quick                  half a minute
  python benchmarks/searches.py --budgets 100 --workspaces "" --sandbox off
  python benchmarks/searches.py --peer PEER/bin/python   beside the existing tool: about ten minutes, 25 GB
"""
TARGET = """\
goal: Append lines to NOTES.md.
required: [NOTES.md]
checks:
  phrase: {contains: {path: NOTES.md, all: ["# Notes"]}}
  command: {run: "true"}
backends: {line: {provider: line}}
"""
BUDGETS = (1, 10, 50, 100, 200)
QUICK = (1, 10)
SANDBOXES = ("bwrap", "off")
PEER_BUDGET = 100
"""The largest that the existing tool is asked for; 200 take it a quarter of an hour and 23 GB."""

SPREAD = 100
"""The budget from which the limits hold: by then what a session does once no longer counts."""

OWN_MS, FLAT, DISK = 50.0, 1.5, 10e6
WORKSPACE_S = 1.0


class Case(NamedTuple):
    """A large workspace, and the bytes that a search may leave."""

    workspace: Workspace
    disk: float


CASES = {
    "many": Case(Workspace(files=10_000, length=4_000), 60e6),
    "large": Case(Workspace(files=50, length=20_000, large=500_000_000), 0.6e9),
}
CASE_BUDGET = 5


@dataclass(frozen=True)
class Cost:
    """What a search took: own seconds in all, of each proposal in order, and disk."""

    own_s: float
    proposals: Sequence[float]
    disk: Disk

    @property
    def per_candidate(self) -> float:
        """Own seconds per candidate, the baseline being one."""
        return self.own_s / (len(self.proposals) + 1)

    @property
    def tenths(self) -> tuple[float, float]:
        """Own seconds of a candidate among the first and the last tenth of the proposals, medians."""
        count = max(1, len(self.proposals) // 10)
        return median(self.proposals[:count]), median(self.proposals[-count:])


def main() -> int:
    """Measure every case and compare it with its limits."""
    arguments = read_arguments()
    limits = Limits()
    with tempfile.TemporaryDirectory(prefix="searches-") as name:
        place = Place(Path(name), arguments.peer, arguments.sandbox.split(","))
        print_machine(place.root)
        if arguments.budgets:
            small = Workspace(arguments.files, arguments.length)
            measure_budgets(place, small, arguments.budgets, arguments.peer_budget, limits)
        if arguments.workspaces:
            measure_workspaces(place, arguments.workspaces.split(","), limits)
    return limits.conclude()


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--budgets",
        type=read_numbers,
        metavar="N,N",
        help='Proposals per search on the small workspace; "" for none (default: 1,10,50,100,200)',
    )
    parser.add_argument(
        "--workspaces", metavar="NAMES", help='Of many and large, each with a budget of 5; "" for none (default: both)'
    )
    parser.add_argument("--files", type=int, default=50, metavar="N", help="Files of the small workspace (default: 50)")
    parser.add_argument("--length", type=int, default=20_000, metavar="BYTES", help="Of each of them (default: 20000)")
    parser.add_argument(
        "--sandbox",
        metavar="MODES",
        default=",".join(SANDBOXES if shutil.which("bwrap") else SANDBOXES[1:]),
        help="Of bwrap and off (default: both, bwrap where it is installed)",
    )
    parser.add_argument("--quick", action="store_true", help="Budgets 1 and 10, and the workspace of 10,000 files")
    parser.add_argument(
        "--peer", metavar="PYTHON", help="The same work with superagentic-metaharness, which this interpreter imports"
    )
    parser.add_argument(
        "--peer-budget",
        type=int,
        default=PEER_BUDGET,
        metavar="N",
        help=f"The largest budget that it is asked for (default: {PEER_BUDGET})",
    )
    arguments = parser.parse_args()
    if arguments.budgets is None:
        arguments.budgets = QUICK if arguments.quick else BUDGETS
    if arguments.workspaces is None:
        arguments.workspaces = "many" if arguments.quick else ",".join(CASES)
    if unknown := set(filter(None, arguments.workspaces.split(","))) - set(CASES):
        parser.error(f"--workspaces: there is no {min(unknown)!r}; there are {', '.join(CASES)}")
    return arguments


@dataclass(frozen=True)
class Place:
    """Where the searches run, and who runs them."""

    root: Path
    peer: str | None
    sandboxes: Sequence[str]
    used: list[Path] = field(default_factory=list)

    def measure(self, workspace: Workspace, budget: int, *, with_peer: bool) -> Iterator[tuple[str, Cost]]:
        """Let everybody search, one after the other.

        What they leave stays until all is measured: while many files are being deleted, and on ext4 half a minute
        longer, to make one takes several times as long.
        """
        folder = self._make_folder()
        baseline = workspace.write(folder / "baseline")
        (folder / "metaharness.yaml").write_text(TARGET, encoding="utf-8")
        shutil.copy(HERE / "agents.py", folder / "conftest.py")
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        for sandbox in self.sandboxes:
            yield sandbox, search(folder, sandbox, budget)
            (folder / ".metaharness").rename(self._make_folder() / "sessions")
        if self.peer and with_peer:
            yield "peer", search_with_peer(self.peer, baseline, self._make_folder() / "peer", budget)

    def _make_folder(self) -> Path:
        self.used.append(self.root / f"{len(self.used)}")
        self.used[-1].mkdir()
        return self.used[-1]


def search(folder: Path, sandbox: str, budget: int) -> Cost:
    """Run one search of ours."""
    session = run_pytest(
        folder,
        "--metaharness=line",
        f"--metaharness-budget={budget}",
        f"--metaharness-sandbox={sandbox}",
        "--metaharness-name=measured",
    )
    (run,) = session.runs
    if run["outcomes"] != {"keep": budget}:
        sys.exit(f"every proposal should have been kept: {run['outcomes']}")
    in_checks = sum(check["duration_s"] for each in run["candidates"] for check in each["checks"])
    return Cost(run["duration_s"] - in_checks, own_seconds(run["candidates"][1:]), session.disk)


def search_with_peer(python: str, baseline: Path, folder: Path, budget: int) -> Cost:
    """Run the same search with the existing tool."""
    answer = run_peer(python, "peer_search.py", baseline, folder, budget)
    return Cost(answer["own_s"], answer["proposals"], Disk(*answer["disk"]))


def measure_budgets(place: Place, small: Workspace, budgets: Sequence[int], peer_budget: int, limits: Limits) -> None:
    """Print the table of costs against the budget."""
    print_table("budget", "sandbox", "own time per candidate", "first tenth", "last tenth", "disk", "inodes")
    for budget in budgets:
        costs: dict[str, Cost] = {}
        for who, cost in place.measure(small, budget, with_peer=budget <= peer_budget):
            costs[who] = cost
            first, last = (f"{value * 1000:.1f} ms" for value in cost.tenths)
            own, size = f"{cost.per_candidate * 1000:.1f} ms", show_bytes(cost.disk.size)
            if who != "peer" and budget >= SPREAD:
                what = f"budget {budget}, sandbox {who}"
                own = limits.check(cost.per_candidate * 1000, OWN_MS, shown=own, what=f"{what}, own time per candidate")
                allowed = cost.tenths[0] * FLAT
                last = limits.check(cost.tenths[1], allowed, shown=last, what=f"{what}, last tenth (first: {first})")
                size = limits.check(cost.disk.size, DISK, shown=size, what=f"{what}, disk")
            print_row(budget, who, own, first, last, size, f"{cost.disk.inodes:,}")
        for who, ours in compare(costs):
            peer = costs["peer"]
            tenths = (theirs / our for theirs, our in zip(peer.tenths, ours.tenths, strict=True))
            ratios = (peer.per_candidate / ours.per_candidate, *tenths, *compare_disk(peer, ours))
            print_row(budget, f"peer : {who}", *(f"{ratio:.1f}" for ratio in ratios))


def measure_workspaces(place: Place, names: Sequence[str], limits: Limits) -> None:
    """Print the table of costs against the workspace."""
    print_table("workspace", "sandbox", "own time of the first", "of each later", "slowest", "disk", "inodes")
    for name in names:
        workspace, allowed = CASES[name]
        costs: dict[str, Cost] = {}
        for who, cost in place.measure(workspace, CASE_BUDGET, with_peer=True):
            costs[who] = cost
            later, size = f"{mean(cost.proposals):.2f} s", show_bytes(cost.disk.size)
            if who != "peer":
                what = f"{workspace.describe()}, sandbox {who}"
                later = limits.check(
                    mean(cost.proposals), WORKSPACE_S, shown=later, what=f"{what}, each later candidate"
                )
                size = limits.check(cost.disk.size, allowed, shown=size, what=f"{what}, disk")
            first = f"{cost.own_s - sum(cost.proposals):.2f} s"
            slowest = f"{max(cost.proposals):.2f} s"
            print_row(workspace.describe(), who, first, later, slowest, size, f"{cost.disk.inodes:,}")
        for who, ours in compare(costs):
            peer = costs["peer"]
            ratios = (
                (peer.own_s - sum(peer.proposals)) / (ours.own_s - sum(ours.proposals)),
                mean(peer.proposals) / mean(ours.proposals),
                max(peer.proposals) / max(ours.proposals),
                *compare_disk(peer, ours),
            )
            print_row(workspace.describe(), f"peer : {who}", *(f"{ratio:.1f}" for ratio in ratios))


def compare(costs: dict[str, Cost]) -> Iterator[tuple[str, Cost]]:
    """Give each of ours, where there is the existing tool's to compare it with."""
    yield from ((who, cost) for who, cost in costs.items() if "peer" in costs and who != "peer")


def compare_disk(peer: Cost, ours: Cost) -> tuple[float, float]:
    """Give the ratios of bytes and of inodes."""
    return peer.disk.size / ours.disk.size, peer.disk.inodes / ours.disk.inodes


if __name__ == "__main__":
    sys.exit(main())

"""Measure a sweep: the two real benchmarks of `examples/` x 4 trials with canned proposals, on 1, 2, 4 and 8 workers.

Every trial measures its baseline and one candidate; all checks run real programs. Trials with equal files share what a
check measured ("reused"), so two lines are printed for each number of workers: as it is, and with every trial measured
anew. Disk is the session's folder when all is over.

Prints markdown; exit code 1 when a limit of the design is exceeded: 10 s and 10 MB with `-n 2`.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from measuring import (
    ROOT,
    Limits,
    Session,
    make_parser,
    measure_disk,
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
  python benchmarks/sweep.py                         about two minutes
  python benchmarks/sweep.py --workers 2 --shared-only
  python benchmarks/sweep.py --peer PEER/bin/python  beside the existing tool's own sweep: a minute more
"""
BENCHMARKS = ("python_fixture_benchmark", "python_cli_benchmark")
TRIALS = 4
LIMITED, SECONDS, DISK = 2, 10.0, 10e6

VERDICT = "import json, sys; sys.exit(json.loads(sys.stdin.readlines()[-1])['score'] < 1)"


def main() -> int:
    """Measure every number of workers."""
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--workers", type=read_numbers, default=(1, 2, 4, 8), metavar="N,N", help="Values of -n (default: 1,2,4,8)"
    )
    parser.add_argument(
        "--benchmarks", default=",".join(BENCHMARKS), metavar="NAMES", help=f"Default: {','.join(BENCHMARKS)}"
    )
    parser.add_argument("--trials", type=int, default=TRIALS, metavar="N", help=f"Of each (default: {TRIALS})")
    parser.add_argument("--shared-only", action="store_true", help="Leave out the lines with everything measured anew")
    parser.add_argument(
        "--peer", metavar="PYTHON", help="The same work with superagentic-metaharness, which this interpreter imports"
    )
    arguments = parser.parse_args()
    names = arguments.benchmarks.split(",")
    limits = Limits()
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        root = Path(folder)
        print_machine(root)
        print_table("sweep", "checks", "wall", "disk", "inodes")
        walls: list[tuple[str, Session]] = []
        for is_shared in (True,) if arguments.shared_only else (True, False):
            kind = "shared" if is_shared else "anew"
            place = write_targets(root / kind, names, is_shared=is_shared)
            for workers in arguments.workers:
                session = run_sweep(place, workers, arguments.trials)
                wall, size = f"{session.wall_s:.1f} s", show_bytes(session.disk.size)
                if is_shared and workers == LIMITED:
                    wall = limits.check(session.wall_s, SECONDS, shown=wall, what=f"-n {workers}")
                    size = limits.check(session.disk.size, DISK, shown=size, what=f"-n {workers}")
                print_row(f"-n {workers}", kind, wall, size, f"{session.disk.inodes:,}")
                walls.append((f"-n {workers}, {kind}", session))
        if arguments.peer:
            sweep_with_peer(arguments.peer, root / "peer", names, arguments.trials, walls)
    return limits.conclude()


def write_targets(root: Path, names: Sequence[str], *, is_shared: bool) -> Path:
    """Copy the benchmarks; unless *is_shared*, with a first check that lets nothing be reused."""
    for name in names:
        shutil.copytree(ROOT / "examples" / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        if not is_shared:
            file = root / name / "metaharness.yaml"
            target = yaml.safe_load(file.read_text(encoding="utf-8"))
            next(iter(target["checks"].values()))["volatile"] = True
            file.write_text(yaml.safe_dump(target, sort_keys=False), encoding="utf-8")
    (root / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    return root


def run_sweep(root: Path, workers: int, trials: int) -> Session:
    """Run all trials on *workers* workers, and see that each did its work."""
    name = f"n{workers}"
    session = run_pytest(
        root,
        "--metaharness=fake",
        f"--metaharness-trials={trials}",
        f"--metaharness-name={name}",
        f"-n{workers}",
        name=name,
    )
    if missed := [run["nodeid"] for run in session.runs if run["best"] != 1.0]:
        sys.exit(f"not solved: {missed}")
    return session


def sweep_with_peer(
    python: str, root: Path, names: Sequence[str], trials: int, ours: Sequence[tuple[str, Session]]
) -> None:
    """Let the existing tool do the same work, and print its line and the ratios."""
    projects = [write_project(ROOT / "examples" / name, root / name) for name in names]
    answer = run_peer(python, "peer_sweep.py", root / "results", trials, *projects)
    if set(answer["best"]) != {1.0}:
        sys.exit(f"not solved by the existing tool: {answer['best']}")
    disk = measure_disk(root)
    print_row("peer, serial", "anew", f"{answer['wall_s']:.1f} s", show_bytes(disk.size), f"{disk.inodes:,}")
    for what, session in ours:
        ratios = (answer["wall_s"] / session.wall_s, disk.size / session.disk.size, disk.inodes / session.disk.inodes)
        print_row(f"peer : {what}", "", *(f"{ratio:.1f}" for ratio in ratios))


def write_project(example: Path, folder: Path) -> Path:
    """Write one of our benchmarks as a project of the existing tool: same files, same programs, same proposal.

    Its checks know no scores: a program that measures passes with a score of 1. They run where the agent worked, one
    after the other and with nothing put back in between, so each one brings the programs and what is not editable.
    """
    target = yaml.safe_load((example / "metaharness.yaml").read_text(encoding="utf-8"))
    (proposal,) = yaml.safe_load((example / "fake.yaml").read_text(encoding="utf-8"))["proposals"]
    editable = [path.rstrip("/") for path in target["editable"]]
    shutil.copytree(example / "baseline", folder / "baseline")
    brought = shutil.copytree(example / "baseline", folder / "brought", ignore=shutil.ignore_patterns(*editable))
    shutil.copytree(example / target["sealed"], brought, dirs_exist_ok=True)
    config = {
        "objective": target["goal"],
        "constraints": target["constraints"],
        "required_files": target["required"],
        "allowed_write_paths": editable,
        "backend_plugins": {"canned": {"factory": "peer_sweep:make_backend", "options": {"files": proposal["files"]}}},
    }
    tasks = [{"id": name, **make_task(check, brought)} for name, check in target["checks"].items()]
    (folder / "metaharness.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    return folder


def make_task(check: dict[str, Any], brought: Path) -> dict[str, Any]:
    """Translate one check."""
    if contains := check.get("contains"):
        return {"type": "file_phrase", "path": contains["path"], "required_phrases": contains["all"]}
    path = shlex.quote(str(Path(sys.executable).parent))
    command = f"export PATH={path}:$PATH; cp -R {shlex.quote(str(brought))}/. . && {check['score']}"
    return {"type": "command", "command": f"{command} | python -c {shlex.quote(VERDICT)}"}


if __name__ == "__main__":
    sys.exit(main())

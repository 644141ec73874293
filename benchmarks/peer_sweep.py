"""The existing tool's own sweep over projects, with canned proposals, timed in one process.

    PEER_PYTHON peer_sweep.py RESULTS TRIALS PROJECT...

PEER_PYTHON is the interpreter of an environment of its own with `pip install superagentic-metaharness==0.7.0`. A
project names `peer_sweep:make_backend` as the backend plugin `canned`, with the files that it shall write. Runs the
tool's command `experiment`, which has no parallel form. Prints one JSON line: `wall_s`; `best`, the objective of each
trial.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

from metaharness import FakeBackend
from metaharness.cli import main as run_command


def make_backend(*, options: dict[str, Any]) -> Any:
    """Make a backend that writes the files of a canned proposal: the factory of the plugin."""
    files = [{"relative_path": path, "content": content} for path, content in options["files"].items()]
    return FakeBackend(mutation=lambda _: {"files": files, "summary": "canned"})


def main() -> int:
    """Run the sweep, and print what it took."""
    if len(sys.argv) < 4:
        print(__doc__, file=sys.stderr)
        return 2
    results, trials, *projects = sys.argv[1:]
    command = ["experiment", *projects, "--backend", "canned", "--budget", "1", "--trials", trials]
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        code = run_command([*command, "--results-dir", results])
    wall = time.perf_counter() - start
    if code:
        return int(code)
    table = json.loads(Path(results, "trials.json").read_text(encoding="utf-8"))
    print(json.dumps({"wall_s": wall, "best": [row["best_objective"] for row in table]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

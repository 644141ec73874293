"""One search of superagentic-metaharness through its public API, timed in one process.

    PEER_PYTHON peer_search.py BASELINE FOLDER BUDGET

PEER_PYTHON is the interpreter of an environment of its own with `pip install superagentic-metaharness==0.7.0`. Does
what `searches.py` does with ours: each proposal appends a line to NOTES.md and so improves; the checks are one phrase
and the command `true`. Everything is written into FOLDER. Prints one JSON line: `own_s`, the seconds not spent in the
checks; `proposals`, those from one evaluation's end to the next one's; `disk`, bytes and inodes of FOLDER.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

from measuring import measure_disk
from metaharness import FakeBackend, optimize_harness
from metaharness.integrations.coding_tool.config import CodingToolProject, CodingToolTask
from metaharness.integrations.coding_tool.runtime import CodingToolEvaluator, CodingToolValidator


class TimedEvaluator:
    """The tool's own evaluator: when it ran is noted, and each workspace is better than the one before."""

    def __init__(self, project: Any) -> None:
        self._inner = CodingToolEvaluator(project)
        self.times: list[tuple[float, float]] = []

    def evaluate(self, workspace: Path) -> Any:
        """Run the checks."""
        start = time.perf_counter()
        result = self._inner.evaluate(workspace)
        result.objective += (workspace / "NOTES.md").read_text(encoding="utf-8").count("\n")
        self.times.append((start, time.perf_counter()))
        return result


def main() -> int:
    """Search, and print what it cost."""
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    baseline, folder, budget = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    folder.mkdir(parents=True)
    project = CodingToolProject(
        root_dir=folder,
        objective="Append lines to NOTES.md.",
        constraints=[],
        baseline_dir=baseline,
        runs_dir=folder,
        tasks_file=folder / "tasks.json",
        required_files=["NOTES.md"],
        tasks=[
            CodingToolTask(id="phrase", type="file_phrase", path="NOTES.md", required_phrases=["# Notes"]),
            CodingToolTask(id="command", type="command", command="true"),
        ],
    )
    evaluator = TimedEvaluator(project)

    def append_line(request: Any) -> dict[str, str]:
        line = f"line {request.candidate_id}\n"
        return {"relative_path": "NOTES.md", "mode": "append", "content": line, "summary": "one line"}

    start = time.perf_counter()
    optimize_harness(
        baseline=baseline,
        proposer=FakeBackend(mutation=append_line),
        evaluator=evaluator,
        validator=CodingToolValidator(project),
        run_dir=folder / "run",
        budget=budget,
        objective=project.objective,
    )
    wall = time.perf_counter() - start
    cost = {
        "own_s": wall - sum(ended - began for began, ended in evaluator.times),
        "proposals": [began - before for (_, before), (began, _) in itertools.pairwise(evaluator.times)],
        "disk": measure_disk(folder),
    }
    print(json.dumps(cost))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Whole sessions with the real Codex CLI: `pytest --metaharness=codex` improves the harness of a benchmark."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from .codex_steps import DONE, patch, shell
from .model_dialects import Step
from .model_server import ModelServer
from .plain_user import become_plain_user
from .proposing import KEY, find_processes

pytestmark = pytest.mark.agents

EXAMPLES = Path(__file__).parents[2] / "examples"


def read_solution(benchmark: str) -> Mapping[str, str]:
    """Give the files that make *benchmark* perfect."""
    solution: Mapping[str, str] = yaml.safe_load((EXAMPLES / benchmark / "fake.yaml").read_text())["proposals"][0][
        "files"
    ]
    return solution


def write_patch(benchmark: str) -> str:
    """Give the solution in codex's own format."""
    lines = ["*** Begin Patch"]
    for path, content in read_solution(benchmark).items():
        old = EXAMPLES / benchmark / "baseline" / path
        if old.exists():
            lines += [f"*** Update File: {path}", "@@", *(f"-{line}" for line in old.read_text().splitlines())]
        else:
            lines.append(f"*** Add File: {path}")
        lines += [f"+{line}" for line in content.splitlines()]
    return "\n".join([*lines, "*** End Patch", ""])


def write_commands(benchmark: str) -> str:
    """Give the solution as a shell script."""
    files = read_solution(benchmark).items()
    return "\n".join(f"cat > {path} <<'END_OF_FILE'\n{content}END_OF_FILE" for path, content in files)


FIXTURE, CLI = "python_fixture_benchmark", "python_cli_benchmark"
SCRIPTS = {
    "patch": [patch(write_patch(FIXTURE)), DONE],
    "shell": [shell(write_commands(FIXTURE)), DONE],
    "patch-cli": [patch(write_patch(CLI)), DONE],
    "shell-cli": [shell(write_commands(CLI)), DONE],
    "silent": [Step(hang=True, text="Let me think")],
    "stuck": [shell("sleep 47110815"), DONE],
}


@dataclass(frozen=True)
class Project:
    """A folder with the benchmark in it, and a backend for every script of the model server."""

    folder: Path
    codex: Path

    def configure(self, server: ModelServer) -> None:
        tables = [
            f"[tool.metaharness.backends.{name}]\nprovider = 'codex'\nmodel = 'gpt-5.5'\nexecutable = '{self.codex}'\n"
            f"base_url = '{server.url}/s/{name}/v1'\n"
            for name in SCRIPTS
        ]
        (self.folder / "pyproject.toml").write_text("[tool.pytest]\n" + "\n".join(tables))

    def run(
        self,
        *args: str,
        prefix: Sequence[str] = (sys.executable,),
        env: Mapping[str, str] | None = None,
        key: str | None = KEY,
        benchmark: str = FIXTURE,
    ) -> tuple[subprocess.CompletedProcess[str], dict[str, dict[str, Any]]]:
        """Run pytest there; gives what it printed and the runs of its report, by backend."""
        environ = {**(env or os.environ), **({"CODEX_API_KEY": key} if key else {})}
        done = subprocess.run(
            [*prefix, "-m", "pytest", "-p", "no:cacheprovider", "--metaharness-name=s", benchmark, *args],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        report = self.folder / ".metaharness" / "s" / "report.json"
        runs = json.loads(report.read_text())["runs"] if report.exists() else []
        return done, {run["backend"]: run for run in runs}


@pytest.fixture
def project(codex: Path) -> Iterator[Project]:
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="metaharness-") as name:
        folder = Path(name)
        for benchmark in (FIXTURE, CLI):
            shutil.copytree(EXAMPLES / benchmark, folder / benchmark)
        yield Project(folder, codex)
        deadline = time.monotonic() + 5
        while left := find_processes(folder):
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("benchmark", "baseline", "user"),
    [(FIXTURE, 0.05, "same-user"), (FIXTURE, 0.05, "plain-user"), (CLI, 0.5 / 11, "same-user")],
)
def test_codex_makes_the_benchmark_perfect(
    project: Project, sandbox_mode: str, benchmark: str, baseline: float, user: str
) -> None:
    backends = ["patch", "shell"] if benchmark == FIXTURE else ["patch-cli", "shell-cli"]
    with ModelServer(SCRIPTS) as server:
        project.configure(server)
        prefix, env = become_plain_user(project.folder) if user == "plain-user" else ((sys.executable,), os.environ)
        options = (f"--metaharness={','.join(backends)}", f"--metaharness-sandbox={sandbox_mode}", "-n2")
        done, runs = project.run(*options, prefix=prefix, env=env, benchmark=benchmark)
    assert done.returncode == 0, done.stdout + done.stderr
    for run in runs.values():
        assert [candidate["outcome"] for candidate in run["candidates"]] == ["baseline", "keep"]
        assert (run["baseline"], run["best"]) == (pytest.approx(baseline), 1.0)
        assert run["tokens"] == {"input": 200, "cached": 40, "output": 20}
        assert run["candidates"][1]["tool_calls"] == 1
        assert run["changed_files"] == sorted(read_solution(benchmark))
        assert (run["provider"], run["model"]) == ("codex", "gpt-5.5")
        assert f"{done.stdout}{done.stderr}".count(KEY) == 0
    assert sorted(runs) == backends


def test_what_hangs_is_ended_in_time(project: Project, sandbox_mode: str) -> None:
    with ModelServer(SCRIPTS) as server:
        project.configure(server)
        done, runs = project.run(
            "--metaharness=silent,stuck", "--metaharness-timeout=5", f"--metaharness-sandbox={sandbox_mode}", "-n2"
        )
    assert done.returncode == 1
    for run in runs.values():
        assert run["outcomes"] == {"timeout": 1}
        assert run["candidates"][1]["duration_s"] < 15
    assert runs["silent"]["candidates"][1]["reason"] == "no answer within 5 s: the model was silent"
    assert "no answer within 5 s: its command `sleep 47110815`" in runs["stuck"]["candidates"][1]["reason"]
    assert "no proposal could be judged: timeout: no answer within 5 s: the model was silent" in done.stdout


def test_what_cannot_be_used_is_an_error_before_anything_is_spent(project: Project, tmp_path: Path) -> None:
    environ = {**os.environ, "HOME": str(tmp_path)}
    (project.folder / "pyproject.toml").write_text(
        f"[tool.pytest]\n[tool.metaharness.backends]\ncodex = {{executable = '{project.codex}'}}\n"
        "gone = {provider = 'codex', executable = '/nowhere/codex'}\n"
    )
    done, runs = project.run("--metaharness=codex,gone", env=environ, key=None)
    assert done.returncode == 1
    assert "2 errors" in done.stdout
    assert "backend 'codex': no credentials for codex; set CODEX_API_KEY or run `codex login`" in done.stdout
    assert "backend 'gone': its executable '/nowhere/codex' was not found; install it with" in done.stdout
    assert runs == {}

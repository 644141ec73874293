"""Asks a built-in provider for one proposal, as a trial does; as a program it reads what to ask for from stdin.

The program serves tests that run as another user or several at once; it prints the ``Proposal`` as JSON.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import psutil

from pytest_metaharness.backends import get_provider
from pytest_metaharness.core.model import Backend, Candidate, Proposal, Target
from pytest_metaharness.core.processes.sandbox import choose_sandbox
from pytest_metaharness.core.proposals import ProposalRequest, propose
from pytest_metaharness.core.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_metaharness.core.processes.alarm import Alarm

SandboxMode = Literal["auto", "off"]

PROMPT = "Read .metaharness/BRIEF.md and improve the files of this folder.\n"

KEY = "sk-scripted-0123456789abcdef"


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """One proposal to ask for; *folder* is where workspace, state and logs lie."""

    folder: str
    backend: Backend
    sandbox: SandboxMode
    timeout: float

    @property
    def workspace(self) -> Path:
        return Path(self.folder, "workspace")

    @property
    def state(self) -> Path:
        return Path(self.folder, "state")

    @property
    def log_dir(self) -> Path:
        return Path(self.folder, "logs")


def errand_for(
    provider: str, program: Path, folder: Path, sandbox_mode: SandboxMode, *, timeout: float = 60, **backend: Any
) -> Errand:
    """Make the errand of a backend that is called like its *provider*, whose executable is *program*."""
    made = Backend(name=provider, provider=provider, **{"executable": str(program), **backend})
    return Errand(folder=str(folder), backend=made, sandbox=sandbox_mode, timeout=timeout)


def ask(errand: Errand) -> Proposal:
    """Make the proposal."""
    provider = get_provider(errand.backend.provider)
    assert provider is not None
    errand.state.mkdir(mode=0o700)
    errand.log_dir.mkdir()

    def make_request(deadline: float, clock: Alarm) -> ProposalRequest:
        return ProposalRequest(
            target=Target(name="target", file=Path(errand.folder, "metaharness.yaml"), goal="Improve.", checks=()),
            parent=Candidate(id="c0000", parent=None, outcome="baseline", reason="", objective=0.0),
            candidate="c0001",
            workspace=errand.workspace,
            prompt=PROMPT,
            backend=errand.backend,
            timeout=errand.timeout,
            log_dir=errand.log_dir,
            state=errand.state,
            _sandbox=choose_sandbox(errand.sandbox),
            _hidden=(),
            _readable=(),
            _redactor=Redactor({}),
            _deadline=deadline,
            _clock=clock,
        )

    return propose(provider.propose, timeout=errand.timeout, make_request=make_request)


def start(errand: Errand, python: Sequence[str] = (sys.executable,), **options: Any) -> subprocess.Popen[bytes]:
    """Start a process of its own for the errand."""
    process = subprocess.Popen(
        [*python, str(Path(__file__))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=errand.folder,
        **options,
    )
    assert process.stdin
    process.stdin.write(msgspec.json.encode(errand))
    process.stdin.close()
    process.stdin = None
    return process


def finish(process: subprocess.Popen[bytes]) -> Proposal:
    said, _ = process.communicate(timeout=100)
    return msgspec.json.decode(said, type=Proposal)


def find_processes(folder: Path) -> list[str]:
    """Find what runs in, or was told about, *folder*."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        command, cwd = process.info["cmdline"] or [], process.info["cwd"] or ""
        if process.pid != os.getpid() and (str(folder) in " ".join(command) or cwd.startswith(str(folder))):
            found.append(f"{process.pid} {' '.join(command)}")
    return found


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(ask(msgspec.json.decode(sys.stdin.buffer.read(), type=Errand))))

"""Provider ``fake``: plays the canned proposals of a ``fake.yaml`` beside the target. It tests targets, not harnesses.

A proposal sets files, deletes some or applies a patch; or it imitates a fault of a real backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import BackendError, TargetError
from ..core.model import Backend, Proposal, Target
from ..core.processes.sandbox import Sandbox
from ..core.proposals import ProposalRequest
from ..core.targets.backend_tables import ProviderKeys
from ..core.targets.fields import FILE
from ..core.targets.records import AtLeastOne, Field, ListOf, MappingOf, Record
from ..core.targets.schema import Choice, Problems, Text
from ..core.targets.yamltree import SyntaxProblem, read_tree
from .readiness import Readiness

FILE_NAME = "fake.yaml"

_NO_AGENT = "fake plays a file and starts no agent"
OPTIONS = ProviderKeys(fields={}, lacks=dict.fromkeys(("executable", "base_url", "api_key", "api", "args"), _NO_AGENT))
"""This provider has no keys of its own."""

_PROPOSAL = Record(
    fields={
        "summary": Field(Text(), "What this proposal does, in a line"),
        "files": Field(MappingOf(name=FILE, value=Text(least="nothing")), "Path -> the whole content of the file"),
        "modes": Field(MappingOf(name=FILE, value=Choice(words=("644", "755"))), "Path -> permissions, quoted"),
        "delete": Field(ListOf(item=FILE), "Files to delete"),
        "patch": Field(Text(), "A unified diff, as `git apply` takes it"),
        "fault": Field(
            Choice(words=("sleep", "crash", "raise", "unavailable")),
            "The fault to imitate: sleeps past every timeout, dies, raises, has no service",
        ),
    },
    rules=(AtLeastOne(("files", "modes", "delete", "patch", "fault")),),
)
_SCHEMA = Record(
    fields={"proposals": Field(ListOf(item=_PROPOSAL), "One per proposal, in order; then none changes", required=True)}
)


def check_ready(backend: Backend, *, target: Target, environ: Mapping[str, str]) -> None:  # noqa: ARG001 - needs nothing
    """See that the canned proposals can be read.

    :raises BackendError: they cannot; the message has every problem.
    """
    _read_proposals(target)


def probe(backend: Backend, *, environ: Mapping[str, str], sandbox: Sandbox) -> Readiness:  # noqa: ARG001 - as above
    """Say what there is: nothing can be missing but a target's file."""
    return Readiness(program="built in", credentials="none needed", service=FILE_NAME)


def propose(request: ProposalRequest) -> Proposal:
    """Play the proposal that is due: the first for ``c0001``, and so on."""
    proposals = _read_proposals(request.target)
    number = int(request.candidate[1:])
    if number > len(proposals):
        return Proposal(status="completed", reason=f"{FILE_NAME} has no proposal number {number}")
    canned = proposals[number - 1]
    if fault := canned.get("fault"):
        return _imitate(fault, request)
    try:
        refusal = _play(canned, request)
    except OSError as error:
        path = Path(str(error.filename))
        shown = path.relative_to(request.workspace) if path.is_relative_to(request.workspace) else path.name
        refusal = f"{shown}: {error.strerror}"
    if refusal:
        return Proposal(status="crash", reason=f"{FILE_NAME}: proposals[{number - 1}]: {refusal}")
    return Proposal(status="completed", summary=canned.get("summary", ""))


def _play(canned: Mapping[str, Any], request: ProposalRequest) -> str:
    """Change the files; gives the reason where the patch does not apply."""
    workspace = request.workspace
    for path in canned.get("delete", ()):
        (workspace / path).unlink()
    for path, content in canned.get("files", {}).items():
        file = workspace / path
        if file.is_symlink():  # the file itself shall have the content, not what it leads to
            file.unlink()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8", newline="")
    if patch := canned.get("patch"):
        # In a repository git would take the paths as that one's, and skip what lies elsewhere.
        alone = {"GIT_CEILING_DIRECTORIES": str(workspace.parent), "GIT_CONFIG_NOSYSTEM": "1"}
        applied = request.run(("git", "apply", "-"), stdin=patch.encode(), env=alone)
        if applied.returncode != 0:
            return f"the patch does not apply: {applied.stderr.text().strip()}"
    for path, mode in canned.get("modes", {}).items():
        (workspace / path).chmod(int(mode, 8))
    return ""


def _imitate(fault: str, request: ProposalRequest) -> Proposal:
    if fault == "sleep":
        request.run(("sleep", "1000000"))
        return Proposal(status="completed", reason="imitated: slept longer than any timeout")
    if fault == "crash":
        request.run(("bash", "-c", "kill -SEGV $$"))
        return Proposal(status="crash", reason="imitated: the program died of SIGSEGV")
    if fault == "raise":
        raise RuntimeError("imitated: the backend raised")
    return Proposal(status="unavailable", reason="imitated: the service is down")


def _read_proposals(target: Target) -> tuple[Mapping[str, Any], ...]:
    file = target.file.parent / FILE_NAME
    shown = str(Path(target.file.parent.name, FILE_NAME))
    problems = Problems(shown)
    try:
        content = file.read_bytes()
        tree = read_tree(content.decode("utf-8"))
        if tree is None:
            raise SyntaxProblem(1, "is empty")
        values = _SCHEMA.read(tree, "", problems)
        problems.check()
    except FileNotFoundError as error:
        message = (
            f"backend 'fake' plays {shown}, which is missing; write one beside {target.file.name}, "
            "for example `proposals: [{files: {AGENTS.md: the whole text}}]`"
        )
        raise BackendError(message) from error
    except OSError as error:
        message = f"{shown}: cannot be read: {error.strerror}"
        raise BackendError(message) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"{shown}:{line}: is not UTF-8 text (byte 0x{content[error.start]:02x})"
        raise BackendError(message) from error
    except SyntaxProblem as error:
        message = f"{shown}:{error.line}: {error.text}"
        raise BackendError(message) from error
    except TargetError as error:
        raise BackendError(str(error)) from error
    proposals: tuple[Mapping[str, Any], ...] = values["proposals"]
    return proposals

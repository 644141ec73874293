"""Provider ``codex``: drives OpenAI's Codex CLI, ``codex exec --json``.

Facts about the program were taken from version 0.169 at work.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import BackendError
from ..core.model import Backend, Proposal
from ..core.processes.sandbox import program_roots
from ..core.targets.records import Field, Record
from ..core.targets.schema import Choice, Flag
from .codex_events import Transcript
from .events import cut_line, find_refusal
from .logins import Login, LoginBusyError, lend_login

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..core.model import ProposalStatus, Target
    from ..core.processes.process import Completed
    from ..core.proposals import ProposalRequest

SANDBOXES = ("read-only", "workspace-write", "danger-full-access")
"""What codex's own sandbox may be told to allow."""

OPTIONS = Record(
    fields={
        "sandbox": Field(Choice(words=SANDBOXES), "Codex's own sandbox where our jail is not in use (workspace-write)"),
        "context_files": Field(Flag(), "Feed the workspace's AGENTS.md and skills to codex as instructions (false)"),
    }
)
"""The provider's own keys."""

KEY = "CODEX_API_KEY"
"""The one variable from which ``codex exec`` takes a key."""

NO_KEY = f"set {KEY} or run `codex login`"

LOG = "error,opentelemetry_sdk=off,opentelemetry_otlp=off,codex_sandboxing::violation=warn"
"""Codex's own default and the target that alone tells of a command refused by its sandbox."""

SHARE_OF_WAITING = 0.8
"""The share of its time that a proposal may wait for a login that another run is using."""


def check_ready(
    backend: Backend,
    *,
    target: Target,  # noqa: ARG001 - codex is the same for all
    environ: Mapping[str, str],
) -> None:
    """Return if *backend* can be tried at all; starts nothing and spends nothing.

    :raises BackendError: its program or its credentials are missing; the message says what to do.
    """
    find_executable(backend, environ.get)
    name, key = find_key(backend, environ.get)
    if key:
        return
    if backend.api_key:
        message = f"backend '{backend.name}': its api_key {name} is not set; set it, or leave api_key out for {KEY}"
        raise BackendError(message)
    if find_login(environ.get) is None and backend.base_url is None:
        message = f"backend '{backend.name}': no credentials for codex; {NO_KEY}"
        raise BackendError(message)


def propose(request: ProposalRequest) -> Proposal:
    """Let codex edit the workspace.

    The key is preferred to the login file, which serves one run at a time. With a ``base_url`` neither need be there.

    :raises BackendError: its program is missing, or its login cannot be used.
    """
    start = time.monotonic()
    home = _make_home(request)
    name, key = find_key(request.backend, request.environ)
    if key:
        return _run(request, home, env={KEY: key}, secrets={name: key}, source=name)
    login = find_login(request.environ)
    if login is None or request.backend.api_key:
        return _run(request, home, env={}, secrets={}, source=name)
    until = start + request.timeout * SHARE_OF_WAITING
    try:
        with lend_login(login, home / "auth.json", linked=not request.jailed, until=until) as lent:
            waited = time.monotonic() - start
            proposal = _run(request, home, env={}, secrets=lent.find_secrets(), source="codex login", lent=lent)
    except LoginBusyError as error:
        return Proposal(status="unavailable", reason=f"{error}; set {KEY} to run several at once, or lower -n")
    if proposal.status == "timeout" and waited >= 1:
        reason = f"{proposal.reason} (of these, {waited:.0f} s went by waiting for the login {login})"
        return Proposal(status="timeout", reason=reason, tokens=proposal.tokens, tool_calls=proposal.tool_calls)
    return proposal


def find_executable(backend: Backend, environ: Callable[[str], str | None]) -> Path:
    """Find the program of *backend*, an absolute path.

    :raises BackendError: it is not there.
    """
    asked = os.path.expanduser(backend.executable or "codex")  # noqa: PTH111 - a bare name must stay one
    found = shutil.which(asked, path=environ("PATH"))
    if found is None:
        what = f"its executable '{asked}' was not found" if backend.executable else "codex was not found"
        message = f"backend '{backend.name}': {what}; install it with `npm install -g @openai/codex`, or set executable"
        raise BackendError(message)
    return Path(found).absolute()


def find_key(backend: Backend, environ: Callable[[str], str | None]) -> tuple[str, str | None]:
    """Find the key that *backend* works with: the name of its variable, and its value where it is set."""
    name = backend.api_key or KEY
    return name, environ(name) or backend.env.get(name)


def find_login(environ: Callable[[str], str | None]) -> Path | None:
    """Find the file in which ``codex login`` keeps its tokens; ``None`` when there is no such login."""
    folder = environ("CODEX_HOME") or Path(environ("HOME") or Path.home()) / ".codex"
    file = Path(folder).absolute() / "auth.json"
    return file if file.is_file() else None


# ------------------------------------------------------------------------------------------------------- one run


def _run(
    request: ProposalRequest,
    home: Path,
    *,
    env: Mapping[str, str],
    secrets: Mapping[str, str],
    source: str,
    lent: Login | None = None,
) -> Proposal:
    executable = find_executable(request.backend, request.environ)
    transcript = Transcript()

    def take(line: bytes) -> None:
        if lent is not None:
            lent.save()  # a renewal happens as codex starts: it must not be lost if we are killed later
        transcript.take(line)

    log = {} if "RUST_LOG" in request.backend.env else {"RUST_LOG": LOG}
    tmp = request.state / "tmp"
    tmp.mkdir(exist_ok=True)
    completed = request.run(
        _make_command(request, executable),
        stdin=request.prompt.encode("utf-8", "replace"),
        # Codex refuses to set up its sandbox when its home lies under TMPDIR, and then every edit fails in silence.
        env={"CODEX_HOME": str(home), "TMPDIR": str(tmp), **log, **env},
        secrets=secrets,
        readable=program_roots(executable, request.environ("PATH") or os.defpath),
        on_line=take,
    )
    if lent is not None:
        request.hide(lent.find_secrets())
    return judge(transcript, completed, backend=request.backend, timeout=request.timeout, source=source)


def _make_command(request: ProposalRequest, executable: Path) -> list[str]:
    backend = request.backend
    command = [str(executable), "exec", "--json", "--skip-git-repo-check", "--ephemeral", "-C", str(request.workspace)]
    if backend.model is not None:
        command += ["-m", backend.model]
    if request.jailed:
        command += ["--dangerously-bypass-approvals-and-sandbox"]
    else:
        command += ["-s", str(backend.options.get("sandbox", "workspace-write"))]
    return [*command, *backend.args, "-"]


def _make_home(request: ProposalRequest) -> Path:
    """Make codex's state folder, with settings that keep it to its job.

    No statistics, updates, plugins, connectors of the user's account: nothing that it does not need. A service that
    cannot be reached is given up after half a minute (by default never). The workspace is what codex works on; unless
    asked for, neither its AGENTS.md nor its skills are instructions to codex itself. Its tools do not see the key, and
    find on PATH what checks find there: a login shell would put the system's PATH in place of ours.
    """
    home = request.state / "codex-home"
    home.mkdir(mode=0o700)
    lines = ["allow_login_shell = false", "check_for_update_on_startup = false", 'cli_auth_credentials_store = "file"']
    if request.backend.base_url is not None:
        lines.append(f"openai_base_url = {json.dumps(request.backend.base_url, ensure_ascii=False)}")
    if not request.backend.options.get("context_files", False):
        lines += ["project_doc_max_bytes = 0", "skills.include_instructions = false", "skills.bundled.enabled = false"]
    lines += [
        "analytics.enabled = false",
        "features.apps = false",
        "features.plugins = false",
        "features.unbounded_connection_retries = false",
        "sandbox_workspace_write.exclude_slash_tmp = true",
        f'shell_environment_policy.exclude = ["{KEY}"]',
    ]
    (home / "config.toml").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return home


# ---------------------------------------------------------------------------------------------- what came of it


def judge(
    transcript: Transcript, completed: Completed, *, backend: Backend, timeout: float = 0.0, source: str = KEY
) -> Proposal:
    """Say what came of a run that had *timeout* seconds and took its credentials from *source*.

    The exit code decides nothing: codex ends with 0 also when it was kept from writing.
    """
    stderr = completed.stderr.text()

    def give(status: ProposalStatus, reason: str) -> Proposal:
        return Proposal(
            status=status,
            reason=reason,
            summary=cut_line(transcript.message),
            tokens=transcript.tokens,
            tool_calls=transcript.tool_calls,
        )

    if completed.timed_out:
        return give("timeout", f"no answer within {timeout:g} s: {transcript.tell_state()}")
    if transcript.completed:
        denial = transcript.find_denial(stderr)
        return give("completed", f"its edits were denied: {denial}" if denial else "")
    if transcript.failure:
        kind = find_refusal(transcript.failure)
        if kind is None:
            return give("crash", cut_line(transcript.failure))
        return give("unavailable", f"{cut_line(transcript.failure)}; {_advise(kind, backend, source)}")
    return give("crash", f"codex {_tell_end(completed)} before its turn was over: {_find_complaint(stderr)}")


def _advise(kind: str, backend: Backend, source: str) -> str:
    where = f"base_url {backend.base_url}" if backend.base_url else "the network"
    login = "log in again with `codex login`" if source == "codex login" else f"check the key in {source}"
    return {
        "login": login,
        "forbidden": f"what {source} stands for may not use this: check its project, model and region",
        "model": f"check the model '{backend.model}'" if backend.model else "set a model that exists",
        "missing": f"check {where} and the model" if backend.base_url else "check the model",
        "rate": "wait a while, or run fewer at once (-n)",
        "quota": "wait until it is renewed, or use another account",
        "outdated": "update codex with `npm install -g @openai/codex`",
        "busy": "try again later",
        "network": f"check {where}",
    }[kind]


def _tell_end(completed: Completed) -> str:
    code = completed.returncode
    if code is None or code < 0:
        return "was killed" if code is None else f"was killed by signal {-code}"
    return f"ended with exit code {code}"


def _find_complaint(stderr: str) -> str:
    """Give the line of *stderr* that says most: the last that calls itself an error, or the last at all."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"error\b", line, re.IGNORECASE)]
    return cut_line((errors or lines or ["it said nothing"])[-1])

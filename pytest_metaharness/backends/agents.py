"""What all coding agents have in common: from a request to a command line, to events, to a ``Proposal``.

A provider's module describes its agent once, as an :class:`Agent`; this module finds its program and credentials, runs
it with a state folder of its own, and judges what came of it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..core.errors import BackendError, MetaharnessError
from ..core.model import Backend, Proposal
from ..core.processes.sandbox import program_roots
from .judging import judge
from .logins import Login, LoginBusyError, lend_login

if TYPE_CHECKING:
    from ..core.model import Target
    from ..core.processes.sandbox import Sandbox
    from ..core.proposals import ProposalRequest
    from .readiness import Readiness
    from .transcript import Transcript

Environ = Callable[[str], str | None]
"""Gives a variable of the user's environment."""

SHARE_OF_WAITING = 0.8
"""The share of its time that a proposal may wait for a login that another run is using."""


class UnavailableError(MetaharnessError):
    """The service cannot be used just now; the message is the proposal's reason."""


@dataclass(frozen=True, kw_only=True)
class LoginFile:
    """Where an agent keeps its login: *path* in the folder that *variable* names, or in *default* below HOME.

    *command* is what the user runs to log in.
    """

    command: str
    path: str
    variable: str
    default: str

    def find(self, environ: Environ) -> Path | None:
        """Find the file; ``None`` when there is no such login."""
        home = Path(environ("HOME") or Path.home())
        file = Path(environ(self.variable) or home / self.default).absolute() / self.path
        return file if file.is_file() else None


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What an agent shows its service: a *key*, a *login* file, or neither, for a server that asks for none.

    *source* is the user's name for it: a variable, or the command that logs in. *variable* is where the agent looks
    for a key.
    """

    source: str
    variable: str
    key: str | None = None
    login: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How to start an agent: its arguments, its variables, and where it looks for a login that is lent to it.

    Its standard input is the prompt. HOME and TMPDIR are empty folders of this proposal's, and the key is in the
    environment under ``Credentials.variable``, without being named here. *when_begun* is called once the model is first
    asked, or else when the program has ended.
    """

    args: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    login: Path | None = None
    when_begun: Callable[[], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A coding agent's program.

    *name* is the provider's and the program's. *keys* are the variables in which a key may be, the first being the one
    for an ``api_key``; none means that no credentials are needed. *switches* are variables that choose another way to
    be let in (a cloud's own) when a backend's ``env`` has one. *version_args* make it tell its version. *launch*
    prepares ``request.state`` and says how to start it; where a proposal is tried again it is called again with the
    same folder. *find_service* looks at the model server, calling no model, and says what it is; without it a server on
    this machine is tried for whether it listens.
    """

    name: str
    install: str
    keys: tuple[str, ...] | Callable[[Backend], tuple[str, ...]]
    launch: Callable[[ProposalRequest, Credentials], Launch]
    transcript: Callable[[], Transcript]
    login: LoginFile | None = None
    switches: tuple[str, ...] = ()
    version_args: tuple[str, ...] = ("--version",)
    find_service: Callable[[Backend, Environ], str] | None = None

    def check_ready(
        self,
        backend: Backend,
        *,
        target: Target,  # noqa: ARG002 - an agent is the same for all
        environ: Mapping[str, str],
    ) -> None:
        """Return if *backend* can be tried at all; starts nothing and spends nothing.

        :raises BackendError: its program or its credentials are missing; the message says what to do.
        """
        find_executable(self, backend, environ.get)
        check_credentials(self, backend, find_credentials(self, backend, environ.get))

    def probe(self, backend: Backend, *, environ: Mapping[str, str], sandbox: Sandbox) -> Readiness:
        """Look for all that *backend* needs; spends nothing."""
        from .readiness import probe_agent  # noqa: PLC0415 - it is built on this module

        return probe_agent(self, backend, environ=environ, sandbox=sandbox)

    def propose(self, request: ProposalRequest) -> Proposal:
        """Let the agent edit the workspace.

        A key is preferred to a login file, which serves one run at a time.

        :raises BackendError: its program is missing, or its login cannot be used.
        """
        start = time.monotonic()
        executable = find_executable(self, request.backend, request.environ)
        credentials = find_credentials(self, request.backend, request.environ)
        try:
            with ExitStack() as begun:
                launch = self.launch(request, credentials)
                if launch.when_begun:
                    begun.callback(launch.when_begun)
                if credentials.login is None or launch.login is None:
                    if credentials.login is not None:  # it works without, for a server that is not the login's
                        credentials = replace(credentials, login=None, source=credentials.variable)
                    return _run(self, request, executable, launch, credentials, begun=begun)
                until = start + request.timeout * SHARE_OF_WAITING
                linked = not request.jailed
                with lend_login(credentials.login, launch.login, linked=linked, until=until) as lent:
                    waited = time.monotonic() - start
                    proposal = _run(self, request, executable, launch, credentials, begun=begun, lent=lent)
        except UnavailableError as error:
            return Proposal(status="unavailable", reason=str(error))
        except LoginBusyError as error:
            reason = f"{error}; set {credentials.variable} to run several at once, or lower -n"
            return Proposal(status="unavailable", reason=reason)
        if proposal.status == "timeout" and waited >= 1:
            told = f"{proposal.reason} (of these, {waited:.0f} s went by waiting for the login {credentials.login})"
            return msgspec.structs.replace(proposal, reason=told)
        return proposal


def find_executable(agent: Agent, backend: Backend, environ: Environ) -> Path:
    """Find the program of *backend*, an absolute path.

    :raises BackendError: it is not there.
    """
    asked = os.path.expanduser(backend.executable or agent.name)  # noqa: PTH111 - a bare name must stay one
    found = shutil.which(asked, path=environ("PATH"))
    if found is None:
        what = f"its executable '{asked}' was not found" if backend.executable else f"{agent.name} was not found"
        message = f"backend '{backend.name}': {what}; install it with `{agent.install}`, or set executable"
        raise BackendError(message)
    return Path(found).absolute()


def list_keys(agent: Agent, backend: Backend) -> tuple[str, ...]:
    """Give the variables in which a key for *backend* may be."""
    return agent.keys(backend) if callable(agent.keys) else agent.keys


def find_switch(agent: Agent, backend: Backend) -> str | None:
    """Find the variable in the ``env`` of *backend* that chooses another way to be let in."""
    return next((name for name in agent.switches if name in backend.env), None)


def find_credentials(agent: Agent, backend: Backend, environ: Environ) -> Credentials:
    """Find what *backend* works with: what it names, else a key, else a login; nothing when there is none."""
    keys = list_keys(agent, backend)
    variable = keys[0] if keys else backend.api_key or ""
    if name := backend.api_key:
        return Credentials(source=name, variable=variable, key=environ(name) or backend.env.get(name))
    if switch := find_switch(agent, backend):
        return Credentials(source=switch, variable=variable)
    for name in keys:
        if key := environ(name) or backend.env.get(name):
            return Credentials(source=name, variable=name, key=key)
    if keys and agent.login and (login := agent.login.find(environ)):
        return Credentials(source=agent.login.command, variable=variable, login=login)
    return Credentials(source=variable, variable=variable)


def check_credentials(agent: Agent, backend: Backend, credentials: Credentials) -> None:
    """Return if *backend* has what it needs: a server of the user's own may need nothing.

    :raises BackendError: credentials are missing; the message says what to do.
    """
    if credentials.key or credentials.login:
        return
    keys = list_keys(agent, backend)
    if backend.api_key:
        alternative = f", or leave api_key out for {keys[0]}" if keys else ""
        message = f"backend '{backend.name}': its api_key {backend.api_key} is not set; set it{alternative}"
        raise BackendError(message)
    if not keys or backend.base_url is not None or find_switch(agent, backend):
        return
    login = f" or run `{agent.login.command}`" if agent.login else ""
    message = f"backend '{backend.name}': no credentials for {agent.name}; set {keys[0]}{login}"
    raise BackendError(message)


def _run(
    agent: Agent,
    request: ProposalRequest,
    executable: Path,
    launch: Launch,
    credentials: Credentials,
    *,
    begun: ExitStack,
    lent: Login | None = None,
) -> Proposal:
    """Run the agent; *begun* is closed once the model is first asked."""
    transcript = agent.transcript()

    def look() -> bool:
        if transcript.has_begun:
            begun.close()
        return transcript.is_hopeless

    def take(line: bytes) -> bool:
        if lent is not None:
            lent.save()  # a renewal happens as the agent starts: it must not be lost if we are killed later
        if request.is_late:
            transcript.keep_state()
        transcript.take(line)
        return look()

    def take_stderr(line: bytes) -> bool:
        transcript.take_stderr(line)
        return look()

    tmp = request.state / "tmp"
    tmp.mkdir(exist_ok=True)
    key = {credentials.variable: credentials.key} if credentials.key else {}
    secrets = {credentials.source: credentials.key} if credentials.key else {}
    completed = request.run(
        [str(executable), *launch.args],
        stdin=request.prompt.encode("utf-8", "replace"),
        env={"TMPDIR": str(tmp), **launch.env, **key},
        secrets={**secrets, **(lent.find_secrets() if lent is not None else {})},
        readable=program_roots(executable, request.environ("PATH") or os.defpath),
        on_line=take,
        on_stderr_line=take_stderr,
    )
    if lent is not None:
        request.hide(lent.find_secrets())
    return judge(
        agent, transcript, completed, backend=request.backend, timeout=request.timeout, source=credentials.source
    )

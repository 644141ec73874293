"""One call of a backend: what it is given, what contains it, and how it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from .errors import BackendError, SandboxError, StoreError, explain_system_error
from .model import Backend, Candidate, Proposal, Target
from .processes.alarm import Alarm, Expired, alarm
from .processes.process import Completed, Listener, host_environment, run, tracking
from .processes.sandbox import Sandbox
from .redaction import SECRET_LENGTH, Redactor

MESSAGE = 10_000
"""Characters taken from what a backend raised or gave; shortened further once its secrets are blotted out."""

NETWORK_VARIABLES = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
"""What a program needs to reach its service from behind a proxy."""


@dataclass(frozen=True, kw_only=True)
class ProposalRequest:
    """What a backend gets for one proposal.

    *workspace* holds the parent's files and ``.metaharness/BRIEF.md``; what its files are afterwards is the proposal.
    *timeout* is in seconds. Files put into *log_dir* stay with the run, redacted; *state* is a private folder that is
    deleted afterwards. *jailed* tells whether :meth:`run` contains programs in the jail.
    """

    target: Target
    parent: Candidate
    candidate: str
    workspace: Path
    prompt: str
    backend: Backend
    timeout: float
    log_dir: Path
    state: Path
    _sandbox: Sandbox
    _hidden: tuple[Path, ...]
    _readable: tuple[Path, ...]
    _redactor: Redactor
    _deadline: float
    _clock: Alarm

    @property
    def jailed(self) -> bool:
        """Whether programs run in the jail, which then is all that contains them."""
        return self._sandbox.mode == "bwrap"

    @property
    def is_late(self) -> bool:
        """Whether the proposal's time is up."""
        return time.monotonic() >= self._deadline

    def environ(self, name: str) -> str | None:
        """Give a variable of the user's environment."""
        return os.environ.get(name)

    def hide(self, secrets: Mapping[str, str]) -> None:
        """Blot out *secrets*, name -> value, in everything stored from now on."""
        self._redactor.add(secrets)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        readable: Sequence[Path] = (),
        writable: Sequence[Path] = (),
        cwd: Path | None = None,
        grace: float = 2.0,
        on_line: Listener | None = None,
        on_stderr_line: Listener | None = None,
    ) -> Completed:
        """Run a program with the guarantees of this package until it ends or the proposal's time is up.

        It sees the allow-listed environment, the backend's ``env`` and *env*; it may write to the workspace, *state*
        and *writable*. *secrets* (name -> value) are blotted out in everything stored from now on; so are the values
        of variables passed through. *on_line* gets each line of standard output as it comes, *on_stderr_line* those
        of standard error; a program is killed when one of them gives ``True``. At the end of the time all its programs
        get SIGTERM, *grace* seconds later SIGKILL. Both streams are kept in *log_dir*.

        :raises ProgramError: it cannot be started.
        :raises StoreError: its output cannot be stored.
        """
        passed = read_passed_variables(self.backend)
        self._redactor.add({name: value for name, value in passed.items() if len(value) >= SECRET_LENGTH})
        self._redactor.add(secrets or {})
        network = {name: os.environ[name] for name in NETWORK_VARIABLES if name in os.environ}
        home, tmp = self.state / "home", self.state / "tmp"
        home.mkdir(exist_ok=True)
        tmp.mkdir(exist_ok=True)
        given = {name: value for name, value in self.backend.env.items() if value is not None}
        with self._clock.hold():
            completed = run(
                argv,
                cwd=cwd or self.workspace,
                env={**host_environment(home, tmp), **network, **passed, **given, **(env or {})},
                timeout=max(0.0, self._deadline - time.monotonic()),
                stdin=stdin,
                jail=self._sandbox.jail(
                    writable=(self.workspace, self.state, *writable),
                    hidden=self._hidden,
                    readable=(*self._readable, *readable),
                    network=True,
                ),
                grace=grace,
                on_line=on_line,
                on_stderr_line=on_stderr_line,
            )
            try:
                for name, captured in (("stdout", completed.stdout), ("stderr", completed.stderr)):
                    with (self.log_dir / name).open("ab") as log:
                        log.write(self._redactor.captured(captured).text().encode("utf-8", "replace"))
            except OSError as error:  # no fault of the program's
                raise StoreError(explain_system_error(error, self.log_dir)) from error
        return completed


def read_passed_variables(backend: Backend) -> dict[str, str]:
    """Give the variables of the user's environment that *backend* names to be passed through, where they are set."""
    return {name: os.environ[name] for name, value in backend.env.items() if value is None and name in os.environ}


def propose(
    answer: Callable[[ProposalRequest], object],
    *,
    timeout: float,
    make_request: Callable[[float, Alarm], ProposalRequest],
) -> Proposal:
    """Call a backend and give what came of it, whatever it does; everything it started is ended.

    :raises BackendError: nobody answers for its provider.
    :raises SandboxError: the jail broke.
    :raises StoreError: the store broke.
    """
    start = time.monotonic()
    late = Proposal(status="timeout", reason=f"no answer within {timeout:g} s")
    try:
        with tracking(), alarm(timeout, Expired) as clock:
            request = make_request(start + timeout, clock)
            given = answer(request)
    except Expired:
        return late
    except (BackendError, SandboxError, StoreError):
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a provider may raise anything; that is its outcome
        proposal = Proposal(status="crash", reason=f"{type(error).__name__}: {error}".rstrip(": ")[:MESSAGE])
    else:
        if given is None:
            backend = request.backend
            message = f"backend '{backend.name}': nobody answers for provider '{backend.provider}'"
            raise BackendError(message)
        proposal = _read_proposal(given)
    if time.monotonic() - start < timeout or proposal.status == "timeout":
        return proposal
    return msgspec.structs.replace(proposal, status="timeout", reason=late.reason)


def _read_proposal(given: object) -> Proposal:
    if not isinstance(given, Proposal):
        return Proposal(status="crash", reason=f"the backend gave {repr(given)[:MESSAGE]} instead of a Proposal")
    try:
        return msgspec.convert(msgspec.to_builtins(given), Proposal)
    except (msgspec.ValidationError, TypeError) as error:
        return Proposal(status="crash", reason=f"the backend's Proposal is not valid: {error}")

"""Whether a backend is ready for work: its program, its credentials, its model server. No model is called."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from ..core.errors import BackendError, MetaharnessError
from ..core.folders import temporary_folder
from ..core.processes.process import host_environment, run
from ..core.processes.sandbox import Sandbox, program_roots
from .agents import UnavailableError, check_credentials, find_credentials, find_executable, list_keys
from .events import cut_line

if TYPE_CHECKING:
    from pathlib import Path

    from ..core.model import Backend
    from .agents import Agent

PATIENCE_S = 60.0
"""For a program to tell its version: the first start after an installation may take a while."""

ANSWER_S = 3.0
"""For a server on this machine to accept a connection."""

_LOOPBACK = ("localhost", "127.", "::1", "[::1]")


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a backend; *problem* says in one line what keeps it from working, and what to do about it."""

    program: str = ""
    version: str = ""
    credentials: str = ""
    service: str = ""
    problem: str = ""


def probe_agent(agent: Agent, backend: Backend, *, environ: Mapping[str, str], sandbox: Sandbox) -> Readiness:
    """Look for all that *backend* needs, in the jail that its proposals will run in."""
    found = Readiness()
    try:
        executable = find_executable(agent, backend, environ.get)
        found = msgspec.structs.replace(found, program=str(executable))
        found = msgspec.structs.replace(found, version=_read_version(agent, executable, environ, sandbox))
        credentials = find_credentials(agent, backend, environ.get)
        check_credentials(agent, backend, credentials)
        has_any = credentials.key or credentials.login or not list_keys(agent, backend)
        told = credentials.source or "none needed"
        found = msgspec.structs.replace(found, credentials=told if has_any else f"{told} (not set)")
        find_service = agent.find_service or find_server
        return msgspec.structs.replace(found, service=find_service(backend, environ.get))
    except BackendError as error:
        return msgspec.structs.replace(found, problem=cut_line(str(error)))
    except MetaharnessError as error:
        return msgspec.structs.replace(found, problem=cut_line(f"backend '{backend.name}': {error}"))


def _read_version(agent: Agent, executable: Path, environ: Mapping[str, str], sandbox: Sandbox) -> str:
    with temporary_folder("probe") as folder:
        for name in ("home", "tmp"):
            (folder / name).mkdir()
        answer = run(
            (str(executable), *agent.version_args),
            cwd=folder,
            env=host_environment(folder / "home", folder / "tmp"),
            timeout=PATIENCE_S,
            jail=sandbox.jail(writable=(folder,), readable=program_roots(executable, environ.get("PATH", os.defpath))),
        )
    lines, errors = (
        [line.strip() for line in captured.text().splitlines() if line.strip()]
        for captured in (answer.stdout, answer.stderr)
    )
    if answer.returncode == 0 and (told := lines or errors):  # pi tells it on standard error
        return cut_line(told[0], 60)
    complaint = cut_line((errors or lines or ["it said nothing"])[-1])
    end = "did not end" if answer.timed_out else f"ended with exit code {answer.returncode}"
    message = f"`{executable} {' '.join(agent.version_args)}` {end}: {complaint}; reinstall it with `{agent.install}`"
    raise MetaharnessError(message)


def find_server(backend: Backend, _environ: object) -> str:
    """See that something listens where a *base_url* on this machine points to; of others nothing is known."""
    if backend.base_url is None:
        return ""
    parts = urlsplit(backend.base_url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if not host.startswith(_LOOPBACK):
        return f"{host}:{port} (not tried)"
    try:
        socket.create_connection((host, port), timeout=ANSWER_S).close()
    except OSError as error:
        message = f"nothing answers at {host}:{port} ({error.strerror or error}); start the server, or correct base_url"
        raise UnavailableError(message) from error
    return f"{host}:{port}"

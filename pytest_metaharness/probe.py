"""What ``--metaharness-probe`` prints: whether the backends that the collected trials would use are ready."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import pytest

from .backends.readiness import Readiness
from .core.errors import BackendError, SandboxError
from .core.model import Backend, Target
from .core.processes.sandbox import Sandbox, choose_sandbox
from .items import Trial
from .options import read_sandbox_mode
from .plugin import add_hooks, get_options
from .preflight import probe_once
from .registry import check_ready, resolve_backend
from .reports import escape

COLUMNS = ("backend", "ready", "version", "credentials", "model server", "program")


class _Asked(NamedTuple):
    """A backend as asked for: its label, what it was resolved to, and for which target; or why it cannot be."""

    label: str
    backend: Backend | None
    problem: str = ""


def report_readiness(session: pytest.Session) -> bool:
    """Print what was found of every backend that the session's trials would use; tells whether all are ready."""
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    try:
        sandbox = choose_sandbox(read_sandbox_mode(get_options(config)))
    except SandboxError as error:
        sandbox, trouble = Sandbox(mode="none"), str(error)
    else:
        trouble = ""
    rows, problems = [COLUMNS], [trouble] if trouble else []
    distinct = {msgspec.json.encode(asked, order="deterministic"): asked for asked in _list_asked(session)}
    for asked in distinct.values():
        if asked.backend is None:
            found = Readiness(problem=asked.problem)
        else:
            found = probe_once(config, asked.backend, sandbox)
            found = msgspec.structs.replace(found, problem=asked.problem or found.problem)
        ready = "no" if found.problem else "yes"
        rows.append((asked.label, ready, found.version, found.credentials, found.service, found.program))
        problems += [found.problem] if found.problem else []
    if reporter is not None:
        reporter.ensure_newline()
        reporter.section("metaharness")
        for line in _align(rows):
            reporter.write_line(line)
        reporter.write_line("")
        reporter.write_line(escape(f"sandbox: {trouble or sandbox.notice or sandbox.mode}".replace("sandbox: s", "s")))
        for problem in dict.fromkeys(problems):
            reporter.write_line(escape(problem), red=True)
    return not problems


def _list_asked(session: pytest.Session) -> Iterator[_Asked]:
    """Give the requested backends as each collected target means them, or as the project does without a target."""
    add_hooks(session.config.pluginmanager)  # without a target nobody has
    root = session.config.rootpath
    nothing = Target(name="", file=root / "metaharness.yaml", goal="", checks=())
    places = [(item.target, item.ihook) for item in session.items if isinstance(item, Trial)]
    for label in get_options(session.config).names:
        for target, hook in places or [(nothing, session.gethookproxy(root))]:
            try:
                backend = resolve_backend(label, target, rootdir=root, hook=hook)
            except BackendError as error:
                yield _Asked(label, None, str(error))
                continue
            try:
                check_ready(backend, target=target, environ=os.environ)
            except BackendError as error:
                yield _Asked(label, backend, str(error))
            else:
                yield _Asked(label, backend)


def _align(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    shown = [[escape(cell) or "-" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

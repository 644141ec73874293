"""From the name of a backend to its configuration: the target's, the project's, or a built-in provider's."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from .backends import PROVIDERS, BuiltinProviders, get_provider
from .core.errors import BackendError, TargetError
from .core.model import Backend, Target
from .core.targets.backend_tables import read_backends
from .core.targets.records import Record


@cache
def get_schemas() -> Mapping[str, Record]:
    """Give the schemas of the built-in providers' own keys."""
    return {name: get_provider(name).OPTIONS for name in PROVIDERS}


def resolve_backend(label: str, target: Target, *, rootdir: Path, hook: Any) -> Backend:
    """Find the backend ``NAME`` or ``NAME:MODEL`` for *target*; *hook* is the item's relay.

    :raises BackendError: the name is unknown, or nobody answers for its provider.
    """
    name, _, model = label.partition(":")
    configured = {**read_project_backends(rootdir / "pyproject.toml"), **target.backends}
    foreign = any(
        not isinstance(implementation.plugin, BuiltinProviders)
        for implementation in hook.pytest_metaharness_propose.get_hookimpls()
    )
    backend = configured.get(name)
    if backend is None and (name in PROVIDERS or foreign):
        backend = Backend(name=name, provider=name)
    if backend is None:
        known = sorted({"baseline", *PROVIDERS, *configured})
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        message = f"unknown backend '{name}' (known: {', '.join(known)}{hint})"
        raise BackendError(message)
    if backend.provider not in PROVIDERS and not foreign:
        message = (
            f"backend '{name}': nobody answers for provider '{backend.provider}' "
            f"(built-in: {', '.join(PROVIDERS)}; others implement pytest_metaharness_propose)"
        )
        raise BackendError(message)
    return msgspec.structs.replace(backend, model=model) if model else backend


@cache
def read_project_backends(file: Path) -> Mapping[str, Backend]:
    """Read ``[tool.metaharness.backends]`` of a ``pyproject.toml``; read once per process.

    :raises BackendError: it is not valid.
    """
    if not file.is_file():  # as pytest, which would wait at a FIFO
        return {}
    try:
        table: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{file.name}: cannot be read: {error.strerror}"
        raise BackendError(message) from error
    except ValueError as error:
        message = f"{file.name}: not valid TOML: {error}"
        raise BackendError(message) from error
    except RecursionError:
        message = f"{file.name}: not valid TOML: nested too deeply"
        raise BackendError(message) from None
    path = []
    for name in ("tool", "metaharness", "backends"):
        if isinstance(table, dict):
            table = table.get(name, {})
            path.append(name)
    try:
        return read_backends(table, providers=get_schemas(), shown_as=file.name, key=".".join(path))
    except TargetError as error:
        raise BackendError(str(error)) from error


def check_ready(backend: Backend, *, target: Target, environ: Mapping[str, str]) -> None:
    """Refuse a built-in backend that cannot be used.

    :raises BackendError: one line that says what to do.
    """
    if backend.provider in PROVIDERS:
        get_provider(backend.provider).check_ready(backend, target=target, environ=environ)

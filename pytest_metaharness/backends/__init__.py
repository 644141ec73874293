"""The built-in providers: one module each, imported at first use."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

import pytest

if TYPE_CHECKING:
    from ..core.model import Backend, Proposal, Target
    from ..core.processes.sandbox import Sandbox
    from ..core.proposals import ProposalRequest
    from ..core.targets.records import Record
    from .readiness import Readiness

PROVIDERS = ("codex", "gemini", "opencode", "pi", "claude", "fake")


class Provider(Protocol):
    """What each module of this package offers; *OPTIONS* are the keys of its own in a backend's table."""

    OPTIONS: Record

    def check_ready(self, backend: Backend, *, target: Target, environ: Mapping[str, str]) -> None:
        """Refuse a backend that cannot be used; spends nothing.

        :raises BackendError: one line that says what to do.
        """

    def probe(self, backend: Backend, *, environ: Mapping[str, str], sandbox: Sandbox) -> Readiness:
        """Look for all that *backend* needs; takes seconds, spends nothing."""

    def propose(self, request: ProposalRequest) -> Proposal:
        """Make one proposal."""


def get_provider(name: str) -> Provider:
    """Give one of ``PROVIDERS``."""
    return cast("Provider", import_module(f".{name}", __name__))


class BuiltinProviders:
    """Answers :func:`pytest_metaharness_propose` for the built-in providers, after all others."""

    @pytest.hookimpl(trylast=True)
    def pytest_metaharness_propose(self, request: ProposalRequest) -> Proposal | None:
        """Ask the provider that the backend names."""
        name = request.backend.provider
        return get_provider(name).propose(request) if name in PROVIDERS else None

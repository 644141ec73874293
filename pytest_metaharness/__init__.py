"""Make the harness around your coding agents measurably better, as a pytest session."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.errors import BackendError, GateFailure, MetaharnessError, SandboxError, StoreError, TargetError
    from .core.model import (
        Backend,
        Candidate,
        Check,
        CheckResult,
        Contains,
        Gate,
        GitBaseline,
        Limits,
        Proposal,
        Run,
        Target,
        Tokens,
    )
    from .core.processes.process import Completed, ProgramError
    from .core.proposals import ProposalRequest
    from .core.targets.complete import Metaharness

__all__ = [
    "Backend",
    "BackendError",
    "Candidate",
    "Check",
    "CheckResult",
    "Completed",
    "Contains",
    "Gate",
    "GateFailure",
    "GitBaseline",
    "Limits",
    "Metaharness",
    "MetaharnessError",
    "ProgramError",
    "Proposal",
    "ProposalRequest",
    "Run",
    "SandboxError",
    "StoreError",
    "Target",
    "TargetError",
    "Tokens",
]

_MODULES = {
    "BackendError": "errors",
    "Completed": "processes.process",
    "GateFailure": "errors",
    "Metaharness": "targets.complete",
    "MetaharnessError": "errors",
    "ProgramError": "processes.process",
    "ProposalRequest": "proposals",
    "SandboxError": "errors",
    "StoreError": "errors",
    "TargetError": "errors",
}


def __getattr__(name: str) -> Any:  # PEP 562: an unused plugin imports nothing
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f".core.{_MODULES.get(name, 'model')}", __name__), name)

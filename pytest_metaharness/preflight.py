"""Before anything is spent: is a backend ready? Each is asked once in a session, for all its workers."""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import partial
from pathlib import Path

import msgspec
import pytest

from .backends import PROVIDERS, get_provider
from .backends.readiness import Readiness
from .core.folders import name_temporary
from .core.model import Backend
from .core.once import compute_once
from .core.processes.sandbox import Sandbox
from .plugin import get_session_name, is_worker


def find_shared(config: pytest.Config) -> Path:
    """Give the folder that the processes of this session on this machine share while it lasts."""
    owner = os.getppid() if is_worker(config) else os.getpid()
    session = hashlib.sha256(get_session_name(config).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir(), name_temporary("preflight", owner) + session)


def probe_once(config: pytest.Config, backend: Backend, sandbox: Sandbox) -> Readiness:
    """Probe *backend* unless this session has done so, in whichever of its workers; that one is waited for."""
    if backend.provider not in PROVIDERS:
        return Readiness(program="of a plugin")
    asked = hashlib.sha256(msgspec.json.encode((backend, sandbox.mode), order="deterministic")).hexdigest()
    probe = partial(get_provider(backend.provider).probe, backend, environ=os.environ, sandbox=sandbox)
    folder = find_shared(config)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():  # put there to be believed
        return probe()
    found: Readiness = compute_once(folder / f"{asked[:32]}.json", Readiness, probe).value
    return found

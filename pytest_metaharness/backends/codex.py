"""Provider ``codex``: drives OpenAI's Codex CLI, ``codex exec --json``.

Facts about the program were taken from version 0.169 at work.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..core.targets.backend_tables import ProviderKeys
from ..core.targets.records import Field, NotWith
from ..core.targets.schema import Choice, Flag
from .agents import Agent, Credentials, Launch, LoginFile
from .codex_events import CodexTranscript
from .local_models import LmStudio, LocalServer, Ollama
from .readiness import find_server

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ..core.model import Backend
    from ..core.proposals import ProposalRequest
    from .agents import Environ

SANDBOXES = ("read-only", "workspace-write", "danger-full-access")
"""What codex's own sandbox may be told to allow."""

LOCAL: Mapping[str, tuple[type[LocalServer], str]] = {
    "ollama": (Ollama, "gpt-oss:20b"),
    "lmstudio": (LmStudio, "openai/gpt-oss-20b"),
}
"""The servers that ``oss`` names, with codex's own models for them."""

OPTIONS = ProviderKeys(
    fields={
        "oss": Field(Choice(words=tuple(LOCAL)), "Server of models on this machine to use instead of OpenAI's service"),
        "sandbox": Field(Choice(words=SANDBOXES), "Codex's own sandbox where our jail is not in use (workspace-write)"),
        "context_files": Field(Flag(), "Feed the workspace's AGENTS.md and skills to codex as instructions (false)"),
    },
    lacks={"api": "codex speaks one protocol, OpenAI's Responses"},
    rules=(NotWith("api_key", "oss", "codex shows such a server no key"),),
)
"""The provider's own keys."""

KEY = "CODEX_API_KEY"
"""The one variable from which ``codex exec`` takes a key."""

LOG = "error,opentelemetry_sdk=off,opentelemetry_otlp=off,codex_sandboxing::violation=warn"
"""Codex's own default and the target that alone tells of a command refused by its sandbox."""


def launch(request: ProposalRequest, credentials: Credentials) -> Launch:  # noqa: ARG001 - it finds them itself
    """Prepare codex's state folder and give its command line."""
    home = _make_home(request)
    backend = request.backend
    args = ["exec", "--json", "--skip-git-repo-check", "--ephemeral", "-C", str(request.workspace)]
    env = {"CODEX_HOME": str(home)}
    if oss := backend.options.get("oss"):
        server, model = find_local_model(backend)
        args += ["--oss", "--local-provider", str(oss), "-m", model]
        env |= {"CODEX_OSS_BASE_URL": server.base_url, **_bypass_proxy(request, server)}
    elif backend.model is not None:
        args += ["-m", backend.model]
    if request.jailed:
        args += ["--dangerously-bypass-approvals-and-sandbox"]
    else:
        args += ["-s", str(backend.options.get("sandbox", "workspace-write"))]
    if "RUST_LOG" not in backend.env:
        env["RUST_LOG"] = LOG
    # Codex refuses to set up its sandbox when its home lies under TMPDIR, and then every edit fails in silence.
    return Launch(args=[*args, *backend.args, "-"], env=env, login=home / "auth.json")


def list_keys(backend: Backend) -> tuple[str, ...]:
    """Give the variable of the key, where codex shows one at all."""
    return () if backend.options.get("oss") else (KEY,)


def find_local_model(backend: Backend) -> tuple[LocalServer, str]:
    """Find the server that the ``oss`` of *backend* names, and its model there; codex would download a missing one.

    :raises UnavailableError: one of them is not there; the message says what to do.
    """
    kind, usual = LOCAL[str(backend.options["oss"])]
    server = kind(backend.base_url)
    return server, server.find_model(backend.model or usual)


def find_service(backend: Backend, environ: Environ) -> str:
    """Say what was found of the model server of *backend*."""
    if not backend.options.get("oss"):
        return find_server(backend, environ)
    server, model = find_local_model(backend)
    return f"{server.address} has {model}"


def _bypass_proxy(request: ProposalRequest, server: LocalServer) -> dict[str, str]:
    """Have codex, which uses the user's proxy for everything, ask a server on this machine itself."""
    if not server.is_here:
        return {}
    known = request.environ("NO_PROXY") or request.environ("no_proxy")
    return dict.fromkeys(("NO_PROXY", "no_proxy"), f"{known},{server.host}" if known else server.host)


def _make_home(request: ProposalRequest) -> Path:
    """Make codex's state folder, with settings that keep it to its job.

    No statistics, updates, plugins, connectors of the user's account: nothing that it does not need. A service that
    cannot be reached is given up after half a minute (by default never). The workspace is what codex works on; unless
    asked for, neither its AGENTS.md nor its skills are instructions to codex itself. Its tools do not see the key, and
    find on PATH what checks find there: a login shell would put the system's PATH in place of ours.
    """
    home = request.state / "codex-home"
    home.mkdir(mode=0o700, exist_ok=True)
    lines = ["allow_login_shell = false", "check_for_update_on_startup = false", 'cli_auth_credentials_store = "file"']
    if request.backend.base_url is not None and not request.backend.options.get("oss"):
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


AGENT = Agent(
    name="codex",
    install="npm install -g @openai/codex",
    keys=list_keys,
    login=LoginFile(command="codex login", path="auth.json", variable="CODEX_HOME", default=".codex"),
    launch=launch,
    transcript=CodexTranscript,
    find_service=find_service,
)
check_ready = AGENT.check_ready
probe = AGENT.probe
propose = AGENT.propose

"""Provider ``pi``: drives Pi, ``pi -p --mode json``.

Facts about the program were taken from version 0.73.1 at work and from its source.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import BackendError
from ..core.targets.backend_tables import ProviderKeys
from ..core.targets.records import Field
from ..core.targets.schema import Flag
from .agents import Agent, Credentials, Launch, LoginFile, find_executable
from .events import read_object
from .models import CONTEXT_TOKENS, OUTPUT_TOKENS, SWITCHES, list_model_keys, read_model
from .pi_events import PiTranscript

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..core.model import Backend
    from ..core.proposals import ProposalRequest

OPTIONS = ProviderKeys(
    fields={"context_files": Field(Flag(), "Feed the workspace's AGENTS.md to pi as instructions (false)")}
)
"""The provider's own keys."""

KEYS: Mapping[str, tuple[str, ...]] = {
    "amazon-bedrock": ("AWS_BEARER_TOKEN_BEDROCK",),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_OAUTH_TOKEN"),
    "azure-openai-responses": ("AZURE_OPENAI_API_KEY",),
    "cloudflare-ai-gateway": ("CLOUDFLARE_API_KEY",),
    "cloudflare-workers-ai": ("CLOUDFLARE_API_KEY",),
    "github-copilot": ("COPILOT_GITHUB_TOKEN",),
    "google": ("GEMINI_API_KEY",),
    "google-vertex": ("GOOGLE_CLOUD_API_KEY",),
    "huggingface": ("HF_TOKEN",),
    "kimi-coding": ("KIMI_API_KEY",),
    "moonshotai": ("MOONSHOT_API_KEY",),
    "moonshotai-cn": ("MOONSHOT_API_KEY",),
    "opencode-go": ("OPENCODE_API_KEY",),
    "vercel-ai-gateway": ("AI_GATEWAY_API_KEY",),
}
"""Services whose keys are not in the variable that is called like them."""

APIS = {"chat": "openai-completions", "responses": "openai-responses", "anthropic": "anthropic-messages"}
"""What pi calls each ``api``."""

GUARD = Path(__file__).with_name("pi_guard.mjs")
"""The extension that keeps pi in the workspace where our jail is not in use."""

TOOLS = ("read", "edit", "write", "ls")
SEARCHES = {"grep": ("rg",), "find": ("fd", "fdfind")}
"""Tools that need a program, any of these; by itself pi would download it."""

SETTINGS: Mapping[str, Any] = {
    "enableInstallTelemetry": False,
    "quietStartup": True,
    # Three attempts in six seconds; by default it takes twelve requests and 20 seconds to give up a dead service.
    "retry": {"enabled": True, "maxRetries": 2, "baseDelayMs": 2000, "provider": {"maxRetries": 0}},
}


def launch(request: ProposalRequest, credentials: Credentials) -> Launch:
    """Prepare pi's state folder and give its command line.

    Nothing of the workspace configures pi: neither its ``.pi`` nor its ``.agents`` (settings, extensions, skills,
    prompts, the system prompt), and its AGENTS.md is no instruction. Pi has no sandbox and no permissions; where our
    jail is not in use it gets no shell, and an extension of ours that keeps its tools in the workspace.
    """
    backend, model = request.backend, read_model(request.backend)
    home = request.state / "pi-agent"
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "settings.json").write_text(json.dumps(SETTINGS, indent=2), encoding="utf-8")
    if services := _describe_service(request, credentials):
        (home / "models.json").write_text(json.dumps({"providers": services}, indent=2), encoding="utf-8")
    args = ["-p", "--mode", "json", "--no-session", "--no-context-files"]
    args += ["--no-extensions", "--no-skills", "--no-prompt-templates", "--no-themes"]
    if not request.jailed:
        args += ["-e", str(GUARD), "--tools", ",".join(_list_tools(request))]
    if backend.options.get("context_files", False) and (file := _find_context(request.workspace)):
        args += ["--append-system-prompt", str(file)]
    args += ["--provider", model.service, "--model", model.name, *backend.args]
    env = {"PI_CODING_AGENT_DIR": str(home), "PI_OFFLINE": "1", "PI_TELEMETRY": "0", "PI_SKIP_VERSION_CHECK": "1"}
    if package := _make_package(request):
        env["PI_PACKAGE_DIR"] = str(package)
    return Launch(args=args, env=env, login=home / "auth.json" if backend.base_url is None else None)


def _describe_service(request: ProposalRequest, credentials: Credentials) -> dict[str, Any]:
    """Describe the service as pi wants it; nothing where it knows all.

    Pi takes a text there that is the name of a variable for that one's value, and runs what begins with ``!``: so the
    key is never written there, but its variable.
    """
    backend, model = request.backend, read_model(request.backend)
    if backend.base_url is None:
        return {}
    service: dict[str, Any] = {
        "baseUrl": backend.base_url,
        "apiKey": credentials.variable if credentials.key else "none",  # it does not start without one
    }
    if model.is_own:
        service["api"] = APIS[backend.api or "chat"]
        service["models"] = [{"id": model.name, "contextWindow": CONTEXT_TOKENS, "maxTokens": OUTPUT_TOKENS}]
    return {model.service: service}


def _list_tools(request: ProposalRequest) -> list[str]:
    path = request.environ("PATH")
    found = [tool for tool, programs in SEARCHES.items() if any(shutil.which(name, path=path) for name in programs)]
    return [*TOOLS, *found]


def _find_context(workspace: Path) -> Path | None:
    """Find the workspace's AGENTS.md, unless it is a link to a file of somebody else's."""
    file = workspace / "AGENTS.md"
    return file if file.is_file() and file.resolve().is_relative_to(workspace.resolve()) else None


def _make_package(request: ProposalRequest) -> Path | None:
    """Make a folder like that of pi's package, in which another folder than ``.pi`` is named as that of a project.

    No option keeps pi from reading the settings and the system prompt in there. The other is an empty one of ours.

    :raises BackendError: pi's package is not found, and the workspace has a ``.pi``.
    """
    executable = find_executable(AGENT, request.backend, request.environ).resolve()
    for folder in executable.parents:
        file = folder / "package.json"
        described = read_object(file.read_bytes()) if file.is_file() else None
        if described is not None and "piConfig" in described:
            break
    else:
        if (request.workspace / ".pi").exists():
            name = request.backend.name
            message = f"backend '{name}': the workspace's .pi would configure pi; set executable to its dist/cli.js"
            raise BackendError(message)
        return None
    package, project = request.state / "pi-package", request.state / "pi-project"
    package.mkdir(exist_ok=True)
    project.mkdir(exist_ok=True)
    for entry in folder.iterdir():
        if entry.name != file.name and not (package / entry.name).is_symlink():
            (package / entry.name).symlink_to(entry)
    settings = described["piConfig"] if isinstance(described["piConfig"], dict) else {}
    settings["configDir"] = os.path.relpath(project.resolve(), request.workspace.resolve())
    (package / file.name).write_text(json.dumps({**described, "piConfig": settings}), encoding="utf-8")
    return package


def list_keys(backend: Backend) -> tuple[str, ...]:
    """Give the variables of a key for the service of the model.

    :raises BackendError: no model is named: pi would take any of the services whose key it finds.
    """
    return list_model_keys(backend, KEYS)


AGENT = Agent(
    name="pi",
    install="npm install -g @mariozechner/pi-coding-agent",
    keys=list_keys,
    login=LoginFile(command="pi", path="auth.json", variable="PI_CODING_AGENT_DIR", default=".pi/agent"),
    switches=SWITCHES,
    launch=launch,
    transcript=PiTranscript,
)
check_ready = AGENT.check_ready
probe = AGENT.probe
propose = AGENT.propose

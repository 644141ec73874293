"""Provider ``claude``: drives Anthropic's Claude Code, ``claude -p --output-format stream-json``.

Facts about the program were taken from version 2.1.197 at work and from its source.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.targets.backend_tables import ProviderKeys
from ..core.targets.records import Field
from ..core.targets.schema import Flag
from . import claude_guard
from .agents import Agent, Credentials, Launch, LoginFile
from .claude_events import ClaudeTranscript

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..core.proposals import ProposalRequest

OPTIONS = ProviderKeys(
    fields={"context_files": Field(Flag(), "Feed the workspace's CLAUDE.md to claude as instructions (false)")},
    lacks={"api": "claude speaks one protocol, Anthropic's Messages"},
)
"""The provider's own keys."""

KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")

CLOUDS: Mapping[str, str] = {
    "CLAUDE_CODE_USE_BEDROCK": "ANTHROPIC_BEDROCK_BASE_URL",
    "CLAUDE_CODE_USE_VERTEX": "ANTHROPIC_VERTEX_BASE_URL",
    "CLAUDE_CODE_USE_FOUNDRY": "ANTHROPIC_FOUNDRY_BASE_URL",
}
"""Variables that, named in a backend's ``env``, choose a cloud, and where each of these takes its address from.

Their credentials are among the variables passed through.
"""

TOOLS = ("Read", "Edit", "Write", "Glob", "Grep")
SHELL = "Bash"

RETRIES = 2
"""How often a request is made again before its service is given up; by default that takes three minutes."""

SETTINGS = {
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_MAX_RETRIES": str(RETRIES),
    "DISABLE_AUTOUPDATER": "1",
    "MCP_CONNECTION_NONBLOCKING": "0",  # else it works without the guard where that takes two seconds to start
}
"""Variables that keep claude to its job: no statistics, updates, or notes for later runs."""


def launch(request: ProposalRequest, credentials: Credentials) -> Launch:
    """Prepare claude's state folder and give its command line.

    Only the settings of a user are read, and that user's folder is new: nothing of the workspace configures claude,
    neither its ``.claude`` (settings, hooks, skills, commands, agents) nor its ``.mcp.json``, and its CLAUDE.md is no
    instruction. Where our jail is not in use claude has no shell, which nothing else would contain, and its own check
    of paths keeps its edits in the workspace. What it asks for is decided by our guard.
    """
    backend = request.backend
    home = request.state / "claude-home"
    home.mkdir(mode=0o700, exist_ok=True)
    env = {**SETTINGS, "CLAUDE_CONFIG_DIR": str(home), "CLAUDE_CODE_TMPDIR": str(request.state / "tmp")}
    env |= _hide_keys(request)
    cloud = next((url for switch, url in CLOUDS.items() if switch in backend.env), None)
    login = None
    if backend.base_url is not None:
        env[cloud or "ANTHROPIC_BASE_URL"] = backend.base_url
        if not credentials.key and cloud is None:
            env[KEYS[0]] = "none"  # it does not start without one, also where the server wants none
    elif credentials.login:
        login = home / ".credentials.json"
    args = ["-p", "--output-format", "stream-json", "--verbose", "--no-session-persistence"]
    args += ["--setting-sources", "user", "--permission-mode", "acceptEdits"]
    args += ["--tools", ",".join((*TOOLS, SHELL) if request.jailed else TOOLS)]
    args += ["--strict-mcp-config", "--mcp-config", str(_make_guard(request))]
    args += ["--permission-prompt-tool", f"mcp__{claude_guard.SERVER}__{claude_guard.TOOL}"]
    if backend.options.get("context_files", False):
        args += ["--add-dir", str(request.workspace)]
        env["CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD"] = "1"
    if backend.model is not None:
        args += ["--model", backend.model]
    return Launch(args=[*args, *backend.args], env=env, login=login)


def _hide_keys(request: ProposalRequest) -> dict[str, str]:
    """Keep the key from the commands that claude runs: each begins with this file.

    A command that searches other processes finds it nevertheless.
    """
    file = request.state / "claude-shell.sh"
    file.write_text(f"unset {' '.join(KEYS)}\n", encoding="utf-8")
    return {"CLAUDE_ENV_FILE": str(file)}


def _make_guard(request: ProposalRequest) -> Path:
    """Put the guard where it can be read in the jail too, and give the file that tells claude of it."""
    guard = request.state / "claude_guard.py"
    shutil.copyfile(Path(claude_guard.__file__), guard)
    workspace = [] if request.jailed else [str(request.workspace)]
    server = {"command": sys.executable, "args": ["-I", "-S", str(guard), *workspace]}
    file = request.state / "claude-servers.json"
    file.write_text(json.dumps({"mcpServers": {claude_guard.SERVER: server}}), encoding="utf-8")
    return file


AGENT = Agent(
    name="claude",
    install="npm install -g @anthropic-ai/claude-code",
    keys=KEYS,
    switches=tuple(CLOUDS),
    login=LoginFile(
        command="claude auth login", path=".credentials.json", variable="CLAUDE_CONFIG_DIR", default=".claude"
    ),
    launch=launch,
    transcript=ClaudeTranscript,
)
check_ready = AGENT.check_ready
probe = AGENT.probe
propose = AGENT.propose

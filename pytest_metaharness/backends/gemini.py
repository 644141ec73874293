"""Provider ``gemini``: drives Google's Gemini CLI, ``gemini --output-format stream-json``.

Facts about the program were taken from version 0.61 at work and from its source.
"""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

from ..core.proposals import NETWORK_VARIABLES
from ..core.targets.backend_tables import ProviderKeys
from ..core.targets.records import Field
from ..core.targets.schema import Flag
from .agents import Agent, Credentials, Launch, LoginFile
from .gemini_events import SHELL, GeminiTranscript

if TYPE_CHECKING:
    from pathlib import Path

    from ..core.proposals import ProposalRequest

OPTIONS = ProviderKeys(
    fields={"context_files": Field(Flag(), "Feed the workspace's GEMINI.md to gemini as instructions (false)")},
    lacks={"api": "gemini speaks one protocol, Google's own"},
)
"""The provider's own keys."""

KEY = "GEMINI_API_KEY"

VERTEX = "GOOGLE_GENAI_USE_VERTEXAI"
"""Named in a backend's ``env`` it chooses Google Cloud, whose credentials are among the variables passed through."""

TOOLS = (
    "read_file",
    "read_many_files",
    "list_directory",
    "glob",
    "grep_search",
    "write_file",
    "replace",
    "write_todos",
)

POLICY = f"""\
[[rule]]
toolName = "{SHELL}"
decision = "allow"
priority = 900
argsPattern = "command"
allowRedirection = true
"""
"""Lets every command run. With a pattern the rule is taken as it is: without one gemini asks the user, who is not
there, before each `rm -rf`, each redirection and each use of git.
"""

_LIKE_CREDENTIALS = re.compile(
    r"(?!GEMINI_|GOOGLE_).*(TOKEN|SECRET|PASSW|KEY|AUTH|CREDENTIAL|CREDS|PRIVATE|CERT)", re.IGNORECASE
)
"""Names of variables, but for its own, that gemini keeps from its commands. It makes no exception for one that is
passed to them on purpose: then it may hide none.
"""

ATTEMPTS = 2
"""How often a request is made before its service is given up; by default that takes four minutes."""


def launch(request: ProposalRequest, credentials: Credentials) -> Launch:
    """Prepare gemini's state folder and give its command line.

    The workspace is not trusted, so that nothing of it configures gemini: neither its ``.gemini`` (settings, servers
    of tools, hooks, skills, policies) nor its ``.env``, and its GEMINI.md is no instruction. In an untrusted folder the
    approval mode is always the default one, in which the tools that we list are allowed and all others are denied.
    """
    backend = request.backend
    home = request.state / "gemini-home"
    folder = home / ".gemini"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    login = None
    env: dict[str, str] = {
        "GEMINI_CLI_HOME": str(home),
        "GEMINI_CLI_NO_RELAUNCH": "true",  # else there are two processes, and the first ignores SIGTERM
        "GEMINI_CLI_TRUST_WORKSPACE": "false",
        "NO_BROWSER": "true",  # with a login that is no longer good it would open one
    }
    if VERTEX in backend.env:
        kind, url = "vertex-ai", "GOOGLE_VERTEX_BASE_URL"
    elif credentials.login and backend.base_url is None:
        kind, url, login = "oauth-personal", "", folder / "oauth_creds.json"
    else:
        kind, url = "gemini-api-key", "GOOGLE_GEMINI_BASE_URL"
        if not credentials.key:
            env[KEY] = "none"  # it does not start without one, also where the server wants none
    if backend.base_url is not None:
        env[url] = backend.base_url
    passed = {name for name in NETWORK_VARIABLES if request.environ(name)} | set(backend.env)
    hides = not any(_LIKE_CREDENTIALS.match(name) for name in passed)
    settings = _make_settings(kind, has_shell=request.jailed, hides_credentials=hides)
    (folder / "settings.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    if request.jailed:
        (folder / "policies").mkdir(exist_ok=True)
        (folder / "policies" / "shell.toml").write_text(POLICY, encoding="utf-8")
    if backend.options.get("context_files", False):
        _copy_context(request.workspace, folder)
    model = () if backend.model is None else ("-m", backend.model)
    return Launch(args=["--output-format", "stream-json", *model, *backend.args], env=env, login=login)


def _make_settings(auth: str, *, has_shell: bool, hides_credentials: bool) -> dict[str, Any]:
    """Make settings that keep gemini to its job, with the tools it needs for that.

    No statistics, updates, helpers of its own, or other programs' servers. What the workspace's ``.gitignore`` names
    can be read nevertheless: that may be our own brief.
    """
    return {
        "admin": {"mcp": {"enabled": False}, "extensions": {"enabled": False}, "skills": {"enabled": False}},
        "advanced": {"ignoreLocalEnv": True},
        "context": {"fileFiltering": {"respectGitIgnore": False, "respectGeminiIgnore": False}},
        "experimental": {"enableAgents": False},
        "general": {
            "enableAutoUpdate": False,
            "enableAutoUpdateNotification": False,
            "maxAttempts": ATTEMPTS,
            "topicUpdateNarration": False,
        },
        "hooksConfig": {"enabled": False},
        "ide": {"enabled": False},
        "privacy": {"usageStatisticsEnabled": False},
        # Trust is refused by a variable. Where gemini decides it itself, an untrusted folder ends a run without a user.
        "security": {
            "auth": {"selectedType": auth},
            "environmentVariableRedaction": {"enabled": hides_credentials},
            "folderTrust": {"enabled": False},
        },
        "telemetry": {"enabled": False},
        # Outside our jail its edits are kept to the workspace by its own check of paths; it has no sandbox here.
        "tools": {"core": [*TOOLS, *([SHELL] if has_shell else [])], "sandbox": False},
    }


def _copy_context(workspace: Path, folder: Path) -> None:
    """Let the workspace's GEMINI.md be the user's own: that of an untrusted folder is not read."""
    file = workspace / "GEMINI.md"
    if file.is_file() and file.resolve().is_relative_to(workspace.resolve()):  # a link may lead to the user's files
        shutil.copyfile(file, folder / "GEMINI.md")


AGENT = Agent(
    name="gemini",
    install="npm install -g @google/gemini-cli",
    keys=(KEY,),
    login=LoginFile(command="gemini", path=".gemini/oauth_creds.json", variable="GEMINI_CLI_HOME", default=""),
    switches=(VERTEX,),
    launch=launch,
    transcript=GeminiTranscript,
)
check_ready = AGENT.check_ready
probe = AGENT.probe
propose = AGENT.propose

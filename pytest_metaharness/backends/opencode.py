"""Provider ``opencode``: drives OpenCode, ``opencode run --format json``.

Facts about the program were taken from version 1.18.33 at work and from its source.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.targets.backend_tables import ProviderKeys
from ..core.targets.records import Field
from ..core.targets.schema import Flag
from .agents import Agent, Credentials, Launch, LoginFile
from .models import CONTEXT_TOKENS, OUTPUT_TOKENS, SWITCHES, list_model_keys, read_model
from .opencode_events import OpencodeTranscript

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ..core.model import Backend
    from ..core.proposals import ProposalRequest
    from .models import ChosenModel

CONFIGURATION = (".opencode", "opencode.json", "opencode.jsonc")
"""What a project configures opencode with, plugins included."""

OPTIONS = ProviderKeys(
    fields={"context_files": Field(Flag(), "Feed the workspace's AGENTS.md to opencode as instructions (false)")}
)
"""The provider's own keys."""

KEYS: Mapping[str, tuple[str, ...]] = {
    "amazon-bedrock": ("AWS_BEARER_TOKEN_BEDROCK",),
    "fireworks-ai": ("FIREWORKS_API_KEY",),
    "github-copilot": ("GITHUB_TOKEN",),
    "google": ("GOOGLE_GENERATIVE_AI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "huggingface": ("HF_TOKEN",),
    "moonshotai": ("MOONSHOT_API_KEY",),
    "opencode-go": ("OPENCODE_API_KEY",),
    "togetherai": ("TOGETHER_API_KEY",),
    "vercel": ("AI_GATEWAY_API_KEY",),
    "zai": ("ZHIPU_API_KEY",),
    "zai-coding-plan": ("ZHIPU_API_KEY",),
    "zhipuai": ("ZHIPU_API_KEY",),
}
"""Services whose keys are not in the variable that is called like them."""

PACKAGES = {"chat": "@ai-sdk/openai-compatible", "responses": "@ai-sdk/openai", "anthropic": "@ai-sdk/anthropic"}
"""What speaks each ``api``; all are part of the program."""

TOOLS = ("read", "edit", "glob", "grep", "list", "todowrite")
"""What opencode may do: ``edit`` is every way to change files. Subagents are not among it: their events, and what they
cost, are not printed.
"""

SWITCHED_OFF = (
    "AUTOUPDATE", "CLAUDE_CODE", "DEFAULT_PLUGINS", "EXTERNAL_SKILLS", "LSP_DOWNLOAD", "MODELS_FETCH", "PROJECT_CONFIG",
    "SHARE", "TERMINAL_TITLE",
)  # fmt: skip


def launch(request: ProposalRequest, credentials: Credentials) -> Launch:
    """Prepare opencode's state folders and give its command line.

    Nothing of the workspace configures opencode, and its AGENTS.md is no instruction. Where our jail is not in use it
    has no shell, which nothing else would contain, and its own check of paths keeps its edits in the workspace.
    """
    backend, model = request.backend, read_model(request.backend)
    folders = {kind: request.state / "xdg" / kind for kind in ("data", "config", "state", "cache")}
    for folder in folders.values():
        (folder / "opencode").mkdir(mode=0o700, parents=True, exist_ok=True)
    _pretend_installed(folders["config"] / "opencode")
    file = request.state / "opencode.json"
    file.write_text(json.dumps(_make_config(request, credentials, model), indent=2), encoding="utf-8")
    env = {f"XDG_{kind.upper()}_HOME": str(folder) for kind, folder in folders.items()}
    env |= {f"OPENCODE_DISABLE_{what}": "1" for what in SWITCHED_OFF}
    env["OPENCODE_CONFIG"] = str(file)
    # Its log alone tells of requests that it tries again, and of what it is doing; and it explains some failures.
    args = ["run", "--format", "json", "--pure", "--print-logs", "--log-level", "INFO", "--title", "proposal"]
    args += ["--dir", str(request.workspace), "-m", f"{model.service}/{model.name}", *backend.args]
    login = folders["data"] / "opencode" / "auth.json" if backend.base_url is None else None
    return Launch(args=args, env=env, login=login, when_begun=_hold_back(request))


def _hold_back(request: ProposalRequest) -> Callable[[], None]:
    """Take away what would configure opencode as it starts; gives the function that brings it back.

    Its switches are not enough: version 1.18 runs plugins of the workspace, and of all folders above it up to the root
    of the repository, whatever they say. So the workspace is made a repository, too. That also keeps opencode from
    taking the whole of an enclosing one for its workspace, or, where there is none, from telling its model that the
    root of all work is ``/``. It has read everything when it first asks the model; tools run later.
    """
    workspace, aside, repository = request.workspace, request.state / "aside", request.state / "repository"
    shutil.rmtree(aside, ignore_errors=True)  # of an earlier try
    aside.mkdir()
    held = [name for name in (".git", *CONFIGURATION) if os.path.lexists(workspace / name)]
    for name in held:
        (workspace / name).rename(aside / name)
    for folder in ("objects", "refs"):
        (repository / folder).mkdir(parents=True, exist_ok=True)
    (repository / "HEAD").write_text("ref: refs/heads/main\n", encoding="utf-8")
    (workspace / ".git").write_text(f"gitdir: {repository}\n", encoding="utf-8")

    def give_back() -> None:
        (workspace / ".git").unlink(missing_ok=True)
        for name in held:
            if not os.path.lexists(workspace / name):  # else it was made anew
                (aside / name).rename(workspace / name)

    return give_back


def _pretend_installed(folder: Path) -> None:
    """Make *folder* look like one whose plugins need not be installed: else opencode fetches a package in each run."""
    (folder / "node_modules").mkdir(exist_ok=True)
    lock = {"packages": {"": {"dependencies": {"@opencode-ai/plugin": "*"}}}}
    (folder / "package-lock.json").write_text(json.dumps(lock), encoding="utf-8")


def _make_config(request: ProposalRequest, credentials: Credentials, model: ChosenModel) -> dict[str, Any]:
    """Make a configuration that keeps opencode to its job and to the one model.

    The key is not in it: it names the variable. A model is known with all that is told of it here, so that one newer
    than opencode can be used.
    """
    backend = request.backend
    options: dict[str, str] = {} if backend.base_url is None else {"baseURL": backend.base_url}
    if credentials.key:
        options["apiKey"] = f"{{env:{credentials.variable}}}"
    elif backend.base_url is not None:
        options["apiKey"] = "none"  # some packages refuse to start without one, also where the server wants none
    service: dict[str, Any] = {"options": options, "models": {model.name: {}}}
    if model.is_own:
        limit = {"context": CONTEXT_TOKENS, "output": OUTPUT_TOKENS}
        service |= {"npm": PACKAGES[backend.api or "chat"], "models": {model.name: {"limit": limit}}}
    return {
        "model": f"{model.service}/{model.name}",
        "small_model": f"{model.service}/{model.name}",
        "enabled_providers": [model.service],
        "provider": {model.service: service},
        "permission": _make_permissions(request),
        "instructions": [str(file) for file in _list_context(request)],
        "autoupdate": False,
        "formatter": False,
        "lsp": False,
        "share": "disabled",
        "snapshot": False,
    }


def _make_permissions(request: ProposalRequest) -> dict[str, Any]:
    """Give the permissions: the last rule that fits a tool, and what it is used on, decides.

    What needs to be asked for is refused, and the run ends there: so nothing is left to that. Calling a tool three
    times in the same way (``doom_loop``) is among it.
    """
    allowed = dict.fromkeys((*TOOLS, "doom_loop"), "allow")
    if request.jailed:
        return {"*": "deny", **allowed, "bash": "allow", "external_directory": "allow"}
    rule = {"*": "allow", **dict.fromkeys(_list_ways_out(request.workspace), "deny")}
    return {"*": "deny", **allowed, "read": rule, "edit": rule, "external_directory": "deny"}


def _list_ways_out(workspace: Path) -> Iterator[str]:
    """Give patterns for the links in *workspace* that lead out of it, or to folders, since opencode goes by names.

    It names files from the root of the workspace.
    """
    root = workspace.resolve()
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            link = Path(folder, name)
            if link.is_symlink() and (link.is_dir() or not link.resolve().is_relative_to(root)):
                yield from (way := str(link.relative_to(root)), f"{way}/*")


def _list_context(request: ProposalRequest) -> Iterator[Path]:
    """Give the files that are instructions, if any; none that a link brings in from outside."""
    file = request.workspace / "AGENTS.md"
    is_own = file.is_file() and file.resolve().is_relative_to(request.workspace.resolve())
    if is_own and request.backend.options.get("context_files", False):
        yield file


def list_keys(backend: Backend) -> tuple[str, ...]:
    """Give the variables of a key for the service of the model.

    :raises BackendError: no model is named: opencode would take any, also one that is not paid for with this key.
    """
    return list_model_keys(backend, KEYS)


AGENT = Agent(
    name="opencode",
    install="npm install -g opencode-ai",
    keys=list_keys,
    login=LoginFile(
        command="opencode auth login", path="opencode/auth.json", variable="XDG_DATA_HOME", default=".local/share"
    ),
    switches=SWITCHES,
    launch=launch,
    transcript=OpencodeTranscript,
)
check_ready = AGENT.check_ready
probe = AGENT.probe
propose = AGENT.propose

"""The agents that tests drive side by side: how each is configured, and what its scripted model tells it to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .model_dialects import Step, Tool

MODEL = "gpt-oss:20b"
"""What the scripted server offers as Ollama."""

DONE = Step(text="All done.")

CASES = (
    "edits two files",
    "no change",
    "401",
    "500",
    "no login",
    "tries to write outside",
    "hangs",
    "stream cut",
)

Files = Mapping[str, str]
"""Contents by path, relative to the workspace or absolute."""


@dataclass(frozen=True, kw_only=True)
class Player:
    """An agent at play.

    *table* configures its backend; ``{server}`` in it stands for the model server's address. *without_login* is the
    same where the user has no login: an address of the user's own might ask for none. *key* is the variable in which it
    gets its key. *write* writes whole files, *read* reads one, *shell* runs a command: in the jail, or also without
    where *has_shell*. *expected* is what comes of a case (outcome, pattern of the reason) where it is peculiar to the
    agent.
    """

    name: str
    program: str
    table: Mapping[str, Any]
    without_login: Mapping[str, Any]
    key: str | None
    write: Callable[[Files], Sequence[Step]]
    read: Callable[[str], Step]
    shell: Callable[[str], Step]
    has_shell: bool = False
    expected: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def configure(self, server: str) -> dict[str, Any]:
        """Give the table for a model server at *server*, without a slash at the end."""
        return {
            name: value.replace("{server}", server) if isinstance(value, str) else value
            for name, value in self.table.items()
        }

    def can_run(self, *, jailed: bool) -> bool:
        """Whether it has a shell."""
        return jailed or self.has_shell


def _call(name: str, **args: Any) -> Tool:
    return Tool(name=name, args=args)


def _use(*tools: Tool) -> Step:
    return Step(text="I will.", tools=list(tools))


def _patch(files: Files) -> Sequence[Step]:
    parts = [
        f"*** Add File: {path}\n" + "".join(f"+{line}\n" for line in content.splitlines())
        for path, content in files.items()
    ]
    return [Step(tools=[Tool(name="apply_patch", input=f"*** Begin Patch\n{part}*** End Patch\n")]) for part in parts]


def _write_by_shell(files: Files) -> Sequence[Step]:
    command = "\n".join(f"cat > {path} <<'END_OF_FILE'\n{content}END_OF_FILE" for path, content in files.items())
    return [_use(_call("exec_command", cmd=command))]


def _write_by_gemini(files: Files) -> Sequence[Step]:
    return [_use(*(_call("write_file", file_path=path, content=content) for path, content in files.items()))]


def _write_by_opencode(files: Files) -> Sequence[Step]:
    return [_use(*(_call("write", filePath=path, content=content) for path, content in files.items()))]


def _write_by_pi(files: Files) -> Sequence[Step]:
    return [_use(*(_call("write", path=path, content=content) for path, content in files.items()))]


def _write_by_claude(files: Files) -> Sequence[Step]:
    return [
        _use(*(_call("Read", file_path=path) for path in files)),  # else it may not be written
        _use(*(_call("Write", file_path=path, content=content) for path, content in files.items())),
    ]


PLAYERS = {
    player.name: player
    for player in (
        Player(
            name="codex",
            program="codex",
            table={"provider": "codex", "model": "gpt-5.5", "base_url": "{server}/v1"},
            without_login={"provider": "codex", "model": "gpt-5.5"},
            key="CODEX_API_KEY",
            write=_patch,
            read=lambda path: _use(_call("exec_command", cmd=f"cat {path}")),
            shell=lambda command: _use(_call("exec_command", cmd=command)),
            has_shell=True,
        ),
        Player(
            name="codex over ollama",
            program="codex",
            table={"provider": "codex", "oss": "ollama", "model": MODEL, "base_url": "{server}/v1"},
            without_login={"provider": "codex", "oss": "ollama", "model": MODEL, "base_url": "http://127.0.0.1:9/v1"},
            key=None,
            write=_write_by_shell,
            read=lambda path: _use(_call("exec_command", cmd=f"cat {path}")),
            shell=lambda command: _use(_call("exec_command", cmd=command)),
            has_shell=True,
            expected={
                "401": (
                    "unavailable",
                    ".*status 401 .*: scripted: this key is not known.*; check base_url {server}/v1",
                ),
                "no login": ("error", "backend 'mine': Ollama does not answer at .*; start it with `ollama serve`"),
            },
        ),
        Player(
            name="gemini",
            program="gemini",
            table={"provider": "gemini", "model": "gemini-2.5-flash", "base_url": "{server}"},
            without_login={"provider": "gemini", "model": "gemini-2.5-flash"},
            key="GEMINI_API_KEY",
            write=_write_by_gemini,
            read=lambda path: _use(_call("read_file", file_path=path)),
            shell=lambda command: _use(_call("run_shell_command", command=command, description="Work.")),
        ),
        Player(
            name="opencode",
            program="opencode",
            table={"provider": "opencode", "model": "deepseek/deepseek-chat", "base_url": "{server}/v1"},
            without_login={"provider": "opencode", "model": "deepseek/deepseek-chat"},
            key="DEEPSEEK_API_KEY",
            write=_write_by_opencode,
            read=lambda path: _use(_call("read", filePath=path)),
            shell=lambda command: _use(_call("bash", command=command, description="Work.")),
        ),
        Player(
            name="pi",
            program="pi",
            table={"provider": "pi", "model": "groq/llama-3.3-70b-versatile", "base_url": "{server}/v1"},
            without_login={"provider": "pi", "model": "groq/llama-3.3-70b-versatile"},
            key="GROQ_API_KEY",
            write=_write_by_pi,
            read=lambda path: _use(_call("read", path=path)),
            shell=lambda command: _use(_call("bash", command=command)),
        ),
        Player(
            name="claude",
            program="claude",
            table={"provider": "claude", "model": "claude-sonnet-4-5", "base_url": "{server}"},
            without_login={"provider": "claude", "model": "claude-sonnet-4-5"},
            key="ANTHROPIC_API_KEY",
            write=_write_by_claude,
            read=lambda path: _use(_call("Read", file_path=path)),
            shell=lambda command: _use(_call("Bash", command=command, description="Work.")),
        ),
    )
}

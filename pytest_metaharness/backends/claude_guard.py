"""What Claude Code asks where its own rules do not decide: a program, which is copied into each proposal's state.

Claude edits the workspace without asking, but for what configures agents and editors (``.claude``, ``.mcp.json``,
``.vscode``, ...), which harnesses are made of and no setting of Claude's allows. This server of one tool (Model Context
Protocol, over standard input and output) does. With a workspace as its argument it allows edits of files in there and
denies all else; without one, in our jail, it allows everything.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

SERVER, TOOL = "metaharness", "permit"

EDITORS = ("Edit", "Write")


def decide(call: dict[str, Any], workspace: str | None) -> dict[str, Any]:
    """Allow or deny a *call*, as Claude describes it."""
    given = call["input"]
    path = given.get("file_path", "")
    if workspace is None or (call["tool_name"] in EDITORS and _is_inside(path, workspace)):
        return {"behavior": "allow", "updatedInput": given}
    message = f"{path} is outside of the workspace" if path else "only the files of the workspace may be used"
    return {"behavior": "deny", "message": message}


def _is_inside(path: str, workspace: str) -> bool:
    return bool(path) and os.path.realpath(path).startswith(os.path.realpath(workspace) + os.sep)


def answer(method: str, params: dict[str, Any], workspace: str | None) -> dict[str, Any]:
    """Give the result of one request."""
    if method == "initialize":
        server = {"name": SERVER, "version": "1"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": server}
    if method == "tools/list":
        return {"tools": [{"name": TOOL, "description": "Permits a call.", "inputSchema": {"type": "object"}}]}
    if method == "tools/call":
        decision = decide(params["arguments"], workspace)
        return {"content": [{"type": "text", "text": json.dumps(decision)}]}
    return {}


def main() -> None:
    """Answer requests, a line each, until there are no more."""
    workspace = sys.argv[1] if len(sys.argv) > 1 else None
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request:  # the others are notices
            result = answer(request["method"], request.get("params", {}), workspace)
            sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

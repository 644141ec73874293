"""A scripted model server on 127.0.0.1, for driving real coding-agent CLIs.

One server speaks five dialects, told apart by the path of the request::

    POST .../responses                            OpenAI Responses  (codex, codex --oss)
    POST .../chat/completions                     OpenAI Chat       (opencode, pi)
    POST .../messages                             Anthropic         (claude)
    POST .../models/<m>:streamGenerateContent     Gemini            (gemini)
    GET  .../api/version, /api/tags, ...          Ollama            (what codex --oss asks first)

A script is a list of steps, or gives one for the body of a request. Which step answers is a pure function of the
request: the number of model turns with tool calls in the conversation that it carries. So retries get the same answer,
side calls (titles, classifiers: requests that offer no tools) get ``side_text``, and any number of runs can share a
server. ``/s/<name>`` before the path picks one of several scripts.

The one thing remembered is which refresh tokens were spent: ``POST .../oauth/token`` renews a login once per token.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias
from urllib.parse import parse_qs

from .model_dialects import DIALECTS, Body, Step, make_error, write_answer, write_events

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTES = (
    (re.compile(r"/responses$"), "responses"),
    (re.compile(r"/chat/completions$"), "chat"),
    (re.compile(r"/messages$"), "anthropic"),
    (re.compile(r"/models/(?P<model>[^/:]+):(?:streamGenerateContent|generateContent)$"), "gemini"),
)

Script: TypeAlias = "Sequence[Step] | Callable[[Body], Sequence[Step]]"

CREDENTIALS = ("authorization", "x-api-key", "x-goog-api-key")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as it came.

    *path* is without the name of the *script*. *step* is the turn that answered it, -1 for a side call, ``None`` when
    no step did.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Body = field(default_factory=dict)
    step: int | None = None
    script: str = "default"

    @property
    def text(self) -> str:
        """The whole body as JSON."""
        return json.dumps(self.body, ensure_ascii=False)


class ModelServer(ThreadingHTTPServer):
    """Serves *scripts* (one, or several by name) from a free port while it is a context."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        scripts: Script | Mapping[str, Script],
        *,
        models: Sequence[str] = ("scripted",),
        ollama_version: str = "0.13.4",
        side_text: str = "Scripted side answer",
        require_auth: bool = False,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scripts: Mapping[str, Script] = scripts if isinstance(scripts, Mapping) else {"default": scripts}
        self.models, self.ollama_version = tuple(models), ollama_version
        self.side_text, self.require_auth = side_text, require_auth
        self.requests: list[Request] = []
        self.spent: set[str] = set()
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def turns(self) -> list[Request]:
        """The requests that a step answered."""
        with self.lock:
            return [request for request in self.requests if request.step is not None and request.step >= 0]

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that is killed hangs up in the middle."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer
    PROBES: ClassVar[Mapping[str, Body]] = {
        "/": {"status": "Ollama is running"},
        "/api/show": {
            "capabilities": ["completion", "tools"],
            "details": {"family": "scripted"},
            "model_info": {"general.architecture": "scripted", "scripted.context_length": 131072},
        },
    }

    def log_message(self, *_args: object) -> None:
        """Keep the test's output clean."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_CONNECT(self) -> None:
        """Be a proxy that notes who was asked for, and reaches nobody."""
        self._record(self.path)
        self._answer(502, {"error": {"message": "no way out of here"}})

    def do_GET(self) -> None:
        path, _ = self._split()
        self._record(path)
        if path.endswith("/responses"):  # codex tries a WebSocket first; 426 makes it fall back to HTTP at once
            self._answer(426, {"error": {"message": "no WebSocket here"}})
        elif path == "/api/version":
            self._answer(200, {"version": self.server.ollama_version})
        elif path == "/api/tags":
            self._answer(200, {"models": [_describe_ollama_model(name) for name in self.server.models]})
        elif path.endswith("/models"):
            listed = [
                {"id": name, "object": "model", "created": 0, "owned_by": "scripted"} for name in self.server.models
            ]
            self._answer(200, {"object": "list", "data": listed, "models": []})
        elif path in self.PROBES:
            self._answer(200, self.PROBES[path])
        else:
            self._answer(404, {"error": f"no route {path}"})

    def do_POST(self) -> None:
        path, script = self._split()
        body = self._read_body()
        if path.endswith("/oauth/token"):
            self._renew_login(path, body)
            return
        found = next(((match, name) for pattern, name in ROUTES if (match := pattern.search(path))), None)
        dialect = found[1] if found else "chat"
        if self.server.require_auth and not any(self.headers.get(name) for name in CREDENTIALS):
            self._record(path, body)
            self._answer(401, make_error(dialect, 401, "scripted: no credentials in the request"))
        elif path.endswith((":countTokens", "/count_tokens")):
            self._record(path, body)
            self._answer(200, {"totalTokens": 100, "input_tokens": 100})
        elif found and (played := self.server.scripts.get(script)) is not None:
            model = found[0].groupdict().get("model") or str(body.get("model"))
            self._play(path, dialect, {**body, "model": model}, played(body) if callable(played) else played)
        else:
            self._record(path, body)
            known = {"error": {"message": f"no route {path} or no script {script!r}"}}
            self._answer(200 if path in self.PROBES else 404, self.PROBES.get(path, known))

    def _play(self, path: str, dialect: str, body: Body, steps: Sequence[Step]) -> None:
        talk = DIALECTS[dialect]
        fails_at_once = "status" in steps[0] or steps[0].get("hang")
        if talk.is_side_call(body) and not fails_at_once:
            turn, step = -1, Step(text=self.server.side_text)
        else:
            turn = talk.count_tool_turns(body)
            step = steps[min(turn, len(steps) - 1)]
        self._record(path, body, turn)
        if "status" in step:
            message = step.get("message", f"scripted {step['status']}")
            self._answer(step["status"], make_error(dialect, step["status"], message), step.get("headers"))
        elif "streamGenerateContent" in path or (dialect != "gemini" and body.get("stream")):
            self._stream(write_events(dialect, step, body, turn), step)
        else:
            self._answer(200, write_answer(dialect, step, body, turn), torn=step.get("torn", False))

    def _renew_login(self, path: str, body: Body) -> None:
        """Give new tokens for a refresh token that was never used before, as the real service does."""
        self._record(path, body)
        token = str(body.get("refresh_token"))
        with self.server.lock:
            is_spent = token in self.server.spent
            self.server.spent.add(token)
            count = len(self.server.spent)
        if is_spent:
            self._answer(401, {"error": {"code": "refresh_token_reused", "message": "scripted: already used"}})
        else:
            self._answer(200, make_login(count + 1, lasts=864_000))

    # ------------------------------------------------------------------------------------------------------- HTTP

    def _split(self) -> tuple[str, str]:
        path = self.path.partition("?")[0]
        named = re.match(r"/s/(?P<name>[^/]+)(?P<path>/.*)$", path)
        return (named["path"], named["name"]) if named else (path, "default")

    def _read_body(self) -> Body:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            return {name: values[0] for name, values in parse_qs(raw.decode("utf-8", "replace")).items()}
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            return {"unreadable": len(raw), "encoding": self.headers.get("Content-Encoding")}
        return body if isinstance(body, dict) else {"unreadable": len(raw)}

    def _record(self, path: str, body: Body | None = None, step: int | None = None) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        script = self._split()[1]
        request = Request(method=self.command, path=path, headers=headers, body=body or {}, step=step, script=script)
        with self.server.lock:
            self.server.requests.append(request)

    def _answer(
        self, status: int, payload: Any, headers: Mapping[str, str] | None = None, *, torn: bool = False
    ) -> None:
        raw = json.dumps(payload).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw[: len(raw) // 2] if torn else raw)
        self.close_connection |= torn

    def _stream(self, events: Iterator[tuple[str | None, Any]], step: Step) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, (name, data) in enumerate(events):
            if name and isinstance(data, dict) and "type" not in data:
                data = {"type": name, "sequence_number": number, **data}  # noqa: PLW2901 - the event as it is sent
            text = data if isinstance(data, str) else json.dumps(data)
            self._chunk(((f"event: {name}\n" if name else "") + f"data: {text}\n\n").encode())
        if step.get("hang"):
            self.server.stopping.wait(600)
            self.close_connection = True
        elif step.get("cut") or step.get("torn"):
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, raw: bytes) -> None:
        self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
        self.wfile.flush()


def _describe_ollama_model(name: str) -> Body:
    details = {"format": "gguf", "family": "scripted", "families": ["scripted"], "parameter_size": "1B"}
    return {
        "name": name,
        "model": name,
        "modified_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "size": 1,
        "digest": "0" * 64,
        "details": {**details, "quantization_level": "Q4_0"},
    }


def make_login(number: int, *, lasts: float) -> Body:
    """Make the tokens of a ChatGPT login that end in *lasts* seconds (or ended, if negative)."""

    def encode(claims: Body) -> str:
        return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()

    account = {"chatgpt_account_id": "account-1", "chatgpt_plan_type": "pro", "chatgpt_user_id": "user-1"}
    claims = {"exp": int(time.time() + lasts), "email": "someone@example.com", "https://api.openai.com/auth": account}
    head, signature = encode({"alg": "RS256", "typ": "JWT"}), encode({"scripted": True})
    return {
        "id_token": ".".join((head, encode({**claims, "number": number}), signature)),
        "access_token": ".".join((head, encode({**claims, "number": number, "scope": "access"}), signature)),
        "refresh_token": f"scripted-refresh-token-{number:04}",
    }

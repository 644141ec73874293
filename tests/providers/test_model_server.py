"""The scripted server answers each dialect by how far the talk has come, and remembers nothing but spent logins."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from .model_dialects import Step, Tool
from .model_server import ModelServer

STEPS = [Step(text="I will.", tools=[Tool(name="write", args={"path": "a"})]), Step(text="Done.")]

TALKS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "responses": (
        "/v1/responses",
        {"tools": [{}], "stream": True, "input": []},
        {"input": [{"type": "reasoning"}, {"type": "function_call"}, {"type": "function_call_output"}]},
        "response.completed",
    ),
    "chat": (
        "/v1/chat/completions",
        {"tools": [{}], "stream": True, "messages": []},
        {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
        "[DONE]",
    ),
    "anthropic": (
        "/v1/v1/messages",
        {"tools": [{}], "stream": True, "messages": []},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use"}]}]},
        "message_stop",
    ),
    "gemini": (
        "/v1beta/models/m1:streamGenerateContent?alt=sse",
        {"tools": [{}], "contents": []},
        {"contents": [{"role": "model", "parts": [{"functionCall": {}}]}]},
        '"finishReason": "STOP"',
    ),
}


def post(url: str, body: dict[str, Any]) -> tuple[int, str]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("dialect", TALKS)
def test_the_step_follows_from_the_talk(dialect: str) -> None:
    path, begun, answered, end = TALKS[dialect]
    with ModelServer(STEPS) as server:
        for _ in range(2):  # a retry gets the same answer
            status, first = post(server.url + path, begun)
            assert (status, "I will." in first, "write" in first, end in first) == (200, True, True, True)
        _, second = post(server.url + path, {**begun, **answered})
        assert ("Done." in second, "write" in second, end in second) == (True, False, True)
        _, side = post(server.url + path, {**begun, "tools": []})
        assert "Scripted side answer" in side
        assert [request.step for request in server.requests] == [0, 0, 1, -1]


@pytest.mark.parametrize("dialect", TALKS)
def test_an_answer_without_stream(dialect: str) -> None:
    path, begun, _, _ = TALKS[dialect]
    with ModelServer(STEPS) as server:
        plain = server.url + path.replace("streamGenerateContent?alt=sse", "generateContent")
        status, text = post(plain, {**begun, "stream": False, "tools": []})
    assert status == 200
    assert "Scripted side answer" in json.dumps(json.loads(text))


@pytest.mark.parametrize("dialect", TALKS)
def test_errors_and_missing_credentials(dialect: str) -> None:
    path, begun, _, _ = TALKS[dialect]
    with ModelServer([Step(status=429, message="slow down", headers={"Retry-After": "1"})]) as server:
        status, text = post(server.url + path, begun)
        assert (status, json.loads(text)["error"]["message"]) == (429, "slow down")
    with ModelServer(STEPS, require_auth=True) as server:
        assert post(server.url + path, begun)[0] == 401


def test_one_of_several_scripts_by_name() -> None:
    path, begun, _, _ = TALKS["responses"]
    with ModelServer({"a": [Step(text="from a")], "b": [Step(text="from b")]}) as server:
        assert "from b" in post(f"{server.url}/s/b{path}", begun)[1]
        assert post(f"{server.url}/s/c{path}", begun)[0] == 404


def test_ollama_is_there() -> None:
    with ModelServer(STEPS, models=("gpt-oss:20b",)) as server:

        def get(path: str) -> Any:
            with urllib.request.urlopen(server.url + path, timeout=10) as answer:
                return json.load(answer)

        assert get("/api/version") == {"version": "0.13.4"}
        assert get("/api/tags")["models"][0]["name"] == "gpt-oss:20b"
        assert get("/v1/models")["data"][0]["id"] == "gpt-oss:20b"


def test_a_refresh_token_serves_once() -> None:
    with ModelServer(STEPS) as server:
        renewal = {"grant_type": "refresh_token", "refresh_token": "mine"}
        status, text = post(f"{server.url}/oauth/token", renewal)
        assert (status, json.loads(text)["refresh_token"]) == (200, "scripted-refresh-token-0002")
        assert post(f"{server.url}/oauth/token", renewal)[0] == 401

"""The five dialects of the scripted model server: what a step looks like on the wire, and how far a talk has come."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Body: TypeAlias = dict[str, Any]
Event: TypeAlias = tuple[str | None, Any]
"""Name (``None`` where the dialect has none) and data of one server-sent event."""


class Usage(TypedDict, total=False):
    """Tokens that a step claims to have used."""

    input: int
    cached: int
    output: int
    reasoning: int


class Tool(TypedDict, total=False):
    """A call of a tool: *args* of a function, or *input* of a free-form tool (Responses only)."""

    name: str
    args: Mapping[str, Any]
    input: str


class Step(TypedDict, total=False):
    """One model turn.

    *text* and *tools* are its answer. *status* is an HTTP error instead, with *message* and *headers*. *hang* never
    finishes the stream, *cut* ends it too early, both after *text*; *torn* is a cut that spares no answer, also where
    no stream was asked for. *unended* closes the stream in order, without saying that the answer is over.
    """

    text: str
    tools: list[Tool]
    usage: Usage
    status: int
    message: str
    headers: Mapping[str, str]
    hang: bool
    cut: bool
    torn: bool
    unended: bool


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a dialect is read and written."""

    count_tool_turns: Callable[[Body], int]
    is_side_call: Callable[[Body], bool]
    write_events: Callable[[Step, Body, int], Iterator[Event]]


def write_events(dialect: str, step: Step, body: Body, turn: int) -> Iterator[Event]:
    """Write *step* as the events of a stream."""
    return DIALECTS[dialect].write_events(step, body, turn)


def _is_broken(step: Step) -> bool:
    return bool(step.get("hang") or step.get("cut") or step.get("torn") or step.get("unended"))


def _read_usage(step: Step) -> tuple[int, int, int, int]:
    usage = step.get("usage", {})
    return usage.get("input", 100), usage.get("cached", 20), usage.get("output", 10), usage.get("reasoning", 3)


def _has_no_tools(body: Body) -> bool:
    return not body.get("tools")


# --------------------------------------------------------------------------------------------------- OpenAI Responses


def _count_responses_turns(body: Body) -> int:
    turns, is_in_turn = 0, False
    items = body.get("input")
    for item in items if isinstance(items, list) else []:
        is_call = item.get("type") in {"function_call", "custom_tool_call", "local_shell_call"}
        turns += is_call and not is_in_turn
        is_in_turn = is_call or (is_in_turn and item.get("type") == "reasoning")
    return turns


def _is_responses_side_call(body: Body) -> bool:
    items = body.get("input")
    if isinstance(items, list) and any(item.get("type") == "additional_tools" for item in items):
        return False  # codex's "lite" models are told their tools in the input
    return _has_no_tools(body)


def _write_responses(step: Step, body: Body, turn: int) -> Iterator[Event]:
    tokens_in, cached, tokens_out, reasoning = _read_usage(step)
    base: Body = {
        "id": f"resp_{turn}",
        "object": "response",
        "created_at": int(time.time()),
        "model": body.get("model"),
        "status": "in_progress",
        "output": [],
        "error": None,
        "incomplete_details": None,
    }
    yield "response.created", {"response": base}
    output: list[Body] = []
    if text := step.get("text"):
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"id": f"msg_{turn}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        started = {**item, "status": "in_progress", "content": []}
        yield "response.output_item.added", {"output_index": 0, "item": started}
        yield "response.content_part.added", {**place, "part": {**part, "text": ""}}
        yield "response.output_text.delta", {**place, "delta": text}
        if _is_broken(step):
            return
        yield "response.output_text.done", {**place, "text": text}
        yield "response.content_part.done", {**place, "part": part}
        yield "response.output_item.done", {"output_index": 0, "item": item}
        output.append(item)
    if _is_broken(step):
        return
    for number, tool in enumerate(step.get("tools", [])):
        call = {"call_id": f"call_{turn}_{number}", "name": tool["name"], "status": "completed"}
        if "input" in tool:
            item = {"id": f"ctc_{turn}_{number}", "type": "custom_tool_call", **call, "input": tool["input"]}
        else:
            arguments = json.dumps(tool["args"])
            item = {"id": f"fc_{turn}_{number}", "type": "function_call", **call, "arguments": arguments}
        yield "response.output_item.added", {"output_index": len(output), "item": {**item, "status": "in_progress"}}
        yield "response.output_item.done", {"output_index": len(output), "item": item}
        output.append(item)
    usage = {
        "input_tokens": tokens_in,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": tokens_out,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": tokens_in + tokens_out,
    }
    yield "response.completed", {"response": {**base, "status": "completed", "output": output, "usage": usage}}


# -------------------------------------------------------------------------------------------------------- OpenAI Chat


def _count_chat_turns(body: Body) -> int:
    return sum(1 for said in body.get("messages", []) if said.get("role") == "assistant" and said.get("tool_calls"))


def _write_chat_usage(step: Step) -> Body:
    tokens_in, cached, tokens_out, reasoning = _read_usage(step)
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def _write_chat(step: Step, body: Body, turn: int) -> Iterator[Event]:
    head = {"id": f"chatcmpl-{turn}", "object": "chat.completion.chunk", "created": int(time.time())}
    head["model"] = body.get("model")

    def chunk(delta: Body, finish: str | None = None) -> Body:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield None, chunk({"role": "assistant", "content": ""})
    if text := step.get("text"):
        yield None, chunk({"content": text})
    if _is_broken(step):
        return
    for number, tool in enumerate(step.get("tools", [])):
        call = {"index": number, "id": f"call_{turn}_{number}", "type": "function"}
        yield None, chunk({"tool_calls": [{**call, "function": {"name": tool["name"], "arguments": ""}}]})
        yield None, chunk({"tool_calls": [{"index": number, "function": {"arguments": json.dumps(tool["args"])}}]})
    yield None, chunk({}, "tool_calls" if step.get("tools") else "stop")
    yield None, {**head, "choices": [], "usage": _write_chat_usage(step)}
    yield None, "[DONE]"


# ---------------------------------------------------------------------------------------------------------- Anthropic


def _count_anthropic_turns(body: Body) -> int:
    return sum(
        1
        for said in body.get("messages", [])
        if said.get("role") == "assistant"
        and isinstance(said.get("content"), list)
        and any(block.get("type") == "tool_use" for block in said["content"])
    )


def _write_anthropic(step: Step, body: Body, turn: int) -> Iterator[Event]:
    tokens_in, cached, tokens_out, _ = _read_usage(step)
    message: Body = {
        "id": f"msg_{turn}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": tokens_in,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": 1,
        },
    }
    yield "message_start", {"type": "message_start", "message": message}
    blocks: list[tuple[Body, Body]] = []
    if text := step.get("text"):
        blocks.append(({"type": "text", "text": ""}, {"type": "text_delta", "text": text}))
    for number, tool in enumerate(step.get("tools", [])):
        start = {"type": "tool_use", "id": f"toolu_{turn}_{number}", "name": tool["name"], "input": {}}
        blocks.append((start, {"type": "input_json_delta", "partial_json": json.dumps(tool["args"])}))
    for number, (start, delta) in enumerate(blocks):
        place = {"index": number}
        yield "content_block_start", {"type": "content_block_start", **place, "content_block": start}
        yield "content_block_delta", {"type": "content_block_delta", **place, "delta": delta}
        if _is_broken(step):
            return
        yield "content_block_stop", {"type": "content_block_stop", **place}
    if _is_broken(step):
        return
    end = {"stop_reason": "tool_use" if step.get("tools") else "end_turn", "stop_sequence": None}
    yield "message_delta", {"type": "message_delta", "delta": end, "usage": {"output_tokens": tokens_out}}
    yield "message_stop", {"type": "message_stop"}


# ------------------------------------------------------------------------------------------------------------- Gemini


def _count_gemini_turns(body: Body) -> int:
    return sum(
        1
        for said in body.get("contents", [])
        if said.get("role") == "model" and any("functionCall" in part for part in said.get("parts", []))
    )


def _write_gemini(step: Step, body: Body, turn: int) -> Iterator[Event]:
    tokens_in, cached, tokens_out, reasoning = _read_usage(step)

    def chunk(parts: list[Body], *, is_last: bool) -> Body:
        candidate: Body = {"index": 0, "content": {"role": "model", "parts": parts}}
        if not is_last:
            return {"candidates": [candidate], "modelVersion": body.get("model"), "responseId": f"gem-{turn}"}
        usage = {
            "promptTokenCount": tokens_in,
            "cachedContentTokenCount": cached,
            "candidatesTokenCount": tokens_out,
            "thoughtsTokenCount": reasoning,
            "totalTokenCount": tokens_in + tokens_out + reasoning,
        }
        candidate["finishReason"] = "STOP"
        return {
            "candidates": [candidate],
            "modelVersion": body.get("model"),
            "responseId": f"gem-{turn}",
            "usageMetadata": usage,
        }

    calls: list[Body] = [
        {"functionCall": {"id": f"call_{turn}_{number}", "name": tool["name"], "args": tool["args"]}}
        for number, tool in enumerate(step.get("tools", []))
    ]
    if text := step.get("text"):
        yield None, chunk([{"text": text}], is_last=not calls and not _is_broken(step))
    if calls and not _is_broken(step):
        yield None, chunk(calls, is_last=True)


# ------------------------------------------------------------------------------------------------------------ answers

DIALECTS: Mapping[str, Dialect] = {
    "responses": Dialect(
        count_tool_turns=_count_responses_turns,
        is_side_call=_is_responses_side_call,
        write_events=_write_responses,
    ),
    "chat": Dialect(count_tool_turns=_count_chat_turns, is_side_call=_has_no_tools, write_events=_write_chat),
    "anthropic": Dialect(
        count_tool_turns=_count_anthropic_turns, is_side_call=_has_no_tools, write_events=_write_anthropic
    ),
    "gemini": Dialect(count_tool_turns=_count_gemini_turns, is_side_call=_has_no_tools, write_events=_write_gemini),
}


def write_answer(dialect: str, step: Step, body: Body, turn: int) -> Body:
    """Write *step* as one answer, for a request that asked for no stream."""
    text, tools = step.get("text", ""), step.get("tools", [])
    tokens_in, _, tokens_out, _ = _read_usage(step)
    if dialect == "gemini":
        if body.get("generationConfig", {}).get("responseMimeType") == "application/json":
            text = json.dumps({"complexity_reasoning": "scripted", "complexity_score": 50})  # asked by its classifier
        *_, (_, answer) = _write_gemini(Step(text=text or " ", usage=step.get("usage", {})), body, turn)
        return dict(answer)
    if dialect == "anthropic":
        content: list[Body] = [{"type": "text", "text": text}] if text else []
        content += [
            {"type": "tool_use", "id": f"toolu_{turn}_{number}", "name": tool["name"], "input": tool["args"]}
            for number, tool in enumerate(tools)
        ]
        return {
            "id": f"msg_{turn}",
            "type": "message",
            "role": "assistant",
            "model": body.get("model"),
            "content": content,
            "stop_reason": "tool_use" if tools else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": tokens_in, "output_tokens": tokens_out},
        }
    if dialect == "responses":
        *_, (_, event) = _write_responses(step, body, turn)
        return dict(event["response"])
    message: Body = {"role": "assistant", "content": text or None}
    if tools:
        message["tool_calls"] = [
            {
                "id": f"call_{turn}_{number}",
                "type": "function",
                "function": {"name": tool["name"], "arguments": json.dumps(tool["args"])},
            }
            for number, tool in enumerate(tools)
        ]
    return {
        "id": f"chatcmpl-{turn}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if tools else "stop"}],
        "usage": _write_chat_usage(step),
    }


def make_error(dialect: str, status: int, message: str) -> Body:
    """Make the body of an HTTP error."""
    if dialect == "anthropic":
        kinds = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
        kinds[529] = "overloaded_error"
        return {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}}
    if dialect == "gemini":
        names = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 503: "UNAVAILABLE"}
        names |= {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}
        return {"error": {"code": status, "message": message, "status": names.get(status, "UNKNOWN")}}
    kind = {401: "invalid_request_error", 429: "rate_limit_exceeded"}.get(status, "server_error")
    code = "invalid_api_key" if status == 401 else None
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}

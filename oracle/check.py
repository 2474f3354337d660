#!/usr/bin/env python3
"""Holds the official clients of five providers against the fixtures of the fake provider.

`python3 oracle/check.py [KIND[/NAME] ...]` serves `tests/fake/fixtures` and asks for each of them with the provider's own Python
client, which validates what it gets. What the client makes of it must be what the fixture says it means. Prints a table; the exit
code is 0 only if all agree. `CAPIBARA_FAKE` names a program that serves, instead of the one that cargo builds.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import environment

FIXTURES = environment.REPOSITORY / "tests" / "fake" / "fixtures"
SERVE = "cargo run --release --quiet --package capibara-fake --example serve"
KEY = "key-of-nobody"
QUESTION = "Print six times seven."
ATTEMPT_SECONDS = 20.0

Seen = dict[str, Any]


def tokens(
    given: int | None, cached: int | None, cache_write: int | None, output: int | None, reasoning: int | None
) -> dict[str, int | None]:
    """Usage in the words of fixtures."""
    return {"input": given, "cached": cached, "cache_write": cache_write, "output": output, "reasoning": reasoning}


NOTHING = tokens(None, None, None, None, None)


def chat_usage(usage: Any) -> dict[str, int | None]:
    """Usage of chat completions, of OpenAI and Groq."""
    if usage is None:
        return NOTHING
    question, answer = usage.prompt_tokens_details, usage.completion_tokens_details
    return tokens(
        usage.prompt_tokens,
        question.cached_tokens if question else None,
        getattr(question, "cache_write_tokens", None),
        usage.completion_tokens,
        answer.reasoning_tokens if answer else None,
    )


def chat_end(finish: str | None, refusal: str | None) -> tuple[str, str | None]:
    """End and reason of chat completions."""
    if refusal:
        return "refused", refusal
    ends = {"stop": "complete", "length": "limit", "content_filter": "filtered"}
    end = ends.get(finish or "", f"unknown {finish}")
    return end, None if end == "complete" else finish


def chat(client: Any, expect: Seen, stream: bool) -> Seen:
    """Chat completions, of OpenAI and Groq."""
    messages = [{"role": "user", "content": QUESTION}]
    call = client.chat.completions.with_raw_response.create
    raw = call(model=expect["model"], messages=messages, stream=stream)
    answer = raw.parse()
    text, refusal, finish, usage = "", "", None, None
    if stream:
        for chunk in answer:
            groq = getattr(chunk, "x_groq", None)
            usage = chunk.usage or (groq.usage if groq else None) or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                refusal += getattr(choice.delta, "refusal", None) or ""
                finish = choice.finish_reason or finish
            answer = chunk
    else:
        message = answer.choices[0].message
        text, refusal = message.content or "", getattr(message, "refusal", None) or ""
        finish, usage = answer.choices[0].finish_reason, answer.usage
    end, reason = chat_end(finish, refusal)
    return {
        "end": end,
        "text": text,
        "reason": reason,
        "model": answer.model,
        "request_id": raw.headers.get("x-request-id"),
        "answer_id": answer.id,
        "usage": chat_usage(usage),
    }


def openai_chat(url: str, expect: Seen, stream: bool) -> Seen:
    """OpenAI's client, chat completions."""
    import openai

    client: Any = openai.OpenAI(
        base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=ATTEMPT_SECONDS, _strict_response_validation=True
    )
    return chat(client, expect, stream)


def groq(url: str, expect: Seen, stream: bool) -> Seen:
    """Groq's client."""
    import groq

    client: Any = groq.Groq(
        base_url=url, api_key=KEY, max_retries=0, timeout=ATTEMPT_SECONDS, _strict_response_validation=True
    )
    return chat(client, expect, stream)


def openai_responses(url: str, expect: Seen, stream: bool) -> Seen:
    """OpenAI's client, responses."""
    import openai

    client: Any = openai.OpenAI(
        base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=ATTEMPT_SECONDS, _strict_response_validation=True
    )
    raw = client.responses.with_raw_response.create(model=expect["model"], input=QUESTION, stream=stream)
    answer = raw.parse()
    if stream:
        drafted, final = "", None
        for number, event in enumerate(answer):
            assert event.sequence_number == number, f"event {number} has the number {event.sequence_number}"
            if event.type == "response.output_text.delta":
                drafted += event.delta
            elif event.type in ("response.completed", "response.incomplete"):
                final = event.response
        assert final is not None, "no last event"
        assert drafted == final.output_text, f"deltas say {drafted!r}, the response {final.output_text!r}"
        answer = final
    parts = [part for item in answer.output if item.type == "message" for part in item.content]
    refusal = "".join(part.refusal for part in parts if part.type == "refusal")
    if refusal:
        end, reason = "refused", refusal
    elif answer.status == "completed":
        end, reason = "complete", None
    else:
        reason = answer.incomplete_details.reason
        end = {"max_output_tokens": "limit", "content_filter": "filtered"}[reason]
    usage = answer.usage
    return {
        "end": end,
        "text": answer.output_text,
        "reason": reason,
        "model": answer.model,
        "request_id": raw.headers.get("x-request-id"),
        "answer_id": answer.id,
        "usage": tokens(
            usage.input_tokens,
            usage.input_tokens_details.cached_tokens,
            usage.input_tokens_details.cache_write_tokens,
            usage.output_tokens,
            usage.output_tokens_details.reasoning_tokens,
        ),
    }


def anthropic(url: str, expect: Seen, stream: bool) -> Seen:
    """Anthropic's client. It puts streams together itself."""
    import anthropic

    client: Any = anthropic.Anthropic(
        base_url=url, api_key=KEY, max_retries=0, timeout=ATTEMPT_SECONDS, _strict_response_validation=True
    )
    asked = {
        "model": expect["model"],
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": QUESTION}],
    }
    if stream:
        with client.messages.stream(**asked) as events:
            answer = events.get_final_message()
            request_id = events.response.headers.get("request-id")
    else:
        raw = client.messages.with_raw_response.create(**asked)
        answer, request_id = raw.parse(), raw.headers.get("request-id")
    stop = answer.stop_reason
    limits = ("max_tokens", "model_context_window_exceeded")
    ends = {"end_turn": "complete", "stop_sequence": "complete", "refusal": "refused", **dict.fromkeys(limits, "limit")}
    end = ends.get(stop, f"unknown {stop}")
    reason = None if end == "complete" else stop
    if answer.stop_details and answer.stop_details.category:
        reason = answer.stop_details.category
    usage = answer.usage
    cached, written = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
    thinking = usage.output_tokens_details.thinking_tokens if usage.output_tokens_details else None
    return {
        "end": end,
        "text": "".join(block.text for block in answer.content if block.type == "text"),
        "reason": reason,
        "model": answer.model,
        "request_id": request_id,
        "answer_id": answer.id,
        "usage": tokens(
            usage.input_tokens + (cached or 0) + (written or 0), cached, written, usage.output_tokens, thinking
        ),
    }


def gemini(url: str, expect: Seen, stream: bool) -> Seen:
    """Google's client."""
    from google import genai

    options = genai.types.HttpOptions(base_url=url, timeout=int(ATTEMPT_SECONDS * 1000))
    client: Any = genai.Client(api_key=KEY, http_options=options)
    if stream:
        answers = list(client.models.generate_content_stream(model=expect["model"], contents=QUESTION))
    else:
        answers = [client.models.generate_content(model=expect["model"], contents=QUESTION)]
    text, finish, blocked = "", None, None
    for answer in answers:
        if answer.prompt_feedback:
            blocked = answer.prompt_feedback.block_reason
        for candidate in answer.candidates or []:
            finish = candidate.finish_reason or finish
            parts = candidate.content.parts if candidate.content else None
            text += "".join(part.text or "" for part in parts or [] if not part.thought)
    last = answers[-1]
    stopped = blocked or finish
    word = stopped.value if stopped else None
    ends = {"STOP": "complete", "MAX_TOKENS": "limit", "CONTINUATION": "limit"}
    end = "filtered" if blocked else ends.get(word or "", "filtered" if word else "unknown")
    usage = last.usage_metadata
    thoughts, said = usage.thoughts_token_count, usage.candidates_token_count
    output = None if thoughts is None and said is None else (thoughts or 0) + (said or 0)
    return {
        "end": end,
        "text": text,
        "reason": None if end == "complete" else word,
        "model": last.model_version,
        "request_id": last.response_id,
        "answer_id": None,
        "usage": tokens(usage.prompt_token_count, usage.cached_content_token_count, None, output, thoughts),
    }


def ollama(url: str, expect: Seen, stream: bool) -> Seen:
    """Ollama's client."""
    import ollama

    client: Any = ollama.Client(host=url, timeout=ATTEMPT_SECONDS)
    answer = client.chat(model=expect["model"], messages=[{"role": "user", "content": QUESTION}], stream=stream)
    text = ""
    if stream:
        for part in answer:
            text += part.message.content or ""
            last = part
    else:
        last = answer
        text = answer.message.content or ""
    end = {"stop": "complete", "length": "limit"}[last.done_reason] if last.done else "cut"
    return {
        "end": end,
        "text": text,
        "reason": None if end == "complete" else last.done_reason,
        "model": last.model,
        "request_id": None,
        "answer_id": None,
        "usage": tokens(last.prompt_eval_count, None, None, last.eval_count, None),
    }


CLIENTS = {
    "anthropic": anthropic,
    "gemini": gemini,
    "groq": groq,
    "ollama": ollama,
    "openai-chat": openai_chat,
    "openai-responses": openai_responses,
}


@contextmanager
def serving() -> Iterator[str]:
    """The fake provider, which ends with its standard input."""
    command = shlex.split(os.environ.get("CAPIBARA_FAKE", SERVE))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=environment.REPOSITORY, stdin=pipe, stdout=pipe, text=True) as fake:
        assert fake.stdout is not None
        port = fake.stdout.readline().strip()
        if not port:
            sys.exit(f"error: {command[0]} did not start to serve")
        yield f"http://127.0.0.1:{port}"


def differences(path: Path, url: str) -> list[str]:
    """What the official client sees in a fixture and the fixture does not say, or the reverse."""
    kind, fixture = path.parent.name, json.loads(path.read_text())
    expect = fixture["expect"]
    try:
        seen = CLIENTS[kind](f"{url}/fixture/{kind}/{path.stem}", expect, fixture["ask"]["stream"])
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    return [f"{key}: {expect[key]!r}, but the client sees {seen[key]!r}" for key in expect if expect[key] != seen[key]]


def main() -> int:
    """Checks what is named on the command line, or everything."""
    environment.enter()
    os.environ.update(dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1"))
    wanted = sys.argv[1:]
    names = {path: f"{path.parent.name}/{path.stem}" for path in sorted(FIXTURES.glob("*/*.json"))}
    chosen = {path: name for path, name in names.items() if not wanted or name in wanted or path.parent.name in wanted}
    failed = 0
    with serving() as url:
        for path, name in chosen.items():
            found = differences(path, url)
            failed += bool(found)
            print(f"{name:44} {'FAILED' if found else 'ok'}")
            for line in found:
                print(f"    {line}")
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 0 if chosen and not failed else 1


if __name__ == "__main__":
    sys.exit(main())

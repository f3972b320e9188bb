#!/usr/bin/env python3
"""Talks to an OpenAI-compatible server through the official Python client and checks the answers.

    python3 tests/e2e/clients/openai_client.py BASE_URL MODEL [--skip PREFIX] [--only PREFIX]

BASE_URL without /v1. Needs: pip install -r tests/e2e/requirements.txt. Prints one JSON line per
check: {"check": name, "ok": true, "ms": 12} or {"check": name, "ok": false, "error": text}. Ends
with 1 if a check failed. openai_client.mjs makes the same checks; keep them alike.

Expects of the server, beyond the API: greedy answers do not depend on what else is running, and a
seed decides a sampled answer.
"""

import argparse
import asyncio
import json
import sys
import time
import traceback
import urllib.error
import urllib.request

import openai

PROMPT = "Once upon a time, there was a little girl named Lily. One day,"
MESSAGES = [{"role": "user", "content": "What is the capital of France? Tell me about it."}]
TRICKY = "Répète: 🎉 你好 مرحبا e\u0301\n\t\"quoted\" \\ end"
GREEDY = {"temperature": 0, "max_tokens": 24}
SAMPLED = {"temperature": 1.0, "max_tokens": 24}
TIMEOUT_S = 120

CHECKS = []


def check(name):
    def register(function):
        CHECKS.append((name, function))
        return function
    return register


def expect(condition, what, *seen):
    if not condition:
        raise AssertionError(what + "".join(f"; {value!r}" for value in seen))


def expect_usage(usage, choices=1, tokens_max=24):
    expect(usage is not None, "no usage")
    expect(usage.prompt_tokens > 0, "no prompt tokens", usage)
    expect(0 < usage.completion_tokens <= choices * tokens_max, "completion tokens", usage)
    expect(usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, "total", usage)


def expect_error(kind, status, call, param=None, names=None):
    try:
        call()
    except kind as error:
        expect(error.status_code == status, "status", error.status_code)
        expect(isinstance(error.body, dict), "no error object", error.body)
        expect(error.body.get("message"), "no message", error.body)
        expect(error.body.get("type"), "no type", error.body)
        expect("param" in error.body and "code" in error.body, "no param or code", error.body)
        expect(param is None or error.param == param, f"param is not {param}", error.body)
        expect(names is None or names in error.body["message"], f"does not name {names}",
               error.body)
        return
    raise AssertionError(f"no {kind.__name__}")


def read_stream(stream):
    """(text by choice, finish reasons by choice, chunks)"""
    texts, finishes, chunks = {}, {}, []
    for chunk in stream:
        chunks.append(chunk)
        for choice in chunk.choices:
            piece = choice.text if hasattr(choice, "text") else choice.delta.content
            texts[choice.index] = texts.get(choice.index, "") + (piece or "")
            if choice.finish_reason:
                expect(choice.index not in finishes, "finished twice", choice.index)
                finishes[choice.index] = choice.finish_reason
    expect(len({chunk.id for chunk in chunks}) == 1, "the id changes within a stream")
    return texts, finishes, chunks


class Server:
    def __init__(self, base_url, model):
        self.url, self.model = base_url.rstrip("/"), model
        settings = {"base_url": f"{self.url}/v1", "api_key": "none", "max_retries": 0,
                    "timeout": TIMEOUT_S}
        self.client = openai.OpenAI(**settings)
        self.async_settings = settings

    def chat(self, **fields):
        return self.client.chat.completions.create(
            **{"model": self.model, "messages": MESSAGES, **GREEDY, **fields})

    def complete(self, **fields):
        return self.client.completions.create(
            **{"model": self.model, "prompt": PROMPT, **GREEDY, **fields})

    def raw(self, path, body=None):
        """(status, content type, text) without the client; a body makes it a POST."""
        request = urllib.request.Request(self.url + path, body,
                                         {"content-type": "application/json"})
        try:
            answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()


# ------------------------------------------------------------------------------------------ models


@check("models.list")
def models_list(server):
    models = server.client.models.list().data
    expect(server.model in [model.id for model in models], "the model is not listed", models)
    expect(all(model.object == "model" for model in models), "object", models)


# -------------------------------------------------------------------------------------------- chat


@check("chat.answer")
def chat_answer(server):
    before = time.time()
    answer = server.chat()
    expect(answer.object == "chat.completion", "object", answer.object)
    expect(answer.id.startswith("chatcmpl-"), "id", answer.id)
    expect(answer.model == server.model, "model", answer.model)
    expect(before - 5 <= answer.created <= time.time() + 5, "created", answer.created)
    (choice,) = answer.choices
    expect(choice.index == 0 and choice.message.role == "assistant", "choice", choice)
    expect(choice.message.content, "no content", choice)
    expect(choice.finish_reason in ("stop", "length"), "finish", choice.finish_reason)
    expect_usage(answer.usage)


@check("chat.stream")
def chat_stream(server):
    whole = server.chat()
    texts, finishes, chunks = read_stream(server.chat(stream=True))
    expect(chunks[0].choices[0].delta.role == "assistant", "first chunk", chunks[0])
    expect({chunk.object for chunk in chunks} == {"chat.completion.chunk"}, "object")
    expect(texts == {0: whole.choices[0].message.content}, "text differs", texts, whole)
    expect(finishes == {0: whole.choices[0].finish_reason}, "finish differs", finishes)
    expect(all(chunk.usage is None for chunk in chunks), "usage that nobody asked for")


@check("chat.stream.usage")
def chat_stream_usage(server):
    whole = server.chat()
    _, _, chunks = read_stream(server.chat(stream=True, stream_options={"include_usage": True}))
    expect(chunks[-1].choices == [], "last chunk has choices", chunks[-1])
    expect_usage(chunks[-1].usage)
    expect(chunks[-1].usage.completion_tokens == whole.usage.completion_tokens, "counts differ")
    expect(chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens, "counts differ")
    expect(all(chunk.usage is None for chunk in chunks[:-1]), "usage before the last chunk")


@check("chat.n")
def chat_n(server):
    answer = server.chat(n=2, seed=11, **SAMPLED)
    expect([choice.index for choice in answer.choices] == [0, 1], "indices", answer.choices)
    expect_usage(answer.usage, choices=2)
    texts, finishes, _ = read_stream(server.chat(n=2, seed=11, stream=True, **SAMPLED))
    whole = {choice.index: choice.message.content for choice in answer.choices}
    expect(texts == whole, "stream and answer differ", texts, whole)
    expect(set(finishes) == {0, 1}, "a choice has no end", finishes)


@check("chat.logprobs")
def chat_logprobs(server):
    answer = server.chat(logprobs=True, top_logprobs=3)
    entries = answer.choices[0].logprobs.content
    expect(0 < len(entries) <= answer.usage.completion_tokens, "count", len(entries))
    for entry in entries:
        expect(entry.logprob <= 0 and len(entry.top_logprobs) == 3, "entry", entry)
        ranked = [top.logprob for top in entry.top_logprobs]
        expect(ranked == sorted(ranked, reverse=True), "not sorted", entry)
        expect(abs(ranked[0] - entry.logprob) < 1e-4, "greedy token is not the best", entry)
    text = b"".join(bytes(entry.bytes) for entry in entries).decode(errors="replace")
    content = answer.choices[0].message.content
    expect(content.strip() in text, "bytes are not the text", text, content)


@check("chat.max_completion_tokens")
def chat_max_completion_tokens(server):
    answer = server.client.chat.completions.create(
        model=server.model, messages=MESSAGES, temperature=0, max_completion_tokens=3)
    expect(answer.usage.completion_tokens <= 3, "too many tokens", answer.usage)
    expect(answer.choices[0].finish_reason == "length", "finish", answer.choices[0])


@check("chat.content_parts")
def chat_content_parts(server):
    parts = [{"type": "text", "text": MESSAGES[0]["content"]}]
    answer = server.chat(messages=[{"role": "user", "content": parts}])
    expect(answer.choices[0].message.content == server.chat().choices[0].message.content,
           "a list of one text part differs from the text")


@check("chat.unicode")
def chat_unicode(server):
    messages = [{"role": "user", "content": TRICKY}]
    whole = server.chat(messages=messages)
    texts, _, _ = read_stream(server.chat(messages=messages, stream=True))
    expect(texts == {0: whole.choices[0].message.content}, "stream and answer differ", texts)


# ------------------------------------------------------------------------------------- completions


@check("completions.answer")
def completions_answer(server):
    answer = server.complete()
    expect(answer.object == "text_completion" and answer.id.startswith("cmpl-"), "head", answer)
    (choice,) = answer.choices
    expect(choice.text and choice.index == 0, "choice", choice)
    expect(choice.finish_reason in ("stop", "length"), "finish", choice)
    expect_usage(answer.usage)


@check("completions.stream")
def completions_stream(server):
    whole = server.complete()
    texts, finishes, chunks = read_stream(
        server.complete(stream=True, stream_options={"include_usage": True}))
    expect(texts == {0: whole.choices[0].text}, "text differs", texts, whole)
    expect(finishes == {0: whole.choices[0].finish_reason}, "finish differs", finishes)
    expect(chunks[-1].usage.total_tokens == whole.usage.total_tokens, "usage", chunks[-1])


@check("completions.echo")
def completions_echo(server):
    whole = server.complete()
    echoed = server.complete(echo=True)
    expect(echoed.choices[0].text == PROMPT + whole.choices[0].text, "echo", echoed.choices[0])
    expect(echoed.usage.completion_tokens == whole.usage.completion_tokens, "usage", echoed.usage)
    texts, _, _ = read_stream(server.complete(echo=True, stream=True))
    expect(texts == {0: echoed.choices[0].text}, "stream and answer differ", texts)


@check("completions.logprobs")
def completions_logprobs(server):
    answer = server.complete(logprobs=2)
    found = answer.choices[0].logprobs
    count = len(found.tokens)
    expect(0 < count <= answer.usage.completion_tokens, "count", count, answer.usage)
    expect(len(found.token_logprobs) == len(found.text_offset) == count, "lengths", found)
    expect(all(value <= 0 for value in found.token_logprobs), "positive", found.token_logprobs)
    expect(all(1 <= len(top) <= 3 for top in found.top_logprobs), "top", found.top_logprobs)
    expect(found.text_offset == sorted(found.text_offset), "offsets", found.text_offset)
    chunks = list(server.complete(logprobs=2, stream=True))
    pieces = [choice.logprobs for chunk in chunks for choice in chunk.choices if choice.logprobs]
    expect([token for piece in pieces for token in piece.tokens] == found.tokens,
           "stream and answer differ")


@check("completions.n")
def completions_n(server):
    answer = server.complete(n=2, seed=5, **SAMPLED)
    expect([choice.index for choice in answer.choices] == [0, 1], "indices", answer.choices)
    first, second = (choice.text for choice in answer.choices)
    expect(first != second, "two samples are equal", first)
    expect_usage(answer.usage, choices=2)


@check("completions.stop")
def completions_stop(server):
    whole = server.complete().choices[0].text
    middle = len(whole) // 2
    stop = whole[middle : middle + 3]
    wanted = whole[: whole.index(stop)]
    answer = server.complete(stop=stop)
    expect(answer.choices[0].text == wanted, "text", answer.choices[0].text, wanted)
    expect(answer.choices[0].finish_reason == "stop", "finish", answer.choices[0])
    texts, finishes, _ = read_stream(server.complete(stop=["\x00never", stop], stream=True))
    expect(texts.get(0, "") == wanted and finishes == {0: "stop"}, "stream", texts, finishes)


@check("completions.seed")
def completions_seed(server):
    first = server.complete(seed=7, **SAMPLED).choices[0].text
    expect(server.complete(seed=7, **SAMPLED).choices[0].text == first, "same seed, other text")
    texts, _, _ = read_stream(server.complete(seed=7, stream=True, **SAMPLED))
    expect(texts == {0: first}, "same seed, other text in the stream", texts, first)
    expect(server.complete(seed=8, **SAMPLED).choices[0].text != first, "other seed, same text")


@check("completions.sampling_fields")
def completions_sampling_fields(server):
    answer = server.complete(
        temperature=0.8, top_p=0.9, presence_penalty=0.5, frequency_penalty=0.5, seed=1,
        logit_bias={"5": -100}, max_tokens=8, user="someone",
        extra_body={"top_k": 20, "min_p": 0.01, "repetition_penalty": 1.1, "min_tokens": 2})
    expect(2 <= answer.usage.completion_tokens <= 8, "tokens", answer.usage)


# ------------------------------------------------------------------------------- load and abortion


@check("concurrent")
def concurrent(server):
    alone = server.complete().choices[0].text

    async def one(client, index):
        fields = {"model": server.model, "prompt": PROMPT, **GREEDY}
        if index % 2 == 0:
            return (await client.completions.create(**fields)).choices[0].text
        stream = await client.completions.create(**fields, stream=True)
        return "".join([c.choices[0].text async for c in stream if c.choices])

    async def all_of_them():
        async with openai.AsyncOpenAI(**server.async_settings) as client:
            return await asyncio.gather(*[one(client, index) for index in range(8)])

    for text in asyncio.run(all_of_them()):
        expect(text == alone, "depends on its neighbours", text, alone)


@check("abort")
def abort(server):
    for _ in range(4):
        stream = server.complete(stream=True, max_tokens=300, extra_body={"ignore_eos": True})
        for count, _ in enumerate(stream):
            if count == 2:
                break
        stream.close()
    begin = time.monotonic()
    expect(server.complete().choices[0].text, "no answer after aborted streams")
    expect(time.monotonic() - begin < 20, "slow after aborted streams", time.monotonic() - begin)


@check("client_timeout")
def client_timeout(server):
    client = server.client.with_options(timeout=openai.Timeout(0.001, connect=5.0))
    try:
        client.completions.create(model=server.model, prompt=PROMPT, temperature=0,
                                  max_tokens=300, extra_body={"ignore_eos": True})
    except openai.APITimeoutError:
        expect(server.complete().choices[0].text, "no answer after a client's timeout")
        return
    raise AssertionError("no timeout")


# ------------------------------------------------------------------------------------------ errors


@check("errors.unknown_model")
def unknown_model(server):
    name = "no-such-model"
    for call in (server.chat, server.complete):
        expect_error(openai.NotFoundError, 404, lambda c=call: c(model=name), names=name)
        expect_error(openai.NotFoundError, 404, lambda c=call: list(c(model=name, stream=True)),
                     names=name)


@check("errors.unsupported_field")
def unsupported_field(server):
    field = "not_a_field"
    for call in (server.chat, server.complete):
        expect_error(openai.BadRequestError, 400, lambda c=call: c(extra_body={field: 1}),
                     param=field, names=field)
    expect_error(openai.BadRequestError, 400, lambda: server.complete(best_of=3),
                 param="best_of", names="best_of")
    json_object = {"type": "json_object"}
    expect_error(openai.BadRequestError, 400, lambda: server.chat(response_format=json_object),
                 param="response_format", names="response_format")


@check("errors.invalid_value")
def invalid_value(server):
    for field, value in (("temperature", -1), ("top_p", 7), ("n", 0), ("max_tokens", -1)):
        expect_error(openai.BadRequestError, 400, lambda f=field, v=value: server.chat(**{f: v}),
                     param=field, names=field)
    expect_error(openai.BadRequestError, 400, lambda: server.chat(messages=[]), param="messages")


@check("errors.context_length")
def context_length(server):
    try:
        server.complete(prompt="word " * 20000)
    except openai.APIStatusError as error:
        expect(error.status_code in (400, 413), "status", error.status_code)
        expect(error.body and error.body.get("message"), "no error object", error.body)
        return
    raise AssertionError("20,000 words were accepted")


@check("errors.not_json")
def not_json(server):
    status, _, text = server.raw("/v1/completions", b'{"model": ')
    expect(status == 400, "status", status)
    expect(json.loads(text)["error"]["message"], "no message", text)


@check("errors.unknown_path")
def unknown_path(server):
    status, _, text = server.raw("/v1/no-such-path")
    expect(status == 404, "status", status)
    expect(json.loads(text)["error"]["message"], "no message", text)


@check("headers")
def headers(server):
    body = {"model": server.model, "prompt": PROMPT, **GREEDY}
    _, kind, _ = server.raw("/v1/completions", json.dumps(body).encode())
    expect(kind.startswith("application/json"), "type of an answer", kind)
    _, kind, text = server.raw("/v1/completions", json.dumps({**body, "stream": True}).encode())
    expect(kind.startswith("text/event-stream"), "type of a stream", kind)
    expect(text.endswith("data: [DONE]\n\n"), "the stream's end", text[-100:])


def run(name, function, server):
    begin = time.monotonic()
    try:
        function(server)
    except Exception as error:  # a check may fail in any way; the next ones still run
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
                 if frame.filename == __file__ and not frame.name.startswith("expect")]
        print(json.dumps({"check": name, "ok": False, "line": lines[-1],
                          "error": f"{type(error).__name__}: {error}"[:2000]}), flush=True)
        return False
    elapsed = round((time.monotonic() - begin) * 1000)
    print(json.dumps({"check": name, "ok": True, "ms": elapsed}), flush=True)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base_url")
    parser.add_argument("model")
    parser.add_argument("--skip", action="append", default=[], metavar="PREFIX")
    parser.add_argument("--only", default="", metavar="PREFIX")
    options = parser.parse_args()
    server = Server(options.base_url, options.model)
    chosen = [(name, function) for name, function in CHECKS
              if name.startswith(options.only) and not name.startswith(tuple(options.skip))]
    if not chosen:
        sys.exit("no check has such a name")
    passed = [run(name, function, server) for name, function in chosen]
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()

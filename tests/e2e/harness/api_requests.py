"""Requests drawn from a seed, and what is right about them: OpenAI's description of the two
endpoints with the differences that docs/api.md states."""

import copy
import json

from . import openapi, prompts

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
TOKENS_MAX = 300  # with the short prompts here, always within the context
CHOICES_MAX = 16

_LIMITS = {"max_tokens", "max_completion_tokens"}
_TEXT = {"type": "string", "maxLength": 200}
_STOP = {"type": "string", "minLength": 1, "maxLength": 1024}
_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0,
                                   "maximum": prompts.VOCABULARY - 1}}
_PROMPT = {"anyOf": [_TEXT, {**_IDS, "minItems": 1, "maxItems": 100}]}
_TOKEN_COUNT = {"type": "integer", "minimum": 1, "maximum": TOKENS_MAX}
_ONLY_NULL = {"type": "null"}
_NONE_OR_AUTO = {"enum": ["none", "auto"]}


def _common(model):
    return {
        "model": {"enum": [model, ""]},
        "n": {"type": "integer", "minimum": 1, "maximum": CHOICES_MAX},
        "max_tokens": _TOKEN_COUNT, "max_completion_tokens": _TOKEN_COUNT,
        "seed": {"type": "integer", "minimum": -2**63, "maximum": 2**63 - 1},
        "stop": {"anyOf": [_STOP, {"type": "array", "maxItems": 16, "items": _STOP}]},
        "logit_bias": {"type": "object", "maxProperties": 1024,
                       "propertyNames": {"enum": [str(i) for i in range(prompts.VOCABULARY)]},
                       "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}},
        "stream_options": {"type": "object", "additionalProperties": False,
                           "properties": {name: {"type": ["boolean", "null"]} for name in
                                          ("include_usage", "include_obfuscation",
                                           "continuous_usage_stats")}},
        # beside OpenAI's
        "top_k": {"type": "integer", "minimum": -1, "maximum": 2**31 - 1},
        "min_p": {"type": "number", "minimum": 0, "maximum": 1},
        "repetition_penalty": {"type": "number", "minimum": 0.01, "maximum": 100},
        "min_tokens": {"type": "integer", "minimum": 0, "maximum": TOKENS_MAX},
        "ignore_eos": {"type": "boolean"},
        "stop_token_ids": {**_IDS, "maxItems": 16},
        "skip_special_tokens": {"const": True},
        # labels
        "user": {"type": "string"}, "safety_identifier": {"type": "string"},
        "prompt_cache_key": {"type": "string"}, "prompt_cache_retention": {"enum": ["in_memory", "24h"]},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        # only what changes nothing
        "service_tier": {"enum": ["auto", "default"]}, "store": {"const": False},
        "response_format": {"type": "object", "required": ["type"],
                            "properties": {"type": {"const": "text"}}},
    }


def _message_schema():
    """OpenAI's, with what docs/api.md says beside it: text alone, and content unless there are calls."""
    kinds = {}
    for role in ("Developer", "System", "User", "Assistant", "Tool", "Function"):
        kind = kinds[role] = openapi.schema(f"ChatCompletionRequest{role}Message")
        kind["properties"].setdefault("name", {"type": "string"})
    part = openapi.schema("ChatCompletionRequestMessageContentPartText")
    part["properties"]["text"] = _TEXT
    text = {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "items": part}]}
    for role in set(kinds) - {"Function"}:
        kinds[role]["properties"]["content"] = text
    assistant = kinds["Assistant"]
    assistant["properties"]["content"] = {"anyOf": [text, _ONLY_NULL]}
    assistant["properties"]["audio"] = _ONLY_NULL
    assistant["anyOf"] = [{"required": ["content"], "properties": {"content": text}},
                          {"required": ["tool_calls"]}, {"required": ["function_call"]}]
    return {"oneOf": list(kinds.values())}


def _chat(model):
    return {**_common(model),
            "messages": {"type": "array", "minItems": 1, "maxItems": 4096, "items": _message_schema()},
            "logprobs": {"type": "boolean"},
            "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
            "add_generation_prompt": {"type": "boolean"},
            "chat_template_kwargs": {"type": "object"},
            "parallel_tool_calls": {"type": "boolean"},
            "tools": {"const": []}, "functions": {"const": []},
            "tool_choice": _NONE_OR_AUTO, "function_call": _NONE_OR_AUTO,
            "modalities": {"type": "array", "items": {"const": "text"}},
            "audio": _ONLY_NULL, "prediction": _ONLY_NULL, "reasoning_effort": _ONLY_NULL,
            "verbosity": _ONLY_NULL, "web_search_options": _ONLY_NULL}


def _completion(model):
    return {**_common(model),
            "prompt": {"anyOf": [_PROMPT, {"type": "array", "minItems": 1, "maxItems": 16,
                                           "items": _PROMPT}]},
            "logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
            "best_of": {"const": 1}, "suffix": _ONLY_NULL}


# Fields of OpenAI's that are taken as they stand in its description.
_AS_OPENAI = {"temperature", "top_p", "presence_penalty", "frequency_penalty", "stream", "echo"}


def _openai_properties(path):
    if path == COMPLETION:
        return openapi.schema("CreateCompletionRequest")["properties"]
    own = openapi.schema("CreateChatCompletionRequest")["allOf"][1]["properties"]
    return {**openapi.schema("ModelResponseProperties")["properties"], **own}


def _without_nulls(value):
    """In a message null is as good as absent; but of `content` OpenAI says who may have it."""
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: _without_nulls(inner) for name, inner in value.items()
            if inner is not None or name == "content"}


class Endpoint:
    def __init__(self, path, model):
        self.path, self.model = path, model
        self.needed = "messages" if path == CHAT else "prompt"
        openai = _openai_properties(path)
        ours = (_chat if path == CHAT else _completion)(model)
        self.fields = {**{name: openai[name] for name in sorted(_AS_OPENAI & set(openai))}, **ours}
        self.refused = sorted(set(openai) - set(self.fields))  # of OpenAI's, unknown here
        self._validators = {name: openapi.validator(schema) for name, schema in self.fields.items()}

    def culprits(self, body):
        """The fields that are to blame if this request is refused; empty: it must be served."""
        given = {name: value for name, value in body.items() if value is not None}
        if "messages" in given:
            given["messages"] = _without_nulls(given["messages"])
        wrong = {name for name in body if name not in self.fields}
        wrong |= {name for name, value in given.items()
                  if name in self.fields and not self._validators[name].is_valid(value)}
        if self.needed not in given:
            wrong.add(self.needed)
        if wrong & _LIMITS:  # too much for the context, or not what the other says
            wrong |= _LIMITS & set(given)
        return wrong | self._quarrels({k: v for k, v in given.items() if k not in wrong})

    def _quarrels(self, given):
        """Of fields that are right by themselves those that do not go together."""
        wrong = set()
        if "stream_options" in given and not given.get("stream"):
            wrong.add("stream_options")
        limits = [given[name] for name in sorted(_LIMITS) if name in given]
        if len(set(limits)) > 1:
            wrong.add("max_completion_tokens")
        if self.path == COMPLETION:
            limits = limits or [16]
        if limits and given.get("min_tokens", 0) > limits[0]:
            wrong.add("min_tokens")
        if given.get("top_logprobs", 0) > 0 and not given.get("logprobs"):
            wrong.add("top_logprobs")
        if self.choices(given) > CHOICES_MAX:
            wrong.add("n")
        return wrong

    def choices(self, body):
        prompt = body.get("prompt")
        several = isinstance(prompt, list) and not isinstance(prompt[0], (int, float))
        return int(body.get("n") or 1) * (len(prompt) if several else 1)


_NUMBERS = [0, 1, 2, -1, 3, 5, 16, 17, 20, 21, 64, 100, 512, 2**31, 2**63, 2**64, -2**63 - 1, 10**30,
            0.0, 0.5, 1.0, 1.5, 2.0, 2.1, -2.5, 1e-9, 1e308, -0.0]
_STRINGS = ["", "x", "1", "true", "null", "text", "auto", "none", "user", "\x00", "é🎉", "\ud7ff",
            "a\"b\\", "word " * 30, "y" * 1025]


def anything(rng, depth=2):
    """Any JSON value."""
    kind = rng.randrange(7 if depth else 5)
    if kind < 2:
        return rng.choice(_NUMBERS)
    if kind == 2:
        return rng.choice(_STRINGS)
    if kind < 5:
        return rng.choice([True, False, None, 7])
    if kind == 5:
        return [anything(rng, depth - 1) for _ in range(rng.randrange(3))]
    keys = ["x", "type", "text", "role", "content", "name", "tool_calls", "include_usage", "5", "600"]
    return {rng.choice(keys): anything(rng, depth - 1) for _ in range(rng.randrange(3))}


def _call(rng):
    call = {"id": rng.choice(_STRINGS)}
    if rng.random() < 0.5:
        return {**call, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return {**call, "type": "custom", "custom": {"name": "f", "input": rng.choice(_STRINGS)}}


def _message(rng):
    role = rng.choice(["developer", "system", "user", "user", "assistant", "tool", "function"])
    message = {"role": role, "content": prompts.text(rng, rng.randint(1, 8))}
    if role != "function" and rng.random() < 0.3:
        message["content"] = [{"type": "text", "text": rng.choice(_STRINGS)}
                              for _ in range(rng.randint(1, 2))]
    if role == "tool":
        message["tool_call_id"] = rng.choice(_STRINGS)
    if role == "function" or rng.random() < 0.2:
        message["name"] = rng.choice([*_STRINGS, *([None] if role != "function" else [])])
    if role == "assistant" and rng.random() < 0.5:
        if rng.random() < 0.5:
            message["content"] = None
        message["tool_calls"] = [_call(rng) for _ in range(rng.randrange(3))]
    return message


def _prompt(rng):
    one = (lambda: prompts.ids(rng, rng.randint(1, 20)),
           lambda: prompts.text(rng, rng.randint(1, 10)), lambda: rng.choice(_STRINGS))
    if rng.random() < 0.3:
        return [rng.choice(one)() for _ in range(rng.randint(1, 3))]
    return rng.choice(one)()


_DRAWN = {
    "messages": lambda rng: [_message(rng) for _ in range(rng.randint(1, 3))],
    "prompt": _prompt,
    "n": lambda rng: rng.choice([1, 1, 2, 3]),
    "max_tokens": lambda rng: rng.randint(1, 8),
    "max_completion_tokens": lambda rng: rng.randint(1, 8),
    "min_tokens": lambda rng: rng.randint(0, 2),
    "temperature": lambda rng: rng.choice([0, 1, 0.7, 2, 1.3]),
    "top_p": lambda rng: rng.choice([0, 1, 0.5]),
    "presence_penalty": lambda rng: rng.choice([-2, 2, 0.5]),
    "frequency_penalty": lambda rng: rng.choice([-2, 2, 0.5]),
    "top_k": lambda rng: rng.choice([-1, 0, 1, 40]),
    "min_p": lambda rng: rng.choice([0, 0.1, 1]),
    "repetition_penalty": lambda rng: rng.choice([0.01, 1, 1.2, 100]),
    "seed": lambda rng: rng.choice([0, -1, 2**63 - 1, -2**63, rng.randrange(2**40)]),
    "stop": lambda rng: rng.choice(["x", ["the", "a"], ["\n"], []]),
    "stop_token_ids": lambda rng: [rng.randrange(3, prompts.VOCABULARY) for _ in range(3)],
    "logit_bias": lambda rng: {str(rng.randrange(3, prompts.VOCABULARY)):
                               rng.choice([-100, 1, 0.5, 100]) for _ in range(rng.randint(0, 4))},
    "stream_options": lambda rng: {name: rng.random() < 0.6 for name in
                                   ("include_usage", "continuous_usage_stats")},
    "prompt_cache_retention": lambda rng: rng.choice(["in_memory", "24h"]),
    "metadata": lambda rng: {"trace": rng.choice(_STRINGS)},
    "chat_template_kwargs": lambda rng: {"x": anything(rng)},
    "modalities": lambda rng: ["text"],
    "response_format": lambda rng: {"type": "text"},
    "tool_choice": lambda rng: rng.choice(["none", "auto"]),
    "function_call": lambda rng: rng.choice(["none", "auto"]),
    "service_tier": lambda rng: rng.choice(["auto", "default"]),
    "tools": lambda rng: [], "functions": lambda rng: [], "store": lambda rng: False,
    "skip_special_tokens": lambda rng: True, "best_of": lambda rng: 1,
}


def _served_value(rng, endpoint, name):
    if name in _DRAWN:
        return _DRAWN[name](rng)
    if name == "model":
        return endpoint.model
    if name == "logprobs":
        return rng.choice([True, False]) if endpoint.path == CHAT else rng.choice([0, 1, 5, 20])
    if name == "top_logprobs":
        return rng.choice([0, 1, 5, 20])
    kinds = endpoint.fields[name]
    if "boolean" in json.dumps(kinds):
        return rng.random() < 0.5
    return None if kinds == _ONLY_NULL else rng.choice(_STRINGS)


def valid(rng, endpoint):
    """A request that must be served."""
    while True:
        body = {endpoint.needed: _served_value(rng, endpoint, endpoint.needed),
                rng.choice(["max_tokens", "max_completion_tokens"]): rng.randint(1, 8)}
        if rng.random() < 0.5:
            body["stream"] = True
        for name in rng.sample(sorted(endpoint.fields), rng.randint(0, 7)):
            body.setdefault(name, _served_value(rng, endpoint, name))
        if not endpoint.culprits(body):
            return body


def _spoil(rng, value):
    """Changes something in a list or an object, or in one of those that it holds."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = rng.choice(keys)
    if isinstance(value[key], (dict, list)) and rng.random() < 0.7:
        _spoil(rng, value[key])
    elif isinstance(value, dict) and rng.random() < 0.3:
        del value[key]
    else:
        value[key] = anything(rng)


def invalid(rng, endpoint):
    """A request that must be refused; nearly right."""
    while True:
        body = copy.deepcopy(valid(rng, endpoint))
        inner = [value for value in body.values() if isinstance(value, (dict, list))]
        if inner and rng.random() < 0.4:
            _spoil(rng, rng.choice(inner))
            if endpoint.culprits(body):
                return body
        for _ in range(rng.choice([1, 1, 1, 2])):
            name = rng.choice([rng.choice(sorted(endpoint.fields)),
                               *rng.sample(endpoint.refused, min(1, len(endpoint.refused))),
                               "unheard_of"])
            body[name] = anything(rng)
            if rng.random() < 0.05:
                body.pop(endpoint.needed, None)
        if endpoint.culprits(body):
            return body

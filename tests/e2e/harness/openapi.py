"""OpenAI's API description as validators of what the gateway answers and is asked."""

import copy
import functools
import json

import jsonschema

from . import suites


def _nullable(node):
    """`nullable` is OpenAPI 3.0's word, which the file still uses; JSON Schema has a type for it."""
    if isinstance(node, list):
        return [_nullable(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _nullable(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if node.get("nullable") is True else plain


def _closed(node):
    """Answers hold nothing that the description does not name: a misspelt field is found, too."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    # A field may have that name as well; then it is a schema, which is a dict.
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


@functools.cache
def _components():
    return _nullable(suites.openapi()["components"])


@functools.cache
def _closed_components():
    return _closed(_components())


def schema(name):
    """A copy of one schema, to be adapted."""
    return copy.deepcopy(_components()["schemas"][name])


def validator(adapted):
    """Of a schema that may refer to the file's others."""
    return jsonschema.Draft202012Validator({**adapted, "components": _components()})


def _answer_validator(adapted):
    return jsonschema.Draft202012Validator({**adapted, "components": _closed_components()})


@functools.cache
def answer_validator(name):
    return _answer_validator({"$ref": f"#/components/schemas/{name}"})


def _or_null(properties, name):
    properties[name] = {"anyOf": [properties[name], {"type": "null"}]}


@functools.cache
def completion_chunk_validator():
    """The file has one schema for whole answers and chunks of /v1/completions. In its chunks, and in
    OpenAI's own, there is no reason to finish until the end, and `usage` is null until the last."""
    adapted = copy.deepcopy(_closed_components()["schemas"]["CreateCompletionResponse"])
    _or_null(adapted["properties"], "usage")
    _or_null(adapted["properties"]["choices"]["items"]["properties"], "finish_reason")
    return _answer_validator(adapted)


def _object(pairs):
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), f"a name occurs twice: {names}"
    return dict(pairs)


def parse(text):
    """JSON whose objects have each name once."""
    return json.loads(text, object_pairs_hook=_object)


def without_first_of_echo(answer):
    """An answer with `echo`, less its first token: nothing comes before it, so its log-probability is
    null, here as at OpenAI, although the file says number."""
    answer = copy.deepcopy(answer)
    for choice in answer["choices"]:
        for name in ("token_logprobs", "top_logprobs"):
            values = (choice["logprobs"] or {}).get(name)
            if values and values[0] is None:
                del values[0]
    return answer


def check(value, against):
    problem = next(against.iter_errors(value), None)
    assert problem is None, f"{problem.json_path}: {problem.message}\n{value}"


def check_error(value):
    check(value, answer_validator("ErrorResponse"))
    assert set(value) == {"error"} and value["error"]["message"], value
    return value["error"]

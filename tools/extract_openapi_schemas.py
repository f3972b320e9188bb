#!/usr/bin/env python3
"""The part of OpenAI's API description that the end-to-end tests need.

  tools/extract_openapi_schemas.py openapi.json[.gz] > tests/data/suites/openai_openapi.json

The source is github.com/openai/openai-openapi, as JSON. Kept are the schemas of what the gateway is
asked and answers and all that these refer to, without what only documents them.
"""

import gzip
import json
import sys

ROOTS = ("CreateChatCompletionRequest", "CreateCompletionRequest", "ModelResponseProperties",
         "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse",
         "CreateCompletionResponse", "ListModelsResponse", "Model", "ErrorResponse")
PREFIX = "#/components/schemas/"
DOCUMENTATION = {"title", "description", "example", "examples", "default", "deprecated",
                 "discriminator"}


def without_documentation(node):
    """A schema, or a list of some."""
    if isinstance(node, list):
        return [without_documentation(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items()
            if key not in DOCUMENTATION and not key.startswith("x-")}
    return {key: {name: without_documentation(schema) for name, schema in value.items()}
            if key == "properties" else without_documentation(value)
            for key, value in kept.items()}


def references(node):
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    elif isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].removeprefix(PREFIX)
        for value in node.values():
            yield from references(value)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    opener = gzip.open if sys.argv[1].endswith(".gz") else open
    with opener(sys.argv[1], "rt", encoding="utf-8") as file:
        document = json.load(file)
    schemas = document["components"]["schemas"]
    kept, open_ends = {}, list(ROOTS)
    while open_ends:
        name = open_ends.pop()
        if name not in kept:
            kept[name] = without_documentation(schemas[name])
            open_ends += references(kept[name])
    info = {key: document["info"][key] for key in ("title", "version", "license")}
    json.dump({"openapi": document["openapi"], "info": info,
               "components": {"schemas": dict(sorted(kept.items()))}}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Mutates valid requests and sends them: each must be answered, by no 5xx, and the server must live.

  tests/server/fuzz_api.py BALEEN MODEL [--requests 10000] [--seed 1]

Starts the program with a copy of MODEL whose chat template is known. What is sent is a valid request
with some values replaced, removed, doubled, renamed or nested, or its bytes damaged. The seed
repeats a run; a request that was answered wrongly is printed. With the program of the dev preset
(`ninja -C build/dev baleen`), AddressSanitizer and UndefinedBehaviorSanitizer end the server at the
first fault, and what they say is printed, leaks at the end included. Standard library only.
"""
import argparse
import collections
import copy
import http.client
import io
import json
import pathlib
import random
import socket
import sys
import tempfile
import urllib.parse

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "strict": False,
                                         "parameters": {"type": "object", "properties": {
                                             "a": {"type": "string", "maxLength": 3}}}}}
SCHEMA = {"type": "object", "properties": {
    "a": {"type": "string", "pattern": "^[a-z]{1,3}$"}, "b": {"$ref": "#/$defs/n"},
    "c": {"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "integer"},
                                       "minItems": 1, "maxItems": 2}]},
    "d": {"enum": ["x", 1, None]}, "e": {"type": "number", "minimum": 0, "exclusiveMaximum": 9.5}},
    "required": ["a"], "additionalProperties": False, "$defs": {"n": {"type": "boolean"}}}
VALID = [
    ("/v1/chat/completions", {"messages": [{"role": "system", "content": "x"}, *HELLO],
                              "max_tokens": 2, "temperature": 1.0, "top_p": 0.9, "n": 1,
                              "stop": ["a", "b"], "seed": 1, "logprobs": True, "top_logprobs": 2,
                              "logit_bias": {"5": 1}, "presence_penalty": 0.1,
                              "stream_options": {"include_usage": True}, "stream": False}),
    ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 2, "response_format": {
        "type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}}}),
    ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 2, "tools": [TOOL],
                              "tool_choice": {"type": "function", "function": {"name": "f"}},
                              "parallel_tool_calls": False}),
    ("/v1/chat/completions", {"max_tokens": 2, "tools": [TOOL], "thinking": {"type": "disabled"},
                              "reasoning_effort": "low", "chat_template_kwargs": {"thinking": True},
                              "messages": [*HELLO, {"role": "assistant", "content": None,
                                                    "tool_calls": [{"id": "c", "type": "function",
                                                                    "function": {"name": "f",
                                                                                 "arguments": "{}"}}]},
                                           {"role": "tool", "tool_call_id": "c", "content": "1"}]}),
    ("/v1/chat/completions", {"messages": HELLO, "max_tokens": 2, "stream": True,
                              "response_format": {"type": "json_object"}}),
    ("/v1/completions", {"prompt": "Once", "max_tokens": 2, "echo": True, "logprobs": 1, "n": 2,
                         "best_of": 2, "stop": "x", "min_p": 0.1, "top_k": 5, "user_id": "u",
                         "priority": "batch", "min_tokens": 1, "ignore_eos": True}),
    ("/v1/completions", {"prompt": [[1, 20, 30], [5]], "max_tokens": 1, "stream": True,
                         "stop_token_ids": [3], "return_token_ids": True, "cache_salt": "s"}),
    ("/tokenize", {"prompt": "Hello", "add_special_tokens": True, "return_token_strs": True}),
    ("/tokenize", {"messages": HELLO}),
    ("/detokenize", {"tokens": [20, 30, 40]}),
    ("/v1/completions", {"prompt": "Once upon", "suffix": "The end.", "max_tokens": 2, "seed": 1}),
    ("/infill", {"input_prefix": "def f(", "input_suffix": "return 1", "prompt": "a", "n_predict": 2,
                 "input_extra": [{"filename": "a.py", "text": "import os"}], "n_indent": 2,
                 "t_max_predict_ms": 50, "response_fields": ["content", "timings/prompt_n"],
                 "n_cmpl": 2, "stream": True}),
    ("/score", {"query": "Once", "labels": [" upon", " a little time"], "items": [" in", [20, 30]],
                "item_first": False, "apply_softmax": True, "length_normalize": "tokens"}),
    ("/generative_scoring", {"query": [20, 30], "label_token_ids": [40, 50]}),
    ("/v1/experts", {"tokens": [20, 30, 40], "from": 1}),
    ("/invocations", {"messages": HELLO, "max_tokens": 2}),
]
ODD = [None, True, False, 0, 1, -1, 2, 1.5, -0.0, 1e308, 2**63, -2**63, 2**64, 10**30, "", "x",
       "none", "auto", "required", "{}", "\u0000", "\ud7ff", "é" * 50, "a" * 5000, "<｜User｜>", [],
       {}, [[]], [None], {"": None}, {"type": "object"}, {"$ref": "#"}, {"type": "nonsense"},
       {"not": {}}, {"pattern": "(a+)+$", "type": "string"}, {"pattern": "["},
       {"type": "array", "minItems": 10**9}, {"type": "string", "minLength": 10**12},
       {"type": "string", "pattern": "^(a{1,4000}){1,4000}$"},
       {"anyOf": [{"$ref": "#"}]}, {"allOf": [{"$ref": "#/x"}]}, {"enum": []}, {"multipleOf": 1e-300},
       {"minimum": 1e300}, {"maximum": "3"}, {"required": [""]}, {"properties": {"": {}}}, [1, 2, 3]]


def places(value, path=()):
    """Every place of a document."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def mutate(dice, document):
    document = copy.deepcopy(document)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        path = dice.choice(list(places(document)) or [()])
        if not path:
            continue
        parent = document
        for step in path[:-1]:
            parent = parent[step]
        key, kind = path[-1], dice.randrange(7)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, list):
            parent.extend([copy.deepcopy(parent[key])] * dice.choice((1, 3, 40)))
        elif kind == 2 and isinstance(parent, dict):
            parent[dice.choice(("x", "", "$ref", "items", "type", key + "s"))] = parent.pop(key)
        elif kind == 3:
            for _ in range(dice.choice((1, 3, 70))):
                parent[key] = [parent[key]] if dice.random() < 0.5 else {"a": parent[key]}
        elif kind == 4:
            other = dice.choice(list(places(document)))
            value = document
            for step in other:
                value = value[step]
            parent[key] = copy.deepcopy(value)
        else:
            parent[key] = copy.deepcopy(dice.choice(ODD))
    return document


def encode(dice, document):
    body = json.dumps(document, ensure_ascii=dice.random() < 0.5).encode("utf-8", "replace")
    if dice.random() < 0.15:
        damaged = bytearray(body)
        for _ in range(dice.choice((1, 2, 10))):
            at = dice.randrange(len(damaged) + 1)
            what = dice.randrange(3)
            if what == 0:
                damaged[at:at] = bytes([dice.randrange(256)])
            elif what == 1:
                del damaged[at:at + dice.choice((1, 20))]
            elif at < len(damaged):
                damaged[at] = dice.randrange(256)
        body = bytes(damaged)
    return body


def send(address, path, body):
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    # Needs no package, but shares how a server is started.
    sys.modules.setdefault("openai", type(sys)("openai"))
    import harness  # pylint: disable=import-outside-toplevel
    dice = random.Random(arguments.seed)
    statuses, wrong = collections.Counter(), 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        said = io.StringIO()
        server = harness.Server(arguments.program, harness.chat_model(arguments.model, folder),
                                "--no-ledger", "--force-fim", log=said)
        address = urllib.parse.urlparse(server.url).netloc
        for path, document in VALID:
            status, answer = send(address, path, json.dumps(document).encode())
            assert status == 200, (path, document, answer)
        for number in range(arguments.requests):
            path, document = dice.choice(VALID)
            body = encode(dice, mutate(dice, document))
            try:
                status, answer = send(address, path, body)
                failed = status >= 500 or b'"server_error"' in answer
            except (http.client.HTTPException, socket.timeout, ConnectionError) as error:
                status, answer, failed = type(error).__name__, b"", True
            statuses[status] += 1
            if failed:
                wrong += 1
                print(f"request {number}: {path} {body[:2000]!r}\n  -> {status} {answer[:300]!r}",
                      flush=True)
            if server.process.poll() is not None:
                server.reader.join(30)
                print(f"request {number}: the server has died ({server.process.returncode}) after "
                      f"{path} {body[:2000]!r}\n{said.getvalue()}")
                return 1
        try:
            server.stop()
        except AssertionError as error:
            print(f"{error}; it said\n{said.getvalue()}")
            return 1
    print(f"{arguments.requests} requests, seed {arguments.seed}: "
          f"{dict(sorted(statuses.items(), key=str))}; {wrong} answered wrongly")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

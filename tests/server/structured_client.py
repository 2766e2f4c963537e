#!/usr/bin/env python3
"""Structured answers and tools through the packages that people use: openai, pydantic, LangChain.

  tests/server/structured_client.py BALEEN MODEL [--rounds N]

Starts the program on free ports, with copies of MODEL that have chat templates that are known: one
with marks of its own for calls, and one without. At temperature 1 a small model says anything that
it may, so what comes back shows what it may. Needs tests/server/requirements.txt; exits 77 if that
is not installed. Prints a line a check in GoogleTest's manner.
"""
import argparse
import json
import pathlib
import sys
import tempfile

try:
    import jsonschema
    import openai
    import pydantic
    from langchain_openai import ChatOpenAI
except ImportError as missing:
    print(f"{missing.name} is not installed (tests/server/requirements.txt)")
    sys.exit(77)

import schemas
from harness import Server, chat_model, name, run_checks

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {"type": "function", "function": {
    "name": "weather", "description": "of a town", "parameters": {
        "type": "object", "properties": {"town": {"type": "string", "maxLength": 8},
                                         "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["town", "days"]}}}
NOW = {"type": "function", "function": {"name": "now"}}


class City(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=10)
    large: bool


def create(client, **arguments):
    return client.chat.completions.create(model=name(client), messages=HELLO, **arguments)


def json_schema(schema, strict=True):
    return {"type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": strict}}


def check_schemas(clients, rounds):
    """Every answer that ends by itself is valid; most end."""
    ended = cut = 0
    client = clients["plain"]
    for index, schema in enumerate(schemas.SCHEMAS):
        validator = jsonschema.Draft202012Validator(
            schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        for seed in range(rounds):
            answer = create(client, temperature=1, top_p=1, seed=seed,
                            response_format=json_schema(schema))
            choice = answer.choices[0]
            if choice.finish_reason == "length":
                cut += 1
                continue
            ended += 1
            try:
                validator.validate(json.loads(choice.message.content))
            except Exception as error:
                raise AssertionError(f"schema {index}: {choice.message.content!r}") from error
    print(f"{ended} answers ended and were valid, {cut} were cut by the context")
    assert ended >= 9 * cut and ended >= 40, (ended, cut)


def check_validator_sees_faults(clients):
    """What the check above rests on: without the form, answers are not valid."""
    content = create(clients["plain"], temperature=1, max_tokens=30).choices[0].message.content
    for schema in (schemas.SCHEMAS[0], schemas.SCHEMAS[10]):
        try:
            jsonschema.validate(json.loads(content), schema)
        except (json.JSONDecodeError, jsonschema.ValidationError):
            continue
        raise AssertionError(f"valid by chance: {content!r}")


def check_parse(clients):
    for client in clients.values():
        answer = client.chat.completions.parse(model=name(client), messages=HELLO, temperature=1,
                                               seed=3, response_format=City)
        assert isinstance(answer.choices[0].message.parsed, City)
        assert answer.choices[0].finish_reason == "stop"


def check_json_object(clients):
    for seed in range(20):
        choice = create(clients["plain"], temperature=1, seed=seed, max_tokens=60,
                        response_format={"type": "json_object"}).choices[0]
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)
        else:
            assert choice.finish_reason == "length"
            assert choice.message.content.lstrip().startswith("{")


def check_length(clients):
    schema = {"type": "string", "minLength": 2000}
    choice = create(clients["plain"], max_tokens=20,
                    response_format=json_schema(schema)).choices[0]
    assert choice.finish_reason == "length"


def check_strict(clients):
    schema = {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 3,
              "uniqueItems": True}
    try:
        create(clients["plain"], response_format=json_schema(schema))
        raise AssertionError("what cannot be kept was accepted under strict")
    except openai.BadRequestError as error:
        assert "uniqueItems" in str(error) and error.param == "response_format.json_schema.schema"
    assert create(clients["plain"], response_format=json_schema(schema, False)).choices[0]


def check_reasoning_comes_first(clients):
    """A form starts behind the reasoning: the tiny model never ends it."""
    choice = create(clients["marked"], max_tokens=20, response_format=json_schema({"const": 1}),
                    extra_body={"thinking": {"type": "enabled"}}).choices[0]
    assert choice.finish_reason == "length" and not choice.message.content
    assert choice.message.reasoning_content
    choice = create(clients["marked"], response_format=json_schema({"const": 1}),
                    reasoning_effort="none").choices[0]
    assert json.loads(choice.message.content) == 1 and choice.finish_reason == "stop"


def accumulate(chunks):
    """What a stream adds up to, as clients do it."""
    content, calls, reason = "", [], None
    for chunk in chunks:
        for choice in chunk.choices:
            content += choice.delta.content or ""
            reason = choice.finish_reason or reason
            for part in choice.delta.tool_calls or []:
                if part.index == len(calls):
                    assert part.id and part.type == "function" and part.function.name
                    calls.append({"name": part.function.name, "arguments": ""})
                calls[part.index]["arguments"] += part.function.arguments or ""
    return content, calls, reason


def check_tools(clients):
    validator = jsonschema.Draft202012Validator(WEATHER["function"]["parameters"])
    for kind in ("plain", "fenced", "kimi"):
        client = clients[kind]
        for choice, reason in ((
                "required", "tool_calls"),
                ({"type": "function", "function": {"name": "weather"}}, "stop")):
            for temperature in (0, 1):
                arguments = dict(tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False,
                                 temperature=temperature, seed=5)
                answer = create(client, **arguments).choices[0]
                call, = answer.message.tool_calls
                assert call.function.name == "weather" and call.id
                validator.validate(json.loads(call.function.arguments))
                assert answer.finish_reason == reason, answer.finish_reason
                assert answer.message.content is None
                whole = (answer.message.content or "",
                         [{"name": c.function.name, "arguments": c.function.arguments}
                          for c in answer.message.tool_calls], answer.finish_reason)
                assert accumulate(create(client, stream=True, **arguments)) == whole


def check_tool_choice(clients):
    for client in clients.values():
        answer = create(client, tools=[NOW], tool_choice="none", max_tokens=20,
                        temperature=0).choices[0]
        assert not answer.message.tool_calls and answer.message.content
        auto = dict(tools=[NOW], max_tokens=20, temperature=0)
        answer = create(client, **auto).choices[0]
        whole = (answer.message.content or "",
                 [{"name": c.function.name, "arguments": c.function.arguments}
                  for c in answer.message.tool_calls or []], answer.finish_reason)
        assert accumulate(create(client, stream=True, **auto)) == whole
        for wrong in ({"tool_choice": "sometimes"}, {"tools": [{"type": "function"}]}):
            try:
                create(client, **{"tools": [NOW], **wrong})
                raise AssertionError(f"accepted: {wrong}")
            except openai.BadRequestError as error:
                assert error.param


def check_tool_history(clients):
    for client in clients.values():
        answer = client.chat.completions.create(
            model=name(client), max_tokens=5, tools=[NOW], messages=[
                {"role": "user", "content": "Time?"},
                {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "call_1", "type": "function",
                     "function": {"name": "now", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "noon"}])
        assert answer.choices[0].message


def check_stream_helper(clients):
    with clients["marked"].chat.completions.stream(
            model=name(clients["marked"]), messages=HELLO, temperature=0,
            response_format=City) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    whole = clients["marked"].chat.completions.parse(
        model=name(clients["marked"]), messages=HELLO, temperature=0, response_format=City)
    assert final.choices[0].message.content == whole.choices[0].message.content
    assert isinstance(final.choices[0].message.parsed, City)


def check_langchain(clients):
    for kind in ("plain", "kimi"):
        client = clients[kind]
        model = ChatOpenAI(base_url=str(client.base_url), api_key="none", model=name(client),
                           temperature=1, seed=1, max_retries=0)
        assert isinstance(model.with_structured_output(City).invoke("Hello"), City)
        tools = model.bind_tools([WEATHER], tool_choice="weather")
        call, = tools.invoke("Hello").tool_calls
        assert call["name"] == "weather" and set(call["args"]) == {"town", "days"}
        merged = None
        for chunk in tools.stream("Hello"):
            merged = chunk if merged is None else merged + chunk
        assert merged.tool_calls[0]["name"] == "weather"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3, help="answers to each schema")
    parser.add_argument("--only", default="", help="checks whose names contain this")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        servers = {}
        for kind, template in (("marked", "deepseek-v3.1-rev2"), ("plain", "deepseek-v2"),
                               ("fenced", "deepseek-v3"), ("kimi", "kimi-k2-instruct")):
            folder = pathlib.Path(scratch) / kind
            folder.mkdir()
            servers[kind] = Server(arguments.program, chat_model(arguments.model, folder, template),
                                   "--no-ledger", "--exact-reuse")
        clients = {kind: server.client() for kind, server in servers.items()}
        # V3.1's text on tools leaves the small model's context no room for a call.
        checks = [(check_schemas, clients, arguments.rounds)]
        checks += [(check, clients) for check in (
            check_validator_sees_faults, check_parse, check_json_object, check_length, check_strict,
            check_reasoning_comes_first, check_tools, check_tool_choice, check_tool_history,
            check_stream_helper, check_langchain)]
        checks += [(lambda s: s.stop(), server) for server in servers.values()]
        return run_checks("StructuredClient", [
            check for check in checks
            if arguments.only in check[0].__name__ or check[0].__name__ == "<lambda>"])


if __name__ == "__main__":
    sys.exit(main())

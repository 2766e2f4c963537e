#!/usr/bin/env python3
"""Talks to `baleen serve` with the real `openai` package: what its users will do.

  tests/server/openai_client.py BALEEN MODEL

Starts the program on free ports: with MODEL, and with a copy of it that has a chat template that is
known (GOLDEN of tests/golden/chat_templates.json). Needs tests/server/requirements.txt; exits 77 if
that is not installed. Prints a line a check in GoogleTest's manner.
"""
import json
import os
import random
import sqlite3
import subprocess
import sys
import time

from harness import Load, Server, chat_model, name, openai, run_suite


def check_models(text, chat):
    names = [model.id for model in text.models.list()]
    assert len(names) == 1 and text.models.retrieve(names[0]).object == "model"
    try:
        text.models.retrieve("other")
        raise AssertionError("an unknown model was found")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"


def check_completions(text, chat):
    answer = text.completions.create(model=name(text), prompt="Once upon a time", max_tokens=20,
                                     temperature=0, logprobs=2, echo=True)
    choice = answer.choices[0]
    assert choice.text.startswith("Once upon a time"), choice.text
    assert answer.usage.completion_tokens <= 20
    assert choice.logprobs.token_logprobs[0] is None
    assert len(choice.logprobs.tokens) == answer.usage.total_tokens
    batch = text.completions.create(model=name(text), prompt=["One day", "The dog"], n=2,
                                    max_tokens=5, seed=1)
    assert [choice.index for choice in batch.choices] == [0, 1, 2, 3]


def check_completion_stream(text, chat):
    arguments = dict(model=name(text), prompt="The cat", max_tokens=30, temperature=0)
    whole = text.completions.create(**arguments)
    pieces = list(text.completions.create(**arguments, stream=True,
                                          stream_options={"include_usage": True}))
    assert "".join(p.choices[0].text for p in pieces if p.choices) == whole.choices[0].text
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert pieces[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def check_chat(text, chat):
    arguments = dict(model=name(chat), max_tokens=20, temperature=0,
                     messages=[{"role": "developer", "content": "Be brief."},
                               {"role": "user", "content": [{"type": "text", "text": "Hello"}]}])
    whole = chat.chat.completions.create(**arguments, logprobs=True, top_logprobs=2)
    message = whole.choices[0].message
    assert message.role == "assistant" and message.content is not None
    assert len(whole.choices[0].logprobs.content) == whole.usage.completion_tokens
    assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 2
    content = ""
    with chat.chat.completions.stream(**arguments) as stream:
        for event in stream:
            if event.type == "content.delta":
                content += event.delta
    assert content == message.content


def check_reasoning(text, chat):
    messages = [{"role": "user", "content": "Hello"}]
    answer = chat.chat.completions.create(model=name(chat), max_tokens=10, messages=messages,
                                          extra_body={"thinking": {"type": "enabled"}})
    # The tiny model never closes its thoughts, so all of it is reasoning.
    assert answer.choices[0].message.reasoning_content and not answer.choices[0].message.content
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0
    answer = chat.chat.completions.create(model=name(chat), max_tokens=10, messages=messages,
                                          extra_body={"thinking": {"type": "disabled"}})
    assert answer.choices[0].message.content


def check_errors(text, chat):
    try:
        text.chat.completions.create(model=name(text), messages=[{"role": "user", "content": "x"}])
        raise AssertionError("a model without a template chatted")
    except openai.BadRequestError as error:
        assert "no chat template" in str(error)
    try:
        text.completions.create(model=name(text), prompt="x", max_tokens=100_000)
        raise AssertionError("more than the context was accepted")
    except openai.BadRequestError as error:
        assert error.code == "context_length_exceeded"


def check_keys(program, model, folder):
    """A key is asked for as soon as there is one, and its limits hold."""
    database = str(folder / "keys.db")
    environment = {**os.environ, "BALEEN_DATABASE": database}

    def baleen(*arguments):
        return subprocess.run([program, *arguments], env=environment, check=True, text=True,
                              capture_output=True).stdout.strip()

    key = baleen("keys", "add", "alice", "--requests-per-minute", "3")
    server = Server(program, model, "--database", database)
    try:
        try:
            server.client("wrong").models.list()
            raise AssertionError("a wrong key was accepted")
        except openai.AuthenticationError:
            pass
        client = server.client(key)
        for _ in range(3):
            client.completions.create(model=name(client), prompt="Once", max_tokens=1)
        try:
            client.completions.create(model=name(client), prompt="Once", max_tokens=1)
            raise AssertionError("a fourth request in a minute was accepted")
        except openai.RateLimitError as error:
            assert 0 < int(error.response.headers["retry-after"]) <= 60
        baleen("keys", "revoke", "alice")
        bob = baleen("keys", "add", "bob")
        time.sleep(1.2)
        try:
            client.models.list()
            raise AssertionError("a revoked key was accepted")
        except openai.AuthenticationError:
            pass
        assert server.client(bob).models.list()
    finally:
        server.stop()
    usage = json.loads(baleen("usage", "--json"))["usage"]
    assert len(usage) == 1 and usage[0]["key"] == "alice" and usage[0]["requests"] == 3, usage
    assert usage[0]["completion_tokens"] <= 3


def check_ledger_survives(program, model, folder):
    """kill -9 under load: every answer that a client saw end is in the ledger, once."""
    database = str(folder / "ledger.db")
    load, num_kills = Load(), 4
    for _ in range(num_kills):
        server = Server(program, model, "--database", database)
        load.start(server)
        load.wait_for(6, 60)
        time.sleep(0.1 * random.random())
        server.kill()
        load.join()
    assert not load.refused, load.refused
    Server(program, model, "--database", database).stop()
    with sqlite3.connect(database) as connection:
        load.check_ledger(dict(connection.execute("SELECT id, completion_tokens FROM requests")),
                          num_kills)
    assert os.stat(database).st_mode & 0o777 == 0o600


def check_ledger_check_sees_faults():
    load = Load()
    load.seen = [(f"id-{i}", i) for i in range(30)]
    good = dict(load.seen)
    load.check_ledger(good, 1)
    for bad in ({i: n for i, n in good.items() if n != 7}, {**good, "id-3": 4},
                {**good, **{f"more-{i}": 1 for i in range(7)}}):
        try:
            load.check_ledger(bad, 1)
        except AssertionError:
            continue
        raise AssertionError("a wrong ledger passed")


def check_stop(*servers):
    for server in servers:
        server.stop()


def checks_of(program, model, folder):
    (folder / "chat").mkdir()
    text = Server(program, model, "--no-ledger", "--exact-reuse")
    chat = Server(program, chat_model(model, folder / "chat"), "--no-ledger", "--exact-reuse")
    clients = text.client(), chat.client()
    checks = [(check, *clients) for check in (
        check_models, check_completions, check_completion_stream, check_chat, check_reasoning,
        check_errors)]
    return checks + [(check_stop, text, chat), (check_keys, program, model, folder),
                     (check_ledger_check_sees_faults,),
                     (check_ledger_survives, program, model, folder)]


if __name__ == "__main__":
    sys.exit(run_suite("OpenAiClient", __doc__, checks_of))

#!/usr/bin/env python3
"""Talks to `baleen serve` with the real `openai` package: what its users will do.

  tests/server/openai_client.py BALEEN MODEL

Starts the program on free ports: with MODEL, and with a copy of it that has a chat template that is
known (GOLDEN of tests/golden/chat_templates.json). Needs tests/server/requirements.txt; exits 77 if
that is not installed. Prints a line a check in GoogleTest's manner.
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

try:
    import openai
except ImportError:
    print("the openai package is not installed (tests/server/requirements.txt)")
    sys.exit(77)

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GOLDEN = "deepseek-v3.1-rev2"  # chooses between thinking and not


class Server:
    def __init__(self, program, model, *flags):
        self.process = subprocess.Popen(
            [program, "serve", str(model), "--port", "0", *flags], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            found = re.search(r"listens on (http://\S+)", line)
            if found:
                self.url = found[1]
                break
        else:
            raise RuntimeError("the server did not start")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def client(self, key="none"):
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=60)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, "SIGTERM must end the server with exit code 0"

    def kill(self):
        self.process.kill()
        self.process.wait(60)


def chat_model(model, folder, template=GOLDEN):
    """The model's files with a program of the golden template's words."""
    for file in pathlib.Path(model).resolve().iterdir():
        os.symlink(file, folder / file.name)
    golden = json.loads((ROOT / "tests/golden/chat_templates.json").read_text())
    item = next(i for i in golden["templates"] if i["name"] == template)
    texts = "".join("{{ '%s' }}" % text.replace("\n", "\\n") for text in item["texts"])
    (folder / "chat_template.jinja").write_text(texts + "{% " + " ".join(item["names"]) + " %}")
    return folder


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


def name(client):
    return client.models.list().data[0].id


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
    seen, running = [], []

    def client_loop(url, number):
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
        try:
            while True:
                answer = client.completions.create(model=name(client), prompt="One day", n=1,
                                                   max_tokens=1 + number, seed=number)
                seen.append((answer.id, answer.usage.completion_tokens))
        except openai.APIError:
            pass

    for round_number in range(4):
        server = Server(program, model, "--database", database)
        running = [threading.Thread(target=client_loop, args=(server.url, i)) for i in range(6)]
        for thread in running:
            thread.start()
        time.sleep(0.7 + 0.2 * round_number)
        server.kill()
        for thread in running:
            thread.join()
    assert len(seen) > 20, len(seen)
    Server(program, model, "--database", database).stop()
    import sqlite3
    with sqlite3.connect(database) as connection:
        rows = dict(connection.execute("SELECT id, completion_tokens FROM requests"))
    missing = [answer for answer in seen if rows.get(answer[0]) != answer[1]]
    assert not missing, missing
    assert len(set(i for i, _ in seen)) == len(seen)
    # Written, and killed before the answer went out: at most what ran, in each round.
    assert len(rows) - len(seen) <= 4 * 6, (len(rows), len(seen))
    assert os.stat(database).st_mode & 0o777 == 0o600


def check_stop(*servers):
    for server in servers:
        server.stop()


def main():
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    program, model = sys.argv[1:]
    failures = 0

    def run(check, *arguments):
        print(f"[ RUN      ] OpenAiClient.{check.__name__}", flush=True)
        begin, verdict = time.monotonic(), "      OK"
        try:
            check(*arguments)
        except Exception as error:  # pylint: disable=broad-except
            verdict = " FAILED "
            print(f"Failure: {type(error).__name__}: {error}")
        milliseconds = int(1000 * (time.monotonic() - begin))
        print(f"[{verdict:>9} ] OpenAiClient.{check.__name__} ({milliseconds} ms)", flush=True)
        return 0 if verdict == "      OK" else 1

    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        (folder / "chat").mkdir()
        text_server = Server(program, model, "--no-ledger", "--exact-reuse")
        chat_server = Server(program, chat_model(model, folder / "chat"), "--no-ledger",
                             "--exact-reuse")
        clients = text_server.client(), chat_server.client()
        for check in (check_models, check_completions, check_completion_stream, check_chat,
                      check_reasoning, check_errors):
            failures += run(check, *clients)
        failures += run(check_stop, text_server, chat_server)
        failures += run(check_keys, program, model, folder)
        failures += run(check_ledger_survives, program, model, folder)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""The server's other endpoints as their clients use them: fill-in-the-middle, scoring, SageMaker.

  tests/server/endpoints.py BALEEN MODEL

Needs tests/server/requirements.txt; exits 77 if that is not installed. Prints a line a check in
GoogleTest's manner.
"""
import collections
import http.client
import json
import math
import os
import pathlib
import random
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse
import warnings

from harness import Server, name, openai, run_suite

CONTROL = "<｜fim▁hole｜>"
SECRET = "walrus7193"  # never to be found in a log


def request(server, method, path, body=None, headers=None, context=None):
    """(status, headers, object or text)"""
    url = urllib.parse.urlsplit(server.url)
    if url.scheme == "https":
        connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=60, context=context)
    else:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    data = None if body is None else json.dumps(body)
    connection.request(method, path, data, headers or {})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    try:
        return response.status, response.headers, json.loads(text)
    except json.JSONDecodeError:
        return response.status, response.headers, text


def post(server, path, body, headers=None):
    return request(server, "POST", path, body, headers)


def tokenize(server, text):
    """Ids of a text in which nothing is a control token, without BOS."""
    assert "<" not in text
    return post(server, "/tokenize", {"prompt": text, "add_special_tokens": False})[2]["tokens"]


def special(server, text):
    ids = post(server, "/tokenize", {"prompt": text, "add_special_tokens": False})[2]["tokens"]
    assert len(ids) == 1, ids
    return ids[0]


def fim_ids(server, prefix, suffix, extra=()):
    """The prompt as DeepSeek's papers give it, put together by hand."""
    ids = [special(server, "<｜begin▁of▁sentence｜>")]
    for text in extra:
        ids += tokenize(server, "\n\n--- snippet ---\n\n" + text)
    return (ids + [special(server, "<｜fim▁begin｜>")] + tokenize(server, prefix)
            + [special(server, "<｜fim▁hole｜>")] + tokenize(server, suffix)
            + [special(server, "<｜fim▁end｜>")])


def check_suffix(server):
    prefix, suffix = "Once upon a time, there was", " and they lived happily."
    for url in (server.url, server.url.replace("/v1", "/beta")):
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        arguments = dict(model=name(server.client()), prompt=prefix, suffix=suffix, max_tokens=12,
                         temperature=0)
        whole = client.completions.create(**arguments, extra_body={"return_token_ids": True})
        expected = fim_ids(server, prefix, suffix)
        assert whole.choices[0].model_extra["prompt_token_ids"] == expected
        assert whole.usage.prompt_tokens == len(expected)
        raw = client.completions.create(model=name(server.client()), prompt=expected, max_tokens=12,
                                        temperature=0)
        assert raw.choices[0].text == whole.choices[0].text
        pieces = client.completions.create(**arguments, stream=True)
        assert "".join(p.choices[0].text for p in pieces) == whole.choices[0].text
        echoed = client.completions.create(**arguments, echo=True)
        assert echoed.choices[0].text == prefix + whole.choices[0].text
        batch = client.completions.create(**{**arguments, "prompt": [prefix, "The dog"]})
        assert [c.index for c in batch.choices] == [0, 1]
        assert batch.choices[0].text == whole.choices[0].text


def check_control_tokens(server):
    """In a raw prompt a control token's name is the token; around a hole it is text."""
    model = name(server.client())
    body = {"model": model, "max_tokens": 1, "return_token_ids": True}
    hole, bos = special(server, CONTROL), special(server, "<｜begin▁of▁sentence｜>")
    raw = post(server, "/v1/completions", {**body, "prompt": f"a{CONTROL}b"})[2]["choices"][0]
    assert raw["prompt_token_ids"].count(hole) == 1
    bos_text = post(server, "/v1/completions",
                    {**body, "prompt": "<｜begin▁of▁sentence｜>Once"})[2]["choices"][0]
    assert bos_text["prompt_token_ids"].count(bos) == 1, "BOS is doubled"
    fim = post(server, "/v1/completions",
               {**body, "prompt": f"a{CONTROL}b", "suffix": f"c{CONTROL}"})[2]["choices"][0]
    assert fim["prompt_token_ids"].count(hole) == 1, "a client's text became a control token"
    infill = post(server, "/infill", {"input_prefix": f"a{CONTROL}", "input_suffix": CONTROL,
                                      "n_predict": 0})[2]
    plain = len(fim_ids(server, "a", ""))
    assert infill["tokens_evaluated"] > plain + 2, infill


def check_prompt_logprobs(server):
    """As lm-eval scores: the prompt is only read, and says what the answer's logprobs said."""
    client = server.client()
    grown = client.completions.create(model=name(client), prompt="The cat", max_tokens=6,
                                      temperature=0, logprobs=3,
                                      extra_body={"return_token_ids": True}).choices[0]
    ids = grown.model_extra["prompt_token_ids"] + grown.model_extra["token_ids"]
    read = client.completions.create(model=name(client), prompt=ids, max_tokens=0, echo=True,
                                     logprobs=3)
    logprobs = read.choices[0].logprobs
    assert read.usage.completion_tokens == 0
    assert len(logprobs.tokens) == len(ids) and logprobs.token_logprobs[0] is None
    count = len(grown.model_extra["token_ids"])
    for a, b in zip(grown.logprobs.token_logprobs, logprobs.token_logprobs[-count:]):
        assert abs(a - b) < 1e-4, (a, b)
    for chosen, top in zip(logprobs.token_logprobs[-count:], logprobs.top_logprobs[-count:]):
        assert max(top.values()) == chosen  # it was greedy


def check_infill(server):
    prefix, suffix = "The little dog ran to the", "\nThe end."
    extra = [{"filename": "a.txt", "text": "A story of a dog."}, {"text": "And one of a cat."}]
    status, _, answer = post(server, "/infill", {
        "input_prefix": "The little dog", "prompt": " ran to the", "input_suffix": suffix,
        "input_extra": extra, "n_predict": 16, "temperature": 0, "samplers": ["top_k", "infill"],
        "top_k": 40, "cache_prompt": True, "id_slot": 0, "t_max_prompt_ms": 500, "stop": []})
    assert status == 200, answer
    ids = fim_ids(server, prefix, suffix, [e["text"] for e in extra])
    raw = post(server, "/v1/completions", {"prompt": ids, "max_tokens": 16, "temperature": 0})[2]
    assert answer["content"] == raw["choices"][0]["text"]
    assert answer["tokens_evaluated"] == len(ids)
    timings = answer["timings"]
    assert timings["predicted_n"] == raw["usage"]["completion_tokens"]
    assert set(timings) == {f"{p}_{s}" for p in ("prompt", "predicted")
                            for s in ("n", "ms", "per_token_ms", "per_second")}
    # llama.vim: some fields, the nested ones flat.
    _, _, some = post(server, "/infill", {
        "input_prefix": prefix, "input_suffix": suffix, "n_predict": 4,
        "response_fields": ["content", "timings/prompt_n", "timings/predicted_ms", "truncated",
                            "tokens_cached", "no/such"]})
    assert set(some) == {"content", "timings/prompt_n", "timings/predicted_ms", "truncated",
                         "tokens_cached"}, some
    # Its warm-up.
    warm = {"input_prefix": "", "input_suffix": "", "prompt": "", "input_extra": extra,
            "n_predict": 0, "samplers": [], "t_max_prompt_ms": 1, "t_max_predict_ms": 1,
            "response_fields": [""]}
    assert post(server, "/infill", warm)[2] == {}
    # llama.vscode: several completions.
    several = post(server, "/infill", {"input_prefix": prefix, "input_suffix": suffix,
                                       "n_predict": 4, "n_cmpl": 3, "temperature": 1})[2]
    assert [a["index"] for a in several] == [0, 1, 2]


def check_infill_stream(server):
    body = {"input_prefix": "Lily saw a", "input_suffix": "", "n_predict": 20, "temperature": 0}
    whole = post(server, "/infill", body)[2]
    _, headers, text = post(server, "/infill", {**body, "stream": True})
    assert headers["Content-Type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: ")]
    assert "".join(event["content"] for event in events) == whole["content"]
    assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1]["timings"]["predicted_n"] == whole["tokens_predicted"]


def check_infill_is_cut(server):
    """What the context of 512 cannot hold is cut: the ends next to the hole stay."""
    word = " dog"
    _, _, answer = post(server, "/infill", {"input_prefix": word * 2000, "input_suffix": word * 2000,
                                            "n_predict": 8})
    assert answer["truncated"] is True
    assert answer["tokens_evaluated"] <= 512 - 8, answer["tokens_evaluated"]
    kept = post(server, "/infill", {"input_prefix": "The", "input_suffix": ".", "n_predict": 8,
                                    "input_extra": [{"text": word * 5000}, {"text": "Tiny."}]})[2]
    assert kept["truncated"] is True
    assert kept["tokens_evaluated"] == len(fim_ids(server, "The", ".", ["Tiny."]))


def check_fim_must_be_known(program, model):
    server = Server(program, model, "--no-ledger")
    try:
        for path, body in (("/v1/completions", {"prompt": "a", "suffix": "b"}),
                           ("/infill", {"input_prefix": "a", "input_suffix": "b"})):
            status, _, answer = post(server, path, body)
            assert status == 400, answer
            assert answer["error"]["code"] == "fim_not_supported"
            assert "--force-fim" in answer["error"]["message"]
        assert post(server, "/v1/completions", {"prompt": "a", "suffix": "", "max_tokens": 1})[0] == 200
    finally:
        server.stop()
    with tempfile.TemporaryDirectory() as folder:
        for file in pathlib.Path(model).resolve().iterdir():
            if file.name != "tokenizer_config.json":
                os.symlink(file, pathlib.Path(folder) / file.name)
        config = json.loads((pathlib.Path(model) / "tokenizer_config.json").read_text())
        config["fill_in_the_middle"] = True
        (pathlib.Path(folder) / "tokenizer_config.json").write_text(json.dumps(config))
        server = Server(program, folder, "--no-ledger")
        try:
            assert post(server, "/v1/completions", {"prompt": "a", "suffix": "b"})[0] == 200
            assert request(server, "GET", "/v1/models")[2]["data"][0]["fill_in_the_middle"] is True
        finally:
            server.stop()


def check_score(server):
    """Sums of the logprobs that /v1/completions gives for the same tokens."""
    query = "Once upon a time there was a little girl. " * 12 + "She was very"
    labels = [" happy", " sad", " happy and kind", " of"]
    status, _, answer = post(server, "/score", {"query": query, "labels": labels})
    assert status == 200, answer
    data = answer["data"][0]
    prompt = post(server, "/tokenize", {"prompt": query})[2]["tokens"]
    expected = []
    for label in labels:
        ids = tokenize(server, label)
        echoed = post(server, "/v1/completions", {"prompt": prompt + ids, "max_tokens": 0,
                                                  "echo": True, "logprobs": 0})[2]
        expected.append(sum(echoed["choices"][0]["logprobs"]["token_logprobs"][-len(ids):]))
        assert data["label_tokens"][labels.index(label)] == len(ids)
    assert max(data["label_tokens"]) > 1
    for got, want in zip(data["label_logprobs"], expected):
        assert abs(got - want) < 1e-3, (data["label_logprobs"], expected)
    total = sum(math.exp(x) for x in expected)
    for got, want in zip(data["label_scores"], expected):
        assert abs(got - math.exp(want) / total) < 1e-4
    assert data["score"] == data["label_scores"][0]
    fed = sum(n - 1 for n in data["label_tokens"])
    assert answer["usage"]["prompt_tokens"] == len(prompt) + fed
    assert answer["usage"]["completion_tokens"] == 0
    # No label's score depends on the labels beside it.
    for i, label in enumerate(labels):
        alone = post(server, "/score", {"query": query, "labels": [label],
                                        "apply_softmax": False})[2]["data"][0]
        assert alone["label_logprobs"] == [data["label_logprobs"][i]], label
        assert abs(alone["score"] - math.exp(expected[i])) < 1e-4
    by_bytes = post(server, "/score", {"query": query, "labels": labels,
                                       "length_normalize": "bytes"})[2]["data"][0]
    normal = [x / len(label.encode()) for x, label in zip(expected, labels)]
    total = sum(math.exp(x) for x in normal)
    assert abs(by_bytes["label_scores"][2] - math.exp(normal[2]) / total) < 1e-4


def check_score_items(server):
    """vLLM's form: one-token labels, several items, joined as lists of tokens."""
    ids = [tokenize(server, word)[0] for word in (" dog", " cat")]
    body = {"query": "I saw a", "items": [" big", " small", " red"], "label_token_ids": ids}
    answer = post(server, "/generative_scoring", body)[2]
    assert [d["index"] for d in answer["data"]] == [0, 1, 2]
    prompt = post(server, "/tokenize", {"prompt": "I saw a"})[2]["tokens"] + tokenize(server, " small")
    both = post(server, "/score", {"query": prompt, "labels": [[ids[0]], [ids[1]]]})[2]
    assert both["data"][0]["label_logprobs"] == answer["data"][1]["label_logprobs"]
    for wrong, param in (({"labels": []}, "labels"), ({}, "labels"), ({"labels": [""]}, "labels"),
                         ({"labels": ["a"], "items": []}, "items"),
                         ({"label_token_ids": [10 ** 6]}, "label_token_ids"),
                         ({"labels": ["a"], "length_normalize": "x"}, "length_normalize")):
        status, _, error = post(server, "/v1/score", {"query": "a", **wrong})
        assert status == 400 and error["error"]["param"] == param, (wrong, error)
    status, _, error = post(server, "/score", {"query": " dog" * 600, "labels": ["a"]})
    assert status == 400 and error["error"]["code"] == "context_length_exceeded"


def check_score_computes_the_prefix_once(server):
    query = "A tale of a whale and a snail in a pail. " * 30
    labels = [f" {word} and then" for word in ("one", "two", "three", "four", "five", "six")]

    def counter(metric):
        text = request(server, "GET", "/metrics")[2]
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                   if line.startswith("vllm:" + metric))

    before = counter("prefix_cache_queries_total") - counter("prefix_cache_hits_total")
    answer = post(server, "/score", {"query": query, "labels": labels})[2]
    computed = counter("prefix_cache_queries_total") - counter("prefix_cache_hits_total") - before
    prompt = answer["usage"]["prompt_tokens"]
    assert prompt > 300
    # A block of 64 at most is computed again for each label.
    assert computed <= prompt + len(labels) * 64, (computed, prompt)


def check_mutations(server, count=3000):
    """Bytes changed, cut out and doubled in requests that are right: 4xx, and never a crash."""
    seeds = [
        ("/v1/completions", {"prompt": "Once", "suffix": "end", "max_tokens": 1, "logprobs": 1,
                             "stop": ["a"], "logit_bias": {"5": 1}, "n": 2}),
        ("/v1/completions", {"prompt": [[1, 2], [3]], "max_tokens": 0, "echo": True, "logprobs": 0}),
        ("/infill", {"input_prefix": "a", "input_suffix": "b", "n_predict": 1, "prompt": "c",
                     "input_extra": [{"filename": "f", "text": "t"}], "n_indent": 2, "n_cmpl": 1,
                     "t_max_predict_ms": 5, "response_fields": ["content", "timings/prompt_n"]}),
        ("/score", {"query": "a", "items": ["b", [5]], "labels": [" c", [6, 7]],
                    "apply_softmax": True, "length_normalize": "bytes"}),
        ("/generative_scoring", {"query": [1, 2], "label_token_ids": [5, 6], "item_first": True}),
        ("/v1/experts", {"tokens": [1, 2, 3], "from": 1}),
        ("/invocations", {"prompt": "Once", "max_tokens": 1}),
        ("/tokenize", {"prompt": "a", "return_token_strs": True}),
        ("/detokenize", {"tokens": [1, 2]})]
    draw, statuses = random.Random(11), collections.Counter()
    url = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    for _ in range(count):
        path, valid = draw.choice(seeds)
        body = bytearray(json.dumps(valid).encode())
        for _ in range(draw.randrange(1, 4)):
            at, how = draw.randrange(len(body)), draw.randrange(4)
            if how == 0:
                body[at] = draw.randrange(256)
            elif how == 1:
                del body[at:at + draw.randrange(1, 9)]
            elif how == 2:
                begin = draw.randrange(len(body))
                body[at:at] = body[begin:begin + draw.randrange(12)]
            else:
                body[at:at] = draw.choice([b"{", b"}", b"[", b"]", b'"', b",", b"9", b"-", b".", b"e9"])
            if not body:
                break
        connection.request("POST", path, bytes(body))
        response = connection.getresponse()
        text = response.read()
        statuses[response.status] += 1
        assert response.status in (200, 400, 404), (path, bytes(body), text)
        assert text.startswith(b"data: ") or json.loads(text) is not None
    assert statuses[200] > count // 100 and statuses[400] > count // 2, statuses
    print("mutations:", dict(statuses))


def check_experts(server):
    ids = post(server, "/tokenize", {"prompt": "The cat sat"})[2]["tokens"]
    answer = post(server, "/v1/experts", {"tokens": ids, "from": 1})[2]
    for layer in answer["layers"]:
        assert sum(layer["counts"]) == 2 * (len(ids) - 1)  # two experts a token
    assert len(answer["layers"]) == 5


def check_experts_are_charged(program, model, folder):
    """One pass over a text is work like any other: it is in the ledger, with the engine's time."""
    server = Server(program, model, "--database", str(folder / "experts.db"))
    try:
        ids = post(server, "/tokenize", {"prompt": "The cat sat"})[2]["tokens"]
        post(server, "/v1/experts", {"tokens": ids})
        status, _, answer = request(server, "GET", "/v1/usage")
        assert status == 200, answer
        used = answer["data"]
        assert [u["requests"] for u in used] == [1], used
        assert used[0]["prompt_tokens"] == len(ids) and used[0]["completion_tokens"] == 0, used
    finally:
        server.stop()


def check_ledger_stays_locked(program, model, folder):
    """Another process that looks into the ledger must not think that it is alone with it, and take
    its log away: /v1/usage opens and closes the file once more in the server."""
    import sqlite3
    database = folder / "locked.db"
    server = Server(program, model, "--database", str(database))
    try:
        for count in (1, 2):
            post(server, "/v1/completions", {"prompt": "The cat", "max_tokens": 1})
            assert request(server, "GET", "/v1/usage")[2]["data"][0]["requests"] == count
            connection = sqlite3.connect(database)
            assert connection.execute("SELECT count(*) FROM requests").fetchone() == (count,)
            connection.close()
            assert database.with_name("locked.db-wal").exists()
    finally:
        server.stop()


def check_sagemaker(program, model, folder):
    database = str(folder / "sagemaker.db")
    server = Server(program, model, "--sagemaker", "--database", database)
    try:
        assert request(server, "GET", "/ping")[0] == 200
        bodies = ({"prompt": "Once", "max_tokens": 2},
                  {"query": "Once", "labels": [" upon", " a"]})
        for body in bodies:
            status, _, answer = post(server, "/invocations", body,
                                     {"X-Amzn-SageMaker-Custom-Attributes": "trace=1"})
            assert status == 200, answer
        assert post(server, "/invocations", {})[0] == 400
        # Nobody has a key yet, and still all else needs one.
        assert post(server, "/v1/completions", bodies[0])[0] == 401
        assert request(server, "GET", "/metrics")[0] == 401
    finally:
        server.stop()
    # Without a model: SageMaker's place.
    ended = subprocess.run([program, "serve"], capture_output=True, text=True, check=False,
                           env={**os.environ, "BALEEN_DATABASE": database})
    assert ended.returncode == 2 and "/opt/ml/model" in ended.stderr, ended


def check_costs(program, model, folder):
    """Prices by hand from the ledger's own seconds."""
    database = str(folder / "costs.db")
    environment = {**os.environ, "BALEEN_DATABASE": database, "BALEEN_MACHINE_PRICE": "3.5",
                   "BALEEN_WATTS": "200", "BALEEN_POWER_PRICE": "0.5",
                   "BALEEN_REFERENCE_PRICES": "2,0.5,4", "BALEEN_REFERENCE_NAME": "other"}
    key = subprocess.run([program, "keys", "add", "alice"], env=environment, check=True, text=True,
                         capture_output=True).stdout.strip()
    old = dict(os.environ)
    os.environ.update(environment)
    try:
        server = Server(program, model)
    finally:
        os.environ.clear()
        os.environ.update(old)
    auth = {"Authorization": "Bearer " + key}
    try:
        for _ in range(2):
            assert post(server, "/v1/completions",
                        {"prompt": "The dog and the cat. " * 20, "max_tokens": 10,
                         "ignore_eos": True}, auth)[0] == 200
        seen = request(server, "GET", "/v1/usage", headers=auth)[2]
    finally:
        server.stop()
    usage = json.loads(subprocess.run([program, "usage", "--json", "--hours", "2"], check=True,
                                      env=environment, text=True, capture_output=True).stdout)
    import sqlite3
    with sqlite3.connect(database) as connection:
        prompt, answer = connection.execute(
            "SELECT sum(prompt_machine_seconds), sum(answer_machine_seconds) FROM requests").fetchone()
    assert prompt > 0 and answer > 0
    item = usage["usage"][0]
    assert item["cached_tokens"] > 0
    rate = (3.5 + 0.2 * 0.5) / 3600
    on_use, on_reservation = item["cost"]["on_use"], item["cost"]["on_reservation"]
    fresh = item["prompt_tokens"] - item["cached_tokens"]

    def close(a, b):
        assert abs(a - b) <= 1e-9 + 1e-6 * abs(b), (a, b)
    close(on_use["total"], rate * (prompt + answer))
    close(on_use["per_million_tokens"]["input"], rate * prompt / fresh * 1e6)
    close(on_use["per_million_tokens"]["output"], rate * answer / 20 * 1e6)
    assert on_use["per_million_tokens"]["cached"] == 0
    # One key used it all, so it pays the two hours.
    close(on_reservation["total"], 2 * 3.6)
    close(item["cost"]["reference"]["total"],
          (fresh * 2 + item["cached_tokens"] * 0.5 + 20 * 4) / 1e6)
    close(seen["data"][0]["cost"]["on_use"]["total"], on_use["total"])
    table = subprocess.run([program, "usage"], env=environment, check=True, text=True,
                           capture_output=True).stdout
    assert "on reservation" in table and "other" in table


def check_limits(program, model, folder):
    """Machine seconds run out, and a limit that is raised counts without a restart."""
    database = str(folder / "limits.db")

    def baleen(*arguments):
        return subprocess.run([program, *arguments, "--database", database], check=True, text=True,
                              capture_output=True).stdout.strip()
    key = baleen("keys", "add", "bob", "--machine-seconds-per-minute", "0.001")
    auth = {"Authorization": "Bearer " + key}
    server = Server(program, model, "--database", database)
    body = {"prompt": "The dog and the cat. " * 20, "max_tokens": 20, "ignore_eos": True}
    try:
        status, headers, _ = post(server, "/v1/completions", body, auth)
        assert status == 200 and headers["x-ratelimit-limit-machine-seconds"] == "0.001"
        status, headers, error = post(server, "/v1/completions", body, auth)
        assert status == 429, error
        assert 0 < int(headers["Retry-After"]) <= 60
        assert headers["x-ratelimit-remaining-machine-seconds"] == "0"
        assert headers["x-ratelimit-reset-machine-seconds"].endswith("s")
        baleen("keys", "limit", "bob", "--requests-per-minute", "100")
        time.sleep(1.2)
        status, headers, _ = post(server, "/v1/completions", body, auth)
        assert status == 200 and headers["x-ratelimit-limit-requests"] == "100"
    finally:
        server.stop()
    import sqlite3
    with sqlite3.connect(database) as connection:
        changes = connection.execute("SELECT action, details FROM key_changes ORDER BY id").fetchall()
        assert [c[0] for c in changes] == ["add", "limit"]
        assert "machine_seconds_per_minute=0.001" in changes[0][1]
        try:
            connection.execute("DELETE FROM key_changes")
            raise AssertionError("a change was deleted")
        except sqlite3.Error:
            pass


def check_log(program, model, folder):
    """A line of JSON for each request; no key, no text."""
    log = folder / "requests.log"
    database = str(folder / "log.db")
    key = subprocess.run([program, "keys", "add", "carol", "--database", database], check=True,
                         text=True, capture_output=True).stdout.strip()
    with log.open("w") as stream:
        server = Server(program, model, "--database", database, "--log-requests", "--force-fim",
                        log=stream)
        auth = {"Authorization": "Bearer " + key}
        try:
            _, headers, answer = post(server, "/v1/completions",
                                      {"prompt": SECRET, "max_tokens": 3, "user": SECRET,
                                       "stream_options": {"include_usage": True, "x": SECRET},
                                       SECRET + " and more": 1, "store": None}, auth)
            post(server, "/v1/completions", {"prompt": 5, "x": SECRET}, auth)
            post(server, "/v1/completions", {"prompt": "a"}, {"Authorization": "Bearer " + SECRET})
            post(server, f"/{SECRET}", {"prompt": SECRET}, auth)
            post(server, "/infill", {"input_prefix": SECRET, "input_suffix": ""}, auth)
            post(server, "/score", {"query": SECRET, "labels": [SECRET]}, auth)
            request(server, "GET", f"/v1/models/{SECRET}", headers=auth)
        finally:
            server.stop()
    text = log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert SECRET not in text and key not in text and key[3:] not in text
    first = next(line for line in lines if line.get("endpoint") == "completions")
    assert first["id"] == answer["id"] == headers["X-Request-Id"] and first["key"] == "carol"
    assert first["completion_tokens"] == answer["usage"]["completion_tokens"]
    assert first["ignored"] == ["user", "stream_options.x", "?"], first
    assert first["total_ms"] > 0 and first["machine_ms"] > 0
    assert [line["status"] for line in lines if "status" in line] == [400, 401, 404, 404], lines
    assert {line["endpoint"] for line in lines if "endpoint" in line} == {
        "completions", "infill", "score"}


def check_tls(program, model, folder):
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                   check=True, capture_output=True)
    server = Server(program, model, "--no-ledger", "--tls-cert", str(certificate), "--tls-key",
                    str(key))
    try:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(certificate))
        status, _, models = request(server, "GET", "/v1/models", context=context)
        assert status == 200 and models["data"]
        # One connection, several requests, a stream among them.
        url = urllib.parse.urlsplit(server.url)
        connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=60, context=context)
        texts = []
        for stream in (False, True, False):
            connection.request("POST", "/v1/completions", json.dumps(
                {"prompt": "The cat", "max_tokens": 30, "temperature": 0, "stream": stream}))
            text = connection.getresponse().read().decode()
            texts.append("".join(json.loads(line[6:])["choices"][0]["text"]
                                 for line in text.split("\n\n") if line.startswith("data: {"))
                         if stream else json.loads(text)["choices"][0]["text"])
        assert texts[0] == texts[1] == texts[2]
        connection.close()
        old = ssl.create_default_context(cafile=str(certificate))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        try:
            request(server, "GET", "/health", context=old)
            raise AssertionError("TLS 1.1 was spoken")
        except (ssl.SSLError, OSError, ValueError):
            pass
        plain = http.client.HTTPConnection(url.hostname, url.port, timeout=20)
        try:
            plain.request("GET", "/health")
            plain.getresponse()
            raise AssertionError("plain HTTP was answered")
        except (http.client.HTTPException, OSError):
            pass
    finally:
        server.stop()
    broken = subprocess.run([program, "serve", str(model), "--no-ledger", "--tls-cert", str(key),
                             "--tls-key", str(key)], capture_output=True, text=True, check=False)
    assert broken.returncode == 2 and "--tls-cert" in broken.stderr, broken


def checks_of(program, model, folder):
    server = Server(program, model, "--no-ledger", "--exact-reuse", "--force-fim")
    checks = [(check, server) for check in (
        check_suffix, check_control_tokens, check_prompt_logprobs, check_infill,
        check_infill_stream, check_infill_is_cut, check_score, check_score_items,
        check_score_computes_the_prefix_once, check_experts, check_mutations)]
    checks.append((lambda s: s.stop(), server))
    checks.append((check_fim_must_be_known, program, model))
    for check in (check_experts_are_charged, check_ledger_stays_locked, check_sagemaker,
                  check_costs, check_limits, check_log, check_tls):
        checks.append((check, program, model, folder))
    return checks


if __name__ == "__main__":
    sys.exit(run_suite("Endpoints", __doc__, checks_of))

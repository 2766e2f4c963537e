#!/usr/bin/env python3
"""`baleen serve` under load and against rude clients, by raw sockets.

  bench/serve_load.py BALEEN MODEL [--idle 1000] [--streams 64] [--aborts 10000] [--keystrokes 200]
                      [--seconds 20] [--only NAME]... [--serve "FLAG ..."] [--chat] [--growth MB]

Prints a JSON object a part; exits 1 if a promise is broken. Standard library only. --serve has more
flags for `baleen serve`.

  load        streams beside idle keep-alive connections: time to first token, between tokens
  aborts      requests whose clients leave: nothing is left of them, counted
  keystrokes  an editor that cancels each request by the next one: time to the first line
  rude        slow readers, half-open sockets, large bodies, deep JSON, bytes that are no UTF-8
  quiet       an idle server uses no CPU

And, only when they are named by --only:

  interference  8 streams while a prompt of --prompt tokens is read: the gaps between their tokens
  batch       --streams answers that grow together: tokens a second while all of them grow
  prefix      8 prompts that begin with the same 2,000 tokens, at once: these are computed once
  soak        mixed requests for --seconds: memory, threads, sockets and blocks are flat; the ledger
              is kept, and with --chat conversations, forms and tools are among them
"""
import argparse
import asyncio
import json
import os
import pathlib
import random
import re
import resource
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "server"))
from chat_model import chat_model  # pylint: disable=wrong-import-position

STORY = "Once upon a time there was a little whale who lived in the big blue sea. "


class Server:
    def __init__(self, program, model, *flags):
        self.process = subprocess.Popen(
            [program, "serve", model, "--port", "0", "--force-fim", *flags],
            stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            found = re.search(r"listens on http://[\d.]+:(\d+)", line)
            if found:
                self.port = int(found[1])
                return
        raise SystemExit("the server did not start")

    @property
    def proc(self):
        return pathlib.Path(f"/proc/{self.process.pid}")

    def holds(self):
        """What a leak would show in."""
        status = (self.proc / "status").read_text()
        return {"sockets": len(os.listdir(self.proc / "fd")),
                "threads": len(os.listdir(self.proc / "task")),
                "memory_mb": round(int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024, 1)}

    def cpu_seconds(self):
        fields = (self.proc / "stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def head(method, path, body=b""):
    return (f"{method} {path} HTTP/1.1\r\nHost: load\r\nContent-Length: {len(body)}\r\n\r\n"
            ).encode() + body


async def connect(server):
    return await asyncio.open_connection("127.0.0.1", server.port)


async def exchange(reader, writer, message, timeout=60):
    """(status, body) of an answer with a Content-Length."""
    writer.write(message)
    await writer.drain()
    top = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), timeout)
    length = int(re.search(rb"Content-Length: (\d+)", top)[1])
    return int(top[9:12]), await asyncio.wait_for(reader.readexactly(length), timeout)


async def ask(server, message, timeout=60):
    reader, writer = await connect(server)
    try:
        return await exchange(reader, writer, message, timeout)
    finally:
        writer.close()


async def metrics(server):
    _, text = await ask(server, head("GET", "/metrics"))
    values = {}
    for line in text.decode().splitlines():
        found = re.match(r"vllm:([a-z0-9_]+)(?:\{[^}]*\})? (\S+)$", line)
        if found:
            values[found[1]] = values.get(found[1], 0) + float(found[2])
    return values


async def settled(server, seconds=30):
    """Whether nothing runs, waits or holds blocks any more."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = await metrics(server)
        if (now["num_requests_running"] == 0 and now["num_requests_waiting"] == 0
                and now["kv_cache_usage_perc"] == 0):
            return True
        await asyncio.sleep(0.1)
    return False


def percentiles(values):
    ordered = sorted(values)
    at = lambda p: ordered[min(len(ordered) - 1, int(p * len(ordered)))]
    return {"count": len(ordered), "p50_ms": round(1e3 * statistics.median(ordered), 2),
            "p95_ms": round(1e3 * at(0.95), 2), "p99_ms": round(1e3 * at(0.99), 2),
            "max_ms": round(1e3 * ordered[-1], 2)}


async def events(reader):
    """What a stream tells until it is done."""
    async for line in reader:
        if line.startswith(b"data: [DONE]"):
            return
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(event)
            yield event


async def stream(server, body, times):
    """One streamed answer; appends (first token, gaps, tokens)."""
    reader, writer = await connect(server)
    begin = last = time.monotonic()
    first, gaps, count = None, [], 0
    writer.write(head("POST", "/v1/completions", json.dumps(
        {**body, "stream": True, "stream_options": {"include_usage": True}}).encode()))
    async for event in events(reader):
        now = time.monotonic()
        if event["usage"]:
            count = event["usage"]["completion_tokens"]
        if not event["choices"] or event["choices"][0]["finish_reason"]:
            continue
        if first is None:
            first = now - begin
        else:
            gaps.append(now - last)
        last = now
    writer.close()
    if first is None:
        raise RuntimeError("a stream ended without a token")
    times.append((first, gaps, count))


async def part_load(server, options):
    idle = [await connect(server) for _ in range(options.idle)]
    for reader, writer in idle:
        status, _ = await exchange(reader, writer, head("GET", "/health"))
        assert status == 200
    times, end, draw = [], time.monotonic() + options.seconds, random.Random(3)

    async def client(number):
        while time.monotonic() < end:
            body = {"prompt": STORY * draw.randrange(1, 6) + str(number), "max_tokens": 48,
                    "ignore_eos": True, "temperature": 1, "seed": number}
            await stream(server, body, times)

    begin = time.monotonic()
    await asyncio.gather(*[client(i) for i in range(options.streams)])
    seconds = time.monotonic() - begin
    alive = 0
    for reader, writer in idle:
        status, _ = await exchange(reader, writer, head("GET", "/health"))
        alive += status == 200
        writer.close()
    tokens = sum(count for _, _, count in times)
    assert alive == options.idle, f"{options.idle - alive} idle connections were lost"
    assert tokens == 48 * len(times), "tokens were lost"
    return {"idle_connections": alive, "streams": options.streams, "answers": len(times),
            "tokens_per_s": round(tokens / seconds, 1),
            "first_token": percentiles([first for first, _, _ in times]),
            "between_tokens": percentiles([gap for _, gaps, _ in times for gap in gaps])}


async def part_aborts(server, options):
    """Clients that leave at once, after the head, in the prompt, or among the tokens."""
    await settled(server)
    before, draw, left = server.holds(), random.Random(5), options.aborts
    memory = []

    async def client():
        nonlocal left
        while left > 0:
            left -= 1
            if left % max(1, options.aborts // 10) == 0:
                memory.append(server.holds()["memory_mb"])
            try:
                reader, writer = await connect(server)
                body = json.dumps({"prompt": STORY * draw.randrange(1, 20), "max_tokens": 200,
                                   "ignore_eos": True, "stream": draw.random() < 0.7}).encode()
                message = head("POST", "/v1/completions", body)
                how = draw.randrange(4)
                if how == 0:
                    message = message[:draw.randrange(1, len(message))]
                writer.write(message)
                await writer.drain()
                if how == 2:
                    await asyncio.sleep(draw.random() * 0.05)
                if how == 3 and b'"stream": true' in body:
                    await asyncio.wait_for(reader.readuntil(b"data: {"), 30)
                writer.transport.abort()
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
                pass

    await asyncio.gather(*[client() for _ in range(32)])
    assert await settled(server), await metrics(server)
    for _ in range(100):
        after = server.holds()
        if after["sockets"] <= before["sockets"]:
            break
        await asyncio.sleep(0.1)
    assert after["sockets"] <= before["sockets"], (before, after)
    assert after["threads"] == before["threads"], (before, after)
    # The prefix cache keeps what it may; after its memory has been touched once, nothing grows.
    late = memory[len(memory) // 2:]
    assert max(late) - min(late) <= 64, memory
    return {"aborted": options.aborts, "before": before, "after": after, "memory_mb": memory}


async def part_keystrokes(server, options):
    """/infill for each key, each cancelling the one before; the last one's answer is awaited too."""
    code = 'def fibonacci(n):\n    """The n-th number of Fibonacci."""\n    a, b = 0, 1\n'
    typed = "    for _ in range(n):\n        a, b = b, a + b\n    return a\n" * 10
    lines, cancelled, draw = [], 0, random.Random(7)
    pending = None

    async def key(prefix):
        reader, writer = await connect(server)
        try:
            body = {"input_prefix": prefix, "input_suffix": "\n\nprint(fibonacci(10))\n",
                    "n_predict": 32, "stream": True, "temperature": 0}
            begin = time.monotonic()
            writer.write(head("POST", "/infill", json.dumps(body).encode()))
            async for line in reader:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                if "\n" in event["content"] or event["stop"]:
                    lines.append(time.monotonic() - begin)
                    return
        finally:
            writer.transport.abort()

    for i in range(options.keystrokes):
        if pending and not pending.done():
            pending.cancel()
            cancelled += 1
        pending = asyncio.create_task(key(code + typed[:i + 1]))
        # Most keys come fast; now and then somebody thinks.
        await asyncio.sleep(1.0 if draw.random() < 0.15 else draw.uniform(0.03, 0.15))
    await pending
    assert await settled(server, 5), "work was left behind"
    return {"keystrokes": options.keystrokes, "cancelled": cancelled,
            "first_line": percentiles(lines)}


async def part_rude(server, options):
    """Each gets its 4xx or is cut off, and the next client is served as if nothing had been."""
    del options
    before = server.holds()
    results = {}

    async def status_of(message, timeout=60):
        reader, writer = await connect(server)
        try:
            writer.write(message)
            top = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), timeout)
            return int(top[9:12])
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return 0
        finally:
            writer.transport.abort()

    post = lambda body: head("POST", "/v1/completions", body)
    results["deep JSON"] = await status_of(post(b'{"prompt":' + b"[" * 200_000))
    results["no UTF-8"] = await status_of(post(b'{"prompt":"\xff\xfe\x80"}'))
    results["lone surrogate"] = await status_of(post(b'{"prompt":"\\ud800"}'))
    results["large body said"] = await status_of(
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
    results["large chunked body"] = await status_of(
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + (b"100000\r\n" + b" " * 0x100000 + b"\r\n") * 18)
    results["large head"] = await status_of(
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 1000) for i in range(40)))
    results["not HTTP"] = await status_of(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    results["two lengths"] = await status_of(
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}")
    results["path traversal"] = await status_of(head("GET", "/page/../../etc/passwd"))
    expected = {"deep JSON": 400, "no UTF-8": 400, "lone surrogate": 400, "large body said": 413,
                "large chunked body": 413, "large head": 431, "not HTTP": 400, "two lengths": 400,
                "path traversal": 404}
    assert results == expected, results

    # Half a head, and silence: cut off after 10 s; a hundred of them stop nobody.
    half = [await connect(server) for _ in range(100)]
    for _, writer in half:
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Le")
    # A reader that does not read: its answer is bounded, and its generation ends.
    slow = []
    for _ in range(4):
        reader, writer = await connect(server)
        writer.transport.pause_reading()
        writer.write(post(json.dumps({"prompt": "Once", "max_tokens": 400, "ignore_eos": True, "n": 2,
                                      "stream": True, "logprobs": 20}).encode()))
        slow.append(writer)
    begin = time.monotonic()
    status, _ = await ask(server, post(b'{"prompt": "Once", "max_tokens": 4}'))
    assert status == 200
    results["beside them, ms"] = round(1e3 * (time.monotonic() - begin), 1)
    begin = time.monotonic()
    for reader, _ in half:
        assert await asyncio.wait_for(reader.read(1), 20) == b""
    results["half-open cut off after s"] = round(time.monotonic() - begin, 1)
    for writer in slow:
        writer.transport.abort()
    assert await settled(server)
    await asyncio.sleep(1)
    after = server.holds()
    assert after["sockets"] <= before["sockets"] and after["threads"] == before["threads"], after
    return results


async def part_quiet(server, options):
    del options
    await settled(server)
    await asyncio.sleep(0.5)
    before = server.cpu_seconds()
    await asyncio.sleep(3)
    used = server.cpu_seconds() - before
    assert used <= 0.03, f"an idle server used {used} s of CPU in 3 s"
    return {"idle_cpu_share": round(used / 3, 4)}


# By `return_token_ids`, which shows a token too whose text waits for the rest of a character.
async def watch(server, ids, max_tokens, arrivals, **fields):
    """Streams an answer to a prompt of ids; appends the time of each token. Returns the usage."""
    reader, writer = await connect(server)
    body = {"prompt": ids, "max_tokens": max_tokens, "ignore_eos": True, "temperature": 1, "seed": 1,
            "stream": True, "stream_options": {"include_usage": True}, "return_token_ids": True,
            **fields}
    writer.write(head("POST", "/v1/completions", json.dumps(body).encode()))
    usage = None
    try:
        top = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in top[:20]:
            raise RuntimeError((top, await reader.read(1000)))
        async for event in events(reader):
            usage = event["usage"] or usage
            now = time.monotonic()
            arrivals += [now] * sum(len(c["token_ids"]) for c in event["choices"])
    finally:
        writer.transport.abort()
    return usage


def some_ids(draw, count):
    return [draw.randrange(100, 4000) for _ in range(count)]


async def part_interference(server, options):
    draw, streams = random.Random(11), [[] for _ in range(8)]
    tasks = [asyncio.create_task(watch(server, some_ids(draw, 16), 4000, arrivals))
             for arrivals in streams]
    while min(len(arrivals) for arrivals in streams) < 20:
        await asyncio.sleep(0.05)
        for task in tasks:
            if task.done():
                task.result()  # raises what it failed with
    alone = time.monotonic()
    await asyncio.sleep(3)
    begin, first = time.monotonic(), []
    await watch(server, some_ids(draw, options.prompt), 1, first)
    end = time.monotonic()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await settled(server)

    def gaps(since, until):
        return [b - a for arrivals in streams for a, b in zip(arrivals, arrivals[1:])
                if since <= a and b <= until]
    result = {"prompt_tokens": options.prompt, "prompt_s": round(end - begin, 1),
              "gaps_alone": percentiles(gaps(alone, begin)),
              "gaps_beside_prompt": percentiles(gaps(begin, end))}
    most = 2 * options.max_decode_wait
    if result["gaps_beside_prompt"]["max_ms"] > most:
        result["failed"] = f"a token came later than {most} ms"
    return result


async def part_batch(server, options):
    """From the last first token to the first last one, when all grow together."""
    draw, streams = random.Random(13), [[] for _ in range(options.streams)]
    await asyncio.gather(*[watch(server, some_ids(draw, options.prompt), options.tokens, arrivals)
                           for arrivals in streams])
    begin = max(arrivals[0] for arrivals in streams)
    end = min(arrivals[-1] for arrivals in streams)
    tokens = sum(begin < at <= end for arrivals in streams for at in arrivals)
    assert tokens >= 4 * options.streams, f"only {tokens} tokens while all grew: more --tokens"
    return {"streams": options.streams, "prompt_tokens": options.prompt, "tokens": tokens,
            "tokens_per_s": round(tokens / (end - begin), 2)}


async def part_prefix(server, options):
    del options
    draw = random.Random(17)
    shared, before = some_ids(draw, 2000), await metrics(server)
    begin = time.monotonic()
    usages = await asyncio.gather(*[watch(server, shared + some_ids(draw, 20), 8, [])
                                    for _ in range(8)])
    seconds, after = time.monotonic() - begin, await metrics(server)
    prompt = sum(usage["prompt_tokens"] for usage in usages)
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    queries = after["prefix_cache_queries_total"] - before["prefix_cache_queries_total"]
    hits = after["prefix_cache_hits_total"] - before["prefix_cache_hits_total"]
    assert (prompt, cached) == (queries, hits), (prompt, cached, queries, hits)
    # One computes it all; the others their own 20, and what of the prefix fills no block of 64.
    assert prompt - cached <= 2020 + 7 * (20 + 64), (prompt, cached)
    return {"prompt_tokens": prompt, "cached_tokens": cached, "computed_tokens": prompt - cached,
            "all_took_s": round(seconds, 2)}


def soak_request(draw, chats):
    """(kind, path, body) of a request of any kind; some are meant to fail."""
    text = STORY * draw.randrange(1, 12) + str(draw.random())
    body = {"prompt": text, "max_tokens": draw.randrange(1, 60)}
    chat = {"messages": [{"role": "user", "content": text[:300]}], "max_tokens": body["max_tokens"]}
    # More schemas than are kept compiled.
    schema = {"type": "object", "required": ["name"], "additionalProperties": False, "properties": {
        "name": {"type": "string", "maxLength": draw.randrange(1, 200)}, "large": {"type": "boolean"}}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": schema}}
    unending = {"max_tokens": 200, "ignore_eos": True, "stream": True}
    kinds = {
        "whole": ("/v1/completions", body),
        "stream": ("/v1/completions", {**body, "stream": True}),
        "several": ("/v1/completions", {**body, "n": 3, "prompt": [text, "Once"]}),
        "logprobs": ("/v1/completions", {**body, "echo": True, "logprobs": 5}),
        "suffix": ("/v1/completions", {**body, "suffix": "The end."}),
        "infill": ("/infill", {"input_prefix": text, "input_suffix": "The end.", "n_predict": 9}),
        "score": ("/score", {"query": text, "labels": [" whale", " little table"]}),
        "tokenize": ("/tokenize", {"prompt": text}),
        "wrong value": ("/v1/completions", {**body, "temperature": draw.choice((9, "x", []))}),
        "leaves": ("/v1/completions", {**body, **unending}),
        "metrics": ("/metrics", None)}
    if chats:
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
        kinds.update({
            "chat": ("/v1/chat/completions", chat),
            "chat stream": ("/v1/chat/completions", {**chat, "stream": True}),
            "chat leaves": ("/v1/chat/completions", {**chat, **unending}),
            "schema": ("/v1/chat/completions", {**chat, "response_format": form}),
            "tools": ("/v1/chat/completions", {**chat, "tools": [tool], "tool_choice": "required",
                                               "stream": draw.random() < 0.5}),
            "wrong schema": ("/v1/chat/completions", {**chat, "response_format": {
                **form, "json_schema": {**form["json_schema"], "schema": {"not": {}}}}})})
    kind = draw.choice(list(kinds))
    return kind, *kinds[kind]


async def part_soak(server, options):
    """Requests of every kind by eight clients without end; what they leave is sampled each minute.
    The first quarter warms up: compiled forms, and the prefix cache's memory. From the second to the
    last the resident memory may grow by --growth MB."""
    draw, counts, end = random.Random(19), {}, time.monotonic() + options.seconds
    status, _ = await ask(server, head("POST", "/v1/chat/completions", json.dumps(
        {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}).encode()))
    chats = status == 200

    async def client():
        while time.monotonic() < end:
            kind, path, body = soak_request(draw, chats)
            counts[kind] = counts.get(kind, 0) + 1
            message = (head("GET", path) if body is None
                       else head("POST", path, json.dumps(body).encode()))
            if body is None or not body.get("stream"):
                status, answer = await ask(server, message, timeout=600)
                assert status == (400 if "wrong" in kind else 200), (kind, status, answer)
                continue
            reader, writer = await connect(server)
            writer.write(message)
            top = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in top[:20], top
            if "leaves" in kind:
                await asyncio.sleep(draw.random() * 0.2)
            else:
                await asyncio.wait_for(reader.readuntil(b"data: [DONE]"), 600)
            writer.transport.abort()

    async def sample():
        begin, interval = time.monotonic(), min(60, options.seconds / 40)
        while time.monotonic() < end:
            blocks = (await metrics(server))["kv_cache_usage_perc"]
            samples.append({"s": round(time.monotonic() - begin), **server.holds(),
                            "requests": sum(counts.values()), "blocks_used": round(blocks, 3)})
            print(json.dumps(samples[-1]), file=sys.stderr, flush=True)
            await asyncio.sleep(interval)

    samples, before = [], server.holds()
    await asyncio.gather(sample(), *[client() for _ in range(8)])
    assert await settled(server), await metrics(server)
    await asyncio.sleep(1)
    after = server.holds()
    result = {"requests": sum(counts.values()), "kinds": dict(sorted(counts.items())),
              "before": before, "after": after,
              "memory_mb": [one["memory_mb"] for one in samples]}
    quarter = len(samples) // 4
    growth = max(result["memory_mb"][-quarter:]) - max(result["memory_mb"][quarter:2 * quarter])
    result["growth_mb"] = round(growth, 1)
    if growth > options.growth:
        result["failed"] = f"memory grew by {growth:.1f} MB"
    if after["threads"] != before["threads"] or after["sockets"] > before["sockets"]:
        result["failed"] = "threads or sockets were left behind"
    return result


async def run(server, options):
    failures = 0
    for name in options.only or ("load", "aborts", "keystrokes", "rude", "quiet"):
        begin, result = time.monotonic(), {"part": name}
        try:
            result.update(await globals()["part_" + name](server, options))
            failures += "failed" in result
        except (AssertionError, RuntimeError, OSError, asyncio.TimeoutError) as error:
            failures += 1
            result["failed"] = f"{type(error).__name__}: {error}"
        result["seconds"] = round(time.monotonic() - begin, 1)
        print(json.dumps(result), flush=True)
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("model")
    for name, default in (("idle", 1000), ("streams", 64), ("aborts", 10000), ("keystrokes", 200),
                          ("seconds", 20), ("prompt", 16), ("tokens", 32),
                          ("max-decode-wait", 250)):
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--growth", type=float, default=4)
    parser.add_argument("--serve", default="")
    parser.add_argument("--chat", action="store_true",
                        help="give the model a chat template; for one that has none")
    parts = sorted(name.removeprefix("part_") for name in globals() if name.startswith("part_"))
    parser.add_argument("--only", action="append", choices=parts)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with tempfile.TemporaryDirectory() as folder:
        model, folder = options.model, pathlib.Path(folder)
        if options.chat:
            (folder / "chat").mkdir()
            model = chat_model(model, folder / "chat", "deepseek-v2")
        ledger = (["--database", str(folder / "ledger.db")] if options.only == ["soak"]
                  else ["--no-ledger"])
        server = Server(options.program, model, *ledger, "--max-decode-wait",
                        str(options.max_decode_wait), *shlex.split(options.serve))
        try:
            failures = asyncio.run(run(server, options))
            if server.process.poll() is not None:
                print("the server is gone")
                failures += 1
        finally:
            code = server.stop()
    return 1 if failures or code != 0 else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""What editors' extensions send, replayed, and their answers read as they read them.

  tests/server/editor_requests.py BALEEN MODEL

No editor runs here. The requests, field by field, are those of the extensions' own sources, which
were run against the server by hand, with a stand-in for the editor:

  llama.vscode 3938fb3 (2026-08): completion with its ring of chunks, edits, chat, agent, health
  Continue d0a3c0b (2026-06): completion by its provider "deepseek", chat by "openai"

Needs tests/server/requirements.txt; exits 77 if that is not installed. Prints a line a check in
GoogleTest's manner. Where something is drawn a `seed` is added, so that luck decides nothing.
"""
import json
import sys

from endpoints import post, request, tokenize
from harness import Server, chat_model, name, run_suite

PREFIX = "Once upon a time there was a whale.\nShe was very big.\n"
SUFFIX = "\n\nThe end.\n"
# As a chunk of another file that the extension has seen.
CHUNK = {"text": "Lily had a dog.\nThe dog was brown.\nIt liked to run.\n" * 6, "time": 1795841551401,
         "filename": "story.txt"}
COMPLETE = {"id_slot": 0, "input_prefix": PREFIX, "input_suffix": SUFFIX, "input_extra": [],
            "prompt": "One day", "n_predict": 40, "n_cmpl": 3, "top_k": 40, "top_p": 0.99,
            "stream": False, "samplers": ["top_k", "top_p", "infill"], "cache_prompt": True,
            "n_indent": 4, "t_max_prompt_ms": 500, "t_max_predict_ms": 500, "seed": 1}
TOOL = {"type": "function", "function": {
    "name": "run_terminal_command", "description": "Runs a command", "strict": True,
    "parameters": {"type": "object", "required": ["command"], "properties": {
        "command": {"type": "string", "description": "the command"}}}}}


def check_vscode_completion(server):
    """A list of alternatives; the first is what a single one would be."""
    status, _, answers = post(server, "/infill", COMPLETE)
    assert status == 200 and len(answers) == 3, answers
    assert all(answer["content"] and answer["timings"]["predicted_n"] for answer in answers)
    alone = post(server, "/infill", {**COMPLETE, "n_cmpl": 1})[2]
    assert answers[0]["content"] == alone["content"]
    assert len({answer["content"] for answer in answers}) == 3, "alternatives are the same"
    # With a temperature or without, what follows a new line without the indentation is cut.
    for answer in (alone, *answers):
        assert all(not line or line.startswith("    ")
                   for line in answer["content"].split("\n")[1:]), answer


def check_vscode_warm_up(server):
    """Its ring of chunks, sent ahead, is found by the completion behind it."""
    warm = {"id_slot": 0, "input_prefix": "", "input_suffix": "", "input_extra": [CHUNK],
            "prompt": "", "n_predict": 0, "samplers": [], "cache_prompt": True,
            "t_max_prompt_ms": 500, "t_max_predict_ms": 1}
    status, _, answer = post(server, "/infill", warm)
    assert status == 200 and answer["content"] == "" and answer["tokens_predicted"] == 0, answer
    # 64 tokens are a block, and only whole ones are found again.
    known = len(tokenize(server, "\n\n--- snippet ---\n\n" + CHUNK["text"]))
    assert known >= 64
    with_chunk = post(server, "/infill", {**COMPLETE, "n_cmpl": 1, "input_extra": [CHUNK]})[2]
    assert with_chunk["tokens_cached"] >= (known // 64) * 64 > 0, with_chunk


def check_vscode_health(server):
    status, headers, answer = request(server, "GET", "/health")
    assert status == 200 and answer == {"status": "ok"}, answer
    assert headers["Content-Type"].startswith("application/json")


def check_vscode_chat(chat):
    for body in (
            {"messages": [{"role": "system", "content": "You are an expert coder.\n"},
                          {"role": "user", "content": "Rename x in: x = 1"}],
             "stream": False, "cache_prompt": True, "temperature": 0.8, "top_p": 0.95},
            {"messages": [{"role": "system", "content": "You are an expert coder."},
                          {"role": "user", "content": "Hello"}],
             "stream": False, "temperature": 0.8}):
        status, _, answer = post(chat, "/v1/chat/completions", body)
        assert status == 200 and answer["choices"][0]["message"]["content"] is not None, answer


def check_vscode_agent(chat):
    """It reads the context's size, counts its own text, and streams; lines that are no data are
    passed over, and arguments are put together."""
    models = request(chat, "GET", "/v1/models")[2]["data"]
    assert models[0]["context_length"] == 512
    counted = post(chat, "/tokenize", {"content": "One day", "add_special": False,
                                       "parse_special": True})
    assert counted[0] == 200 and counted[2]["tokens"] == tokenize(chat, "One day")
    # For an exact count of what is said it asks for the text that the model is given.
    messages = [{"role": "system", "content": "You are an agent."},
                {"role": "user", "content": "List files"}]
    text = post(chat, "/apply-template", {"messages": messages})[2]["prompt"]
    assert text == ("<｜begin▁of▁sentence｜>You are an agent.\n\nUser: List files\n\n"
                    "Assistant:"), text
    ids = post(chat, "/tokenize", {"content": text, "add_special": False,
                                   "parse_special": True})[2]["tokens"]
    assert ids == post(chat, "/tokenize", {"messages": messages})[2]["tokens"]
    assert post(chat, "/apply-template", {"messages": []})[0] == 400
    for choice in ("auto", "required"):
        status, _, text = post(chat, "/v1/chat/completions", {
            "messages": messages, "stream": True, "tools": [TOOL], "tool_choice": choice, "seed": 1,
            "max_tokens": models[0]["context_length"] // 4})
        assert status == 200, text
        content, calls, reason = "", [], None
        payloads = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
        assert payloads[-1] == "[DONE]"
        for payload in payloads[:-1]:
            choices = json.loads(payload)["choices"]
            if not choices:
                continue
            delta, reason = choices[0]["delta"], choices[0]["finish_reason"] or reason
            content += delta.get("content") or ""
            for call in delta.get("tool_calls") or []:
                while len(calls) <= call["index"]:
                    calls.append({"name": "", "arguments": ""})
                for key in ("name", "arguments"):
                    calls[call["index"]][key] += call["function"].get(key) or ""
        assert reason in ("stop", "tool_calls", "length") and (content or calls)
        assert all(call["name"] == "run_terminal_command" for call in calls)
        assert calls or choice == "auto"


def check_continue_completion(server):
    """Each piece must have a choice with a text: it looks at nothing else."""
    body = {"model": name(server.client()), "prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 32,
            "temperature": 0.01, "stop": ["<|endoftext|>", "\n\n", "/src/", "```"], "stream": True}
    status, headers, text = post(server, "/beta/completions", body, {
        "Content-Type": "application/json", "Accept": "application/json",
        "Authorization": "Bearer none"})
    assert status == 200 and headers["Content-Type"].startswith("text/event-stream"), text
    pieces = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert pieces[-1] == "[DONE]"
    completion = "".join(json.loads(piece)["choices"][0]["text"] for piece in pieces[:-1])
    assert completion and "\n\n" not in completion


def check_continue_chat(chat):
    names = [model["id"] for model in request(chat, "GET", "/v1/models")[2]["data"]]
    status, _, text = post(chat, "/v1/chat/completions", {
        "messages": [{"role": "user", "content": "Hello"}], "model": names[0], "max_tokens": 24,
        "seed": 1, "stream": True, "stream_options": {"include_usage": True}})
    assert status == 200
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert "".join(event["choices"][0]["delta"].get("content") or ""
                   for event in events if event["choices"])
    assert events[-1]["usage"]["completion_tokens"] <= 24


def checks_of(program, model, folder):
    (folder / "chat").mkdir()
    server = Server(program, model, "--no-ledger", "--force-fim")
    chat = Server(program, chat_model(model, folder / "chat", "deepseek-v2"), "--no-ledger")
    return [(check, server) for check in (
        check_vscode_completion, check_vscode_warm_up, check_vscode_health,
        check_continue_completion)] + [(check, chat) for check in (
            check_vscode_chat, check_vscode_agent, check_continue_chat)] + [
                (lambda s: s.stop(), server), (lambda s: s.stop(), chat)]


if __name__ == "__main__":
    sys.exit(run_suite("EditorRequests", __doc__, checks_of))

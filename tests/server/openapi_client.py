#!/usr/bin/env python3
"""What /openapi.json says of requests and answers, held against the server by schemathesis.

  tests/server/openapi_client.py BALEEN MODEL [--seconds 20] [--seed 1]

The document is valid OpenAPI. Requests are made from it: some that it allows, some that it forbids.
No answer may be a 5xx, a request that it forbids must be refused, and each answer has the status,
type, headers and body that it gives, and no field more. (That what it allows is accepted cannot be
asked: a token id may be none of this vocabulary's, a text too long for this context.)
Needs tests/server/requirements-openapi.txt; exits 77 if that is not installed. Prints a line a check
in GoogleTest's manner.
"""
import argparse
import copy
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.request

from harness import Server, chat_model, run_checks

try:
    import openapi_spec_validator
    import schemathesis
except ImportError:
    print("schemathesis is not installed (tests/server/requirements-openapi.txt)")
    sys.exit(77)

# Answers are kept short: what is asked is not how fast the model is.
HOOKS = '''
import schemathesis

MOST = {"max_tokens": 4, "n_predict": 4, "n": 2, "best_of": 2, "n_cmpl": 2}

@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict):
        for name in ("max_tokens", "n_predict"):
            if body.get(name) is None:
                body[name] = MOST[name]
        for name, most in MOST.items():
            value = body.get(name)
            if type(value) is int and most < value <= (16 if name == "n_cmpl" else 128):
                body[name] = most
    return body
'''


def closed(document):
    """The document with answers that have no fields but those described."""
    document = copy.deepcopy(document)

    def close(value):
        if isinstance(value, list):
            for item in value:
                close(item)
        if not isinstance(value, dict):
            return
        if "$ref" in value:
            target = document
            for step in value["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            if "closed" not in target:
                target["closed"] = True
                close(target)
            return
        if "properties" in value:
            value.setdefault("additionalProperties", False)
        for item in value.values():
            close(item)

    for item in document["paths"].values():
        for operation in item.values():
            close(operation["responses"])
    for part in ("schemas", "responses", "headers"):
        for value in document["components"][part].values():
            value.pop("closed", None)
    return document


def run_schemathesis(server, document, folder, seconds, seed, *flags):
    """(exit code, what it says)"""
    (folder / "document.json").write_text(json.dumps(document))
    (folder / "baleen_hooks.py").write_text(HOOKS)
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "baleen_hooks", "PYTHONPATH": str(folder)}
    command = [pathlib.Path(sys.executable).parent / "schemathesis", "--no-color", "run",
               str(folder / "document.json"), "--url", server.url.removesuffix("/v1"),
               "--phases", "fuzzing", "--max-time", str(seconds), "--max-examples", "20",
               "--seed", str(seed), "--exclude-checks", "positive_data_acceptance",
               "--continue-on-failure", "--no-shrink", "--generation-database", "none",
               "--warnings", "off", "--request-timeout", "20", "--output-sanitize", "false", *flags]
    done = subprocess.run(command, env=environment, cwd=folder, check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds + 60)
    return done.returncode, done.stdout


def check_is_valid_openapi(document):
    openapi_spec_validator.validate(document)
    broken = copy.deepcopy(document)
    del broken["info"]["title"]
    try:
        openapi_spec_validator.validate(broken)
    except Exception:  # pylint: disable=broad-except
        return
    raise AssertionError("a document without a title passed")


def check_server_is_as_described(server, document, folder, seconds, seed):
    code, said = run_schemathesis(server, closed(document), folder, seconds, seed)
    generated = int((re.search(r"(\d+) generated", said) or [0, 0])[1])
    assert code == 0 and generated >= 20, said
    print(f"{generated} requests")


def check_planted_faults_are_seen(server, document, folder, seed):
    """A field that answers do not have, one that is not described, and something to
    be stated that the server does without."""
    lacking, more, stricter = closed(document), closed(document), closed(document)
    lacking["components"]["schemas"]["Model"]["required"].append("price")
    del more["components"]["schemas"]["Model"]["properties"]["root"]
    more["components"]["schemas"]["Model"]["required"].remove("root")
    body = stricter["paths"]["/tokenize"]["post"]["requestBody"]["content"]["application/json"]
    body["schema"]["required"] = ["reason"]
    for planted, path, complaint in (
            (lacking, "/v1/models", "price"), (more, "/v1/models", "root"),
            (stricter, "/tokenize", "should have been rejected")):
        code, said = run_schemathesis(server, planted, folder, 10, seed, "--phases", "coverage",
                                      "--include-path", path)
        assert code == 1 and complaint in said, (complaint, said)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"schemathesis {schemathesis.__version__}")
    with tempfile.TemporaryDirectory() as scratch:
        model, folder = pathlib.Path(scratch, "chat"), pathlib.Path(scratch, "run")
        model.mkdir()
        folder.mkdir()
        server = Server(options.program, chat_model(options.model, model), "--force-fim",
                        "--database", str(folder / "ledger.db"))
        with urllib.request.urlopen(server.url.removesuffix("/v1") + "/openapi.json") as answer:
            document = json.load(answer)
        return run_checks("OpenApi", [
            (check_is_valid_openapi, document),
            (check_server_is_as_described, server, document, folder, options.seconds, options.seed),
            (check_planted_faults_are_seen, server, document, folder, options.seed),
            (server.stop,)])


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""lm-eval's `local-completions` over `baleen serve` says what `baleen evaluate` says.

  tests/server/lm_eval_scores.py BALEEN MODEL

A perplexity of a text that fits the context: lm-eval's rolling loglikelihood over the HTTP API,
by `echo` and `logprobs`, against `baleen evaluate --task perplexity`; and a multiple-choice task,
against `/score`. Needs tests/server/requirements-lm-eval.txt; exits 77 without. Nothing is fetched
from anywhere: the tasks are written here.
"""
import json
import os
import subprocess
import sys

os.environ.update({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})
try:
    import lm_eval
    from lm_eval.tasks import TaskManager
except ImportError:
    print("lm-eval is not installed (tests/server/requirements-lm-eval.txt)")
    sys.exit(77)

from harness import Server, run_suite
from endpoints import post

TEXT = ("Once upon a time there was a little whale who lived in the big blue sea. Every day she "
        "sang to her friends, and every night she slept near the shore. One day a small boat came "
        "by. \"Hello,\" said the boy in it. \"Do you want to play?\" The whale was very happy.")
# Some whose answer the model should know, some at random.
QUESTIONS = [
    {"query": "Once upon a", "choices": [" time", " table", " purple"], "gold": 0},
    {"query": "The dog likes to", "choices": [" play", " therefore", " blue"], "gold": 0},
    {"query": "She was very", "choices": [" upon", " happy", " the"], "gold": 1},
    {"query": "They went to the", "choices": [" is", " park", " said"], "gold": 1},
    {"query": "He said, \"I am", "choices": [" window", " zebra", " sorry"], "gold": 2},
]

PERPLEXITY_TASK = """
task: baleen_rolling
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - metric: bits_per_byte
"""
CHOICE_TASK = """
task: baleen_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{query}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
target_delimiter: ""
metric_list:
  - metric: acc
"""


def evaluate(server, folder, task, text, rows):
    data = folder / f"{task}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / f"{task}.yaml").write_text(text.format(data=data))
    bos = post(server, "/tokenize", {"prompt": ""})[2]["tokens"][0]
    return lm_eval.simple_evaluate(
        model="local-completions", tasks=[task], bootstrap_iters=0, log_samples=True,
        model_args={"model": "", "base_url": server.url + "/completions", "max_length": 512,
                    "tokenizer_backend": "remote", "custom_prefix_token_id": bos,
                    "num_concurrent": 2},
        task_manager=TaskManager(include_path=str(folder), include_defaults=False))


def check_perplexity(program, model, server, folder):
    theirs = evaluate(server, folder, "baleen_rolling", PERPLEXITY_TASK, [{"text": TEXT}])
    file = folder / "text.txt"
    file.write_text(TEXT)
    ours = json.loads(subprocess.run(
        [program, "evaluate", model, "--task", "perplexity", "--file", str(file), "--json"],
        check=True, capture_output=True, text=True).stdout)
    got = theirs["results"]["baleen_rolling"]["bits_per_byte,none"]
    print(f"bits per byte: lm-eval {got:.6f}, baleen evaluate {ours['bits_per_byte']:.6f}")
    assert abs(got - ours["bits_per_byte"]) < 1e-4 * ours["bits_per_byte"]


def check_choices(program, model, server, folder):
    del program, model
    theirs = evaluate(server, folder, "baleen_choice", CHOICE_TASK, QUESTIONS)
    right = 0
    for sample in theirs["samples"]["baleen_choice"]:
        question = sample["doc"]
        ours = post(server, "/score", {"query": question["query"], "labels": question["choices"],
                                       "add_special_tokens": False})[2]["data"][0]
        got = [float(answer[0][0]) for answer in sample["resps"]]
        for a, b in zip(got, ours["label_logprobs"]):
            assert abs(a - b) < 1e-3, (question, got, ours["label_logprobs"])
        best = max(range(len(got)), key=ours["label_logprobs"].__getitem__)
        right += best == question["gold"]
    accuracy = theirs["results"]["baleen_choice"]["acc,none"]
    print(f"accuracy: lm-eval {accuracy}, /score {right / len(QUESTIONS)}")
    assert abs(accuracy - right / len(QUESTIONS)) < 1e-9
    assert 0 < right


def checks_of(program, model, folder):
    os.environ["HF_HOME"] = str(folder / "hf")
    server = Server(program, model, "--no-ledger", "--exact-reuse")
    return [(check, program, model, server, folder) for check in (check_perplexity, check_choices)
            ] + [(lambda s: s.stop(), server)]


if __name__ == "__main__":
    sys.exit(run_suite("LmEval", __doc__, checks_of))

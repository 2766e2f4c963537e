"""What the tests of `baleen serve` by real clients share: the server, a chat model, clients under
load, and a line a check in GoogleTest's manner. Needs tests/server/requirements.txt; exits 77 if
the openai package is not installed.
"""
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

try:
    import openai
except ImportError:
    print("the openai package is not installed (tests/server/requirements.txt)")
    sys.exit(77)

from chat_model import ROOT, chat_model  # for the tests that import this


class Server:
    """`log`: a file that gets what the server says."""

    def __init__(self, program, model, *flags, log=None):
        self.process = subprocess.Popen(
            [program, "serve", str(model), "--port", "0", *flags], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            found = re.search(r"listens on (https?://\S+)", line)
            if found:
                self.url = found[1]
                break
        else:
            raise RuntimeError("the server did not start")
        self.reader = threading.Thread(target=self.read_rest, args=(log,), daemon=True)
        self.reader.start()

    def read_rest(self, log):
        for line in self.process.stderr:
            if log:
                log.write(line)

    def client(self, key="none"):
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=60)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, "SIGTERM must end the server with exit code 0"
        self.reader.join(10)

    def kill(self):
        self.process.kill()
        self.process.wait(60)


def name(client):
    return client.models.list().data[0].id


class Load:
    """Six clients that ask without end. What they saw end is in `seen`: (id, tokens)."""

    def __init__(self):
        self.seen, self.refused, self.threads = [], [], []

    def start(self, server):
        self.threads = [threading.Thread(target=self.ask, args=(server, i)) for i in range(6)]
        for thread in self.threads:
            thread.start()

    def ask(self, server, number):
        client = server.client()
        while True:
            try:
                answer = client.completions.create(model=name(client), prompt="One day", seed=number,
                                                   max_tokens=1 + number)
                self.seen.append((answer.id, answer.usage.completion_tokens))
            except openai.APIStatusError as error:
                self.refused.append(error.status_code)
                time.sleep(0.02)
            except openai.APIConnectionError:
                return

    def wait_for(self, count, seconds):
        """So many more answers; a busy machine takes its time. Returns whether they came."""
        before, end = len(self.seen), time.monotonic() + seconds
        while len(self.seen) < before + count and time.monotonic() < end:
            time.sleep(0.01)
        return len(self.seen) >= before + count

    def join(self):
        for thread in self.threads:
            thread.join()

    def check_ledger(self, rows, num_kills):
        """`rows`: tokens by id. All that was seen is there, and once; beside it at most what was
        written before a kill and not yet sent."""
        missing = [(i, tokens) for i, tokens in self.seen if rows.get(i) != tokens]
        assert not missing, missing
        assert len({i for i, _ in self.seen}) == len(self.seen) > 20
        assert len(rows) - len(self.seen) <= 6 * num_kills, (len(rows), len(self.seen))


class Skipped(Exception):
    """What a check needs is not here."""


def run_checks(suite, checks):
    """`checks`: (function, argument...). Prints a line each, as GoogleTest does; returns 0 or 1."""
    failures = 0
    for check, *arguments in checks:
        title = f"{suite}.{check.__name__.replace('<lambda>', 'stop')}"
        print(f"[ RUN      ] {title}", flush=True)
        begin, verdict = time.monotonic(), "      OK"
        try:
            check(*arguments)
        except Skipped as reason:
            verdict = " SKIPPED "
            print(f"Skipped: {reason}")
        except Exception as error:  # pylint: disable=broad-except
            verdict = " FAILED "
            failures += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"Failure: {type(error).__name__}: {error} (line {where.lineno}: {where.line})")
        milliseconds = int(1000 * (time.monotonic() - begin))
        print(f"[{verdict:>9} ] {title} ({milliseconds} ms)", flush=True)
    return 1 if failures else 0


def run_suite(suite, usage, checks_of):
    """`checks_of`(program, model, folder): the checks of a program that is called so."""
    if len(sys.argv) != 3:
        print(usage)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        return run_checks(suite, checks_of(*sys.argv[1:], pathlib.Path(scratch)))

#!/usr/bin/env python3
"""What several customers of one server may rely on, whatever the others do and the disk does.

  tests/server/customers.py BALEEN MODEL

Needs tests/server/requirements.txt; exits 77 if that is not installed. Prints a line a check in
GoogleTest's manner.
"""
import concurrent.futures
import os
import pathlib
import sqlite3
import subprocess
import sys
import threading
import time

from endpoints import post
from harness import Server, Skipped, run_suite

BODY = {"prompt": "The dog and the cat. " * 20, "max_tokens": 2, "temperature": 0}


def key_of(program, database, name):
    secret = subprocess.run([program, "keys", "add", name, "--database", database], check=True,
                            text=True, capture_output=True).stdout.strip()
    return {"Authorization": "Bearer " + secret}


def check_no_prefix_is_shared(program, model, folder):
    """What one key has in the cache another does not find: how fast an answer comes would tell what
    others ask. Within a key, `user_id` and `cache_salt` narrow further."""
    database = str(folder / "apart.db")
    alice, bob = (key_of(program, database, name) for name in ("alice", "bob"))
    server = Server(program, model, "--database", database)

    def cached(key, **more):
        status, _, answer = post(server, "/v1/completions", {**BODY, **more}, key)
        assert status == 200, answer
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    try:
        assert cached(alice) == 0 and cached(alice) >= 64
        assert cached(bob) == 0 and cached(bob) >= 64
        for more in ({"user_id": "u1"}, {"user_id": "u2"}, {"cache_salt": "s"}):
            assert cached(alice, **more) == 0, more
            assert cached(alice, **more) >= 64, more
        assert cached(bob, user_id="u1") == 0
    finally:
        server.stop()


def check_no_key_starves_another(program, model, folder):
    """200 requests of one key wait; one of another is answered among the next few."""
    database = str(folder / "shares.db")
    alice, bob = (key_of(program, database, name) for name in ("alice", "bob"))
    server = Server(program, model, "--database", database, "--max-sequences", "2")
    body = {"prompt": "Once", "max_tokens": 4, "ignore_eos": True}
    ended, lock = 0, threading.Lock()

    def ask(_):
        nonlocal ended
        status, _, answer = post(server, "/v1/completions", body, alice)
        assert status == 200, answer
        with lock:
            ended += 1

    try:
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            asked = [pool.submit(ask, i) for i in range(200)]
            while ended < 5:
                time.sleep(0.005)
            before = ended
            assert post(server, "/v1/completions", body, bob)[0] == 200
            among = ended - before
            for future in asked:
                future.result()
        print(f"the other key's answer came after {among} of {200 - before}")
        assert among <= 20, among
    finally:
        server.stop()


def check_full_disk(program, model, folder):
    """Who cannot be billed is not answered; what was answered is in the ledger, once; and when there
    is room again the server goes on by itself."""
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False,
                      capture_output=True).returncode != 0:
        raise Skipped("no small disk could be mounted")
    try:
        server = Server(program, model, "--database", str(disk / "ledger.db"))
        seen, statuses = [], []

        def ask(count):
            for _ in range(count):
                status, _, answer = post(server, "/v1/completions", BODY)
                statuses.append(status)
                if status == 200:
                    seen.append((answer["id"], answer["usage"]["completion_tokens"]))

        try:
            ask(3)
            assert statuses == [200] * 3, statuses
            filler = disk / "filler"
            with open(filler, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"x" * 4096)
                except OSError:
                    pass
            for _ in range(200):  # the log's pages that are there already are written first
                ask(1)
                if statuses[-1] != 200:
                    break
            ask(3)
            assert statuses[-4:] == [500] * 4, statuses[-5:]
            assert post(server, "/tokenize", {"prompt": "a"})[0] == 200
            os.unlink(filler)
            ask(5)
            assert statuses[-5:] == [200] * 5, statuses[-5:]
        finally:
            server.stop()
        with sqlite3.connect(disk / "ledger.db") as connection:
            rows = connection.execute("SELECT id, completion_tokens FROM requests").fetchall()
        assert sorted(rows) == sorted(seen), (len(rows), len(seen))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def checks_of(program, model, folder):
    return [(check, program, model, pathlib.Path(folder)) for check in (
        check_no_prefix_is_shared, check_no_key_starves_another, check_full_disk)]


if __name__ == "__main__":
    sys.exit(run_suite("Customers", __doc__, checks_of))

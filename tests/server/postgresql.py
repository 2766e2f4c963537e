#!/usr/bin/env python3
"""Keys and the ledger in a real PostgreSQL, and kill -9 of the server and of the database.

  tests/server/postgresql.py BALEEN MODEL FOLDER

Makes a database cluster of its own in FOLDER, as the user "nobody" when run as root (PostgreSQL
refuses root), on a socket in that folder; exits 77 if it cannot. Prints a line a check in
GoogleTest's manner.
"""
import glob
import os
import pathlib
import pwd
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from openai_client import Server, name, openai, run_checks


class Cluster:
    def __init__(self, folder):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
        if not found:
            raise RuntimeError("PostgreSQL is not installed (apt-get install postgresql)")
        self.bin = pathlib.Path(found[-1]).parent
        # A socket's path must be short.
        self.socket = pathlib.Path(tempfile.mkdtemp(prefix="baleen-pg-"))
        self.folder = pathlib.Path(folder).resolve()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.user = None
        if os.geteuid() == 0:
            self.user = pwd.getpwnam("nobody")
            for path in (self.folder, self.socket):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
            data = subprocess.run(["test", "-w", self.folder], user=self.user.pw_uid,
                                  group=self.user.pw_gid, check=False)
            if data.returncode != 0:  # beneath a home that is closed to others
                self.folder = self.socket / "data"
        self.run("initdb", "--auth=trust", "--username=baleen", "--no-sync", "-D", self.data)
        self.start()
        self.run("createdb", "-h", self.socket, "-U", "baleen", "ledger")
        self.url = f"postgresql://baleen@/ledger?host={self.socket}"

    @property
    def data(self):
        return self.folder / "cluster"

    def run(self, command, *arguments):
        who = {} if self.user is None else {"user": self.user.pw_uid, "group": self.user.pw_gid,
                                            "extra_groups": []}
        done = subprocess.run([self.bin / command, *arguments], capture_output=True, text=True,
                              check=False, cwd="/", **who)
        if done.returncode != 0:
            raise RuntimeError(f"{command}: {done.stderr.strip()}")

    def start(self):
        self.run("pg_ctl", "-D", self.data, "-w", "-l", self.folder / "log", "-o",
                 f"-k {self.socket} -c listen_addresses=''", "start")

    def crash(self):
        """As a machine's end would."""
        pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGQUIT)
        while os.path.exists(f"/proc/{pid}"):
            time.sleep(0.05)

    def query(self, sql):
        return subprocess.run(["psql", "-h", self.socket, "-U", "baleen", "-At", "-F", "\t", "-c",
                               sql, "ledger"], check=True, capture_output=True,
                              text=True).stdout.splitlines()

    def stop(self):
        self.run("pg_ctl", "-D", self.data, "-m", "immediate", "stop")
        shutil.rmtree(self.socket, ignore_errors=True)


def check_keys(program, model, cluster):
    def baleen(*arguments):
        return subprocess.run([program, *arguments, "--database", cluster.url], check=True, text=True,
                              capture_output=True).stdout.strip()
    key = baleen("keys", "add", "alice", "--requests-per-minute", "2")
    server = Server(program, model, "--database", cluster.url)
    try:
        client = server.client(key)
        for _ in range(2):
            client.completions.create(model=name(client), prompt="Once", max_tokens=3)
        try:
            client.completions.create(model=name(client), prompt="Once", max_tokens=3)
            raise AssertionError("a third request in a minute was accepted")
        except openai.RateLimitError:
            pass
        baleen("keys", "revoke", "alice")
        baleen("keys", "add", "bob")
        time.sleep(1.2)
        try:
            client.models.list()
            raise AssertionError("a revoked key was accepted")
        except openai.AuthenticationError:
            pass
    finally:
        server.stop()
    assert "alice" in baleen("usage")
    assert cluster.query("SELECT action FROM key_changes ORDER BY id") == ["add", "revoke", "add"]
    for change in ("DELETE FROM key_changes", "UPDATE key_changes SET name = 'x'",
                   "TRUNCATE key_changes"):
        try:
            cluster.query(change)
            raise AssertionError(f"{change} was done")
        except subprocess.CalledProcessError as error:
            assert "only grows" in error.stderr
    baleen("keys", "revoke", "bob")


def check_kills(program, model, cluster):
    """What clients saw end is there, once, however server and database were ended."""
    seen, failed = [], []

    def client_loop(url, number):
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
        while True:
            try:
                answer = client.completions.create(model=name(client), prompt="One day", seed=number,
                                                   max_tokens=1 + number)
                seen.append((answer.id, answer.usage.completion_tokens))
            except openai.APIStatusError as error:
                failed.append(error.status_code)  # 500: could not be accounted for
                time.sleep(0.02)
            except openai.APIConnectionError:
                return

    for round_number in range(4):
        server = Server(program, model, "--database", cluster.url)
        clients = [threading.Thread(target=client_loop, args=(server.url, i)) for i in range(6)]
        for client in clients:
            client.start()
        before, end = len(seen), time.monotonic() + 60
        while len(seen) < before + 6 and time.monotonic() < end:  # a busy machine takes its time
            time.sleep(0.01)
        time.sleep(0.3 * random.random())
        if round_number % 2:
            cluster.crash()
            time.sleep(0.3)
            cluster.start()
            # The server finds it again by itself.
            before, end = len(seen), time.monotonic() + 20
            while len(seen) < before + 5 and time.monotonic() < end:
                time.sleep(0.05)
            assert len(seen) >= before + 5, "the server did not come back to its database"
        server.kill()
        for client in clients:
            client.join()
    rows = dict(line.split("\t") for line in
                cluster.query("SELECT id, completion_tokens FROM requests WHERE api_key = ''"))
    missing = [answer for answer in seen if rows.get(answer[0]) != str(answer[1])]
    assert not missing, missing
    assert len({i for i, _ in seen}) == len(seen) > 20
    # Written, and killed before the answer went out: at most what ran at a kill.
    assert len(rows) - len(seen) <= 6 * 6, (len(rows), len(seen))
    total = sum(count for _, count in seen)
    print(f"{len(seen)} answers of {total} tokens seen, {len(rows)} rows, "
          f"{len(failed)} refused while the database was down")
    assert set(failed) <= {500}


def main():
    if len(sys.argv) != 4:
        print(__doc__)
        return 2
    program, model, folder = sys.argv[1:]
    try:
        cluster = Cluster(folder)
    except (RuntimeError, OSError, KeyError) as error:
        print(f"no PostgreSQL could be started: {error}".replace("\n", " "))
        return 77
    try:
        return run_checks("Postgresql", [(check_keys, program, model, cluster),
                                         (check_kills, program, model, cluster)])
    finally:
        cluster.stop()


if __name__ == "__main__":
    sys.exit(main())

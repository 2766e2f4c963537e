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
import time

from harness import Load, Server, name, openai, run_checks


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
    load = Load()
    for round_number in range(4):
        server = Server(program, model, "--database", cluster.url)
        load.start(server)
        load.wait_for(6, 60)
        time.sleep(0.3 * random.random())
        if round_number % 2:
            cluster.crash()
            time.sleep(0.3)
            cluster.start()
            assert load.wait_for(5, 20), "the server did not come back to its database"
        server.kill()
        load.join()
    rows = [line.split("\t") for line in
            cluster.query("SELECT id, completion_tokens FROM requests WHERE api_key = ''")]
    load.check_ledger({i: int(tokens) for i, tokens in rows}, 4 + 2)
    print(f"{len(load.seen)} answers of {sum(count for _, count in load.seen)} tokens seen, "
          f"{len(rows)} rows, {len(load.refused)} refused while the database was down")
    assert set(load.refused) <= {500}  # they could not be accounted for


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

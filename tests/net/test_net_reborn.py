#!/usr/bin/env python3
"""The end of all services at once: nobody is left who holds a descriptor, connections are over. Programs that were
running notice it as resets, burn no CPU meanwhile, and serve again, at the same addresses, when new services are there;
nobody starts them anew. nginx (master and worker, and its reload afterwards), redis-server, a threaded Python server, a
program that binds while there is no stack."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from netns import ProgramFailed  # noqa: E402
from stack import SERVICES, STACK4  # noqa: E402
from wait import hold, wait_for  # noqa: E402

ECHO = os.path.join(sys.path[0], "echo.py")
SIZE = 1_000_000
TICKS_MAX = 50  # of user and system time over a second
LATE = """
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
print("socket", flush=True)
input()
print("binds", flush=True)
s.bind((sys.argv[1], int(sys.argv[2])))
s.listen()
print("listens", flush=True)
while True:
    c, _ = s.accept()
    c.sendall(b"late\\n")
    c.close()
"""


def family(pid):
    """pid and its children."""
    found = [pid]
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as f:
                if int(f.read().rpartition(")")[2].split()[1]) in found:
                    found.append(int(entry))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def ticks(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            fields = f.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total


class Reborn(netcase.NetCase):
    port = 9600

    @classmethod
    def prepare(cls):
        cls.lab.start_unsupervised()
        cls.root = cls.lab.world.data_dir
        cls.sha = programs.random_file(os.path.join(cls.root, "file"), SIZE)

    def setUp(self):
        super().setUp()
        type(self).port += 10

    def kill_all(self):
        """All four, so close to each other that none has its vault filled again."""
        for name in SERVICES:
            self.lab.services[name].kill()
        for name in SERVICES:
            self.lab.services[name].wait(60)

    def assert_idle(self, programs_):
        """None of them spins while the stack is away."""
        pids = [pid for p in programs_ for pid in family(p.popen.pid)]
        before = ticks(pids)
        self.assertTrue(hold(1.0, lambda: all(p.alive() for p in programs_)), [p.output() for p in programs_])
        used = ticks(pids) - before
        print(f"{len(pids)} processes: {used} ticks in a second without a stack")
        self.assertLess(used, TICKS_MAX)

    def reborn(self, *running):
        self.kill_all()
        self.assert_idle(running)
        self.lab.start_unsupervised()

    def try_peer(self, argv, expect=None):
        """The program in the peer succeeds before long."""
        got = []

        def works():
            done = self.lab.peer(argv, check=False)
            got[:] = [done.returncode, done.stdout[-200:], done.stderr[-200:]]
            return done.returncode == 0 and (expect is None or expect in done.stdout)
        try:
            wait_for(works, 40, "an answer", step=0.2)
        except TimeoutError as e:
            raise ProgramFailed(f"{e}: {got}\n{self.lab.log_tail()}{self.lab.programs_tail()}") from None

    def test_nginx(self):
        server = programs.nginx(self.lab, "app", self.root, self.port)
        url = f"http://{STACK4}:{self.port}/hello"
        curl = ["curl", "-sS", "--max-time", 10, url]
        for _ in range(2):
            self.try_peer(curl, b"hello")
            self.reborn(server)
            self.try_peer(curl, b"hello")
            programs.Transfer(self.lab, "app", "peer", "file", SIZE, self.port).finish(self.sha)
        server.popen.send_signal(1)  # reload: the master's own listener is passed on, too
        wait_for(lambda: "gracefully" in open(server.home + "/error.log", encoding="utf-8").read(), 20, "the reload")
        for _ in range(5):
            self.try_peer(curl, b"hello")
        self.assertTrue(server.alive())

    def test_redis_and_threads(self):
        redis = self.lab.spawn("app", ["redis-server", "--port", self.port, "--bind", STACK4, "--save", "", "--dir",
                                       self.lab.world.app_dir, "--protected-mode", "no"])
        echo = self.lab.spawn("app", [programs.PYTHON, "-u", ECHO, "serve", STACK4, self.port + 1])
        for port in (self.port, self.port + 1):
            self.lab.wait_listening(port)
        cli = ["timeout", 10, "redis-cli", "-h", STACK4, "-p", self.port]
        talk = ["timeout", 10, programs.PYTHON, ECHO, "talk", STACK4, self.port + 1, 10000, 2]
        self.assertIn(b"OK", self.lab.peer([*cli, "set", "k", "v"]).stdout)
        self.lab.peer(talk)
        self.reborn(redis, echo)
        self.try_peer([*cli, "get", "k"], b"v")
        self.try_peer(talk)

    def test_binds_without_a_stack(self):
        """bind() of a blocking socket waits for the broker, at most its time-out; EAGAIN is not Linux' answer."""
        late = self.lab.spawn("app", [programs.PYTHON, "-c", LATE, STACK4, self.port], stdin=-1)
        early = self.lab.spawn("app", [programs.PYTHON, "-u", ECHO, "serve", STACK4, self.port + 1])
        self.lab.wait_listening(self.port + 1)
        wait_for(lambda: "socket" in late.output(), 20, "a socket")
        broker = self.lab.services["broker"]
        broker.kill()
        broker.wait(60)
        late.popen.stdin.write(b"go\n")
        late.popen.stdin.flush()
        wait_for(lambda: "binds" in late.output() or not late.alive(), 20, "bind")
        self.assertTrue(hold(0.5, lambda: late.alive() and "listens" not in late.output()), late.output())
        self.lab.start_service("broker")
        self.lab.wait_listening(self.port)
        self.try_peer(["timeout", 10, "nc", STACK4, self.port], b"late")
        self.reborn(late, early)
        self.try_peer(["timeout", 10, "nc", STACK4, self.port], b"late")


if __name__ == "__main__":
    netcase.main()

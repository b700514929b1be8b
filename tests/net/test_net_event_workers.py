#!/usr/bin/env python3
"""event_workers.c on the real stack: one program, four worker threads under libevent, each listening on the same address
and port without SO_REUSEPORT; the kernel's TCP as the other host. Load, closing one of the listeners, bursts that leave
events behind, and kill -9 of each service."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from held import Held  # noqa: E402
from stack import SERVICES, STACK4  # noqa: E402
from wait import hold, wait_for  # noqa: E402

ECHO = os.path.join(sys.path[0], "echo.py")
WORKERS = 4
BURST = """
import os, socket, sys
held = [socket.create_connection((sys.argv[1], int(sys.argv[2])), 30) for _ in range(200)]
for turn in range(10):
    word = os.urandom(100)
    for s in held:
        s.sendall(word)
    for s in held:
        back = b""
        while len(back) < 100:
            back += s.recv(100 - len(back)) or sys.exit("end of file")
        if back != word:
            sys.exit("what came back is not what was sent")
print("equal")
"""


class EventWorkers(netcase.NativeCase):
    """One engine worker, unless HS_TEST_WORKERS says more."""

    PROGRAM = "event_workers"
    port = 7500

    def setUp(self):
        super().setUp()
        type(self).port += 1
        self.server = self.lab.spawn("app", self.native(self.port, WORKERS), stdin=-1)
        wait_for(lambda: "listening" in self.server.output() or not self.server.alive(), 20, "all workers listen")
        self.assertTrue(self.server.alive(), self.server.output())

    def say(self, line):
        """Accepted connections of each worker, after a command."""
        before = self.server.output().count("accepted")
        self.server.popen.stdin.write(line.encode() + b"\n")
        self.server.popen.stdin.flush()
        wait_for(lambda: self.server.output().count("accepted") > before or not self.server.alive(), 20, "an answer")
        self.assertTrue(self.server.alive(), self.server.output())
        return [int(n) for n in self.server.output().splitlines()[-1].split()[1:]]

    def end(self):
        self.server.popen.stdin.close()
        self.assertEqual(self.server.wait(60), 0)
        self.assertIn("over", self.server.output())

    def talk(self, size, count):
        done = self.lab.run("peer", [programs.PYTHON, ECHO, "talk", STACK4, self.port, size, count], 150)
        self.assertIn(b"equal", done.stdout)

    def test_load(self):
        """Connections are spread, bytes are right; one whole listener per worker is known to the broker."""
        churn = [self.lab.spawn("peer", [programs.PYTHON, ECHO, "churn", STACK4, self.port, 2]) for _ in range(2)]
        self.talk(2_000_000, 3)
        self.talk(1000, 40)
        for c in churn:
            self.assertEqual(c.wait(120), 0, c.output())
        counts = self.say("count")
        print(counts)
        self.assertGreater(min(counts), 0)
        self.assertEqual(sum(local.endswith(f":{self.port}") for local, _ in self.lab.listeners()), WORKERS)
        self.end()

    def test_burst(self):
        """More events than one batch takes: an edge comes again for the rest."""
        done = self.lab.run("peer", [programs.PYTHON, "-c", BURST, STACK4, self.port], 150)
        self.assertIn(b"equal", done.stdout)
        self.assertEqual(sum(self.say("count")), 200)
        self.end()

    def test_close_one(self):
        for gone in range(WORKERS - 1):
            before = self.say(f"close {gone}")
            wait_for(lambda n=gone: sum(local.endswith(f":{self.port}") for local, _ in self.lab.listeners())
                     == WORKERS - 1 - n, 20, "the broker knows")
            self.talk(1000, 30)
            after = self.say("count")
            self.assertEqual(after[:gone + 1], before[:gone + 1])
            self.assertEqual(sum(after), sum(before) + 30)
        self.end()


class ThreeEngineWorkers(EventWorkers):
    """Three engine workers for four app workers: each pair of them has rings of its own."""

    LAB = {"extra": "  workers: 3\n"}
    port = 7600
    test_close_one = None  # the same for any number of engine workers

    def test_restarts(self):
        """kill -9 of each service: held connections answer, new ones come to all workers."""
        held = Held(self.lab, "peer", STACK4, self.port, 40)
        for what in SERVICES:
            with self.subTest(what):
                before = self.say("count")
                churn = self.lab.spawn("peer", [programs.PYTHON, ECHO, "churn", STACK4, self.port, 1])
                self.assertTrue(hold(0.2, churn.alive), churn.output())
                self.lab.wait_service(what, self.lab.kill_service(what))
                self.assertEqual(churn.wait(120), 0, churn.output())
                held.ask()
                self.talk(1000, 40)
                self.assertTrue(all(a < b for a, b in zip(before, self.say("count"))))
        held.end()
        self.end()


if __name__ == "__main__":
    netcase.main()

#!/usr/bin/env python3
"""Accepted connections that go from thread to thread under load: with unread bytes, unsent bytes and their place in an
epoll set, over TCP and cut-through, while rings are thrown away and services are killed. Every byte is compared."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from stack import STACK4  # noqa: E402
from wait import wait_for  # noqa: E402

HANDED = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support", "handed.py")
THREADS, CONNECTIONS = 4, 16


class Handed(netcase.NetCase):
    port = 7800

    def disturb(self, what):
        if what == "reset-rings":
            self.lab.hsctl("reset-rings")
        elif what:
            self.lab.wait_service(what, self.lab.kill_service(what))

    def handed(self, client, disturbances):
        type(self).port += 1
        server = self.lab.spawn("app", [programs.PYTHON, "-u", HANDED, "serve", STACK4, self.port, THREADS])
        programs.wait_listening(self.lab, "app", self.port)
        load = self.lab.spawn(client, [programs.PYTHON, "-u", HANDED, "load", STACK4, self.port, CONNECTIONS], stdin=-1)
        wait_for(lambda: "open" in load.output() or not load.alive(), 30, "the connections")
        for number, what in enumerate(disturbances, 1):
            with self.subTest(what, client=client):
                self.disturb(what)
                load.popen.stdin.write(b"go\n")
                load.popen.stdin.flush()
                wait_for(lambda n=number: load.output().count("advanced") == n or not load.alive(), 25, "all to move on")
                self.assertTrue(load.alive(), load.output())
        before = server.output().count("]\n")
        load.popen.stdin.close()
        self.assertEqual(load.wait(60), 0, load.output())
        wait_for(lambda: server.output().count("]\n") > before, 10, "the server to say what it did")
        served = json.loads([line for line in server.output().splitlines() if line.startswith("[") and line.endswith("]")][-1])
        print(f"{client}: pieces served by each thread: {served}")
        pieces = len(disturbances) * CONNECTIONS * 20000 // 1000 // THREADS
        self.assertTrue(all(n >= pieces for n in served), (served, pieces))

    def test_tcp(self):
        self.handed("peer", (None, "reset-rings", "engine", "nicio", "broker"))

    def test_cut_through(self):
        self.handed("app", (None, "engine", "broker"))


if __name__ == "__main__":
    netcase.main()

#!/usr/bin/env python3
"""Connections outlive the process that made them, if another of its family holds them: a server whose parent is killed
while its children serve, over TCP and cut-through, and while services are killed; what the parent alone held ends."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from held import Held  # noqa: E402
from stack import STACK4  # noqa: E402
from wait import wait_for  # noqa: E402

CHILDREN = 15

# Hands the first connection to a child, which hands it to a child of its own and ends; keeps the second one itself.
HANDING = """
import os, socket, sys
l = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("pid", os.getpid(), flush=True)
given, _ = l.accept()
kept, _ = l.accept()
if os.fork() == 0:
    l.close()
    kept.close()
    if os.fork() != 0:
        os._exit(0)
    print("grandchild", flush=True)
    while data := given.recv(65536):
        given.sendall(data)
    given.close()
    os._exit(0)
given.close()
os.wait()
print("handed", flush=True)
while data := kept.recv(65536):
    kept.sendall(data)
"""


class Kin(netcase.NetCase):
    port = 7850

    def serve(self, *program):
        """A server that says its process id."""
        type(self).port += 1
        server = self.lab.spawn("app", [programs.PYTHON, *program, STACK4, self.port])
        programs.wait_listening(self.lab, "app", self.port)
        pid = int(server.output().split("pid ")[1].split()[0])
        return server, pid

    def kill(self, pid):
        os.kill(pid, signal.SIGKILL)
        def ended():
            try:
                with open(f"/proc/{pid}/stat", encoding="ascii") as f:
                    return " Z " in f.read()
            except (FileNotFoundError, ProcessLookupError):
                return True
        wait_for(ended, 20, "its end")

    def restart(self, name):
        self.lab.wait_service(name, self.lab.kill_service(name))

    def orphans(self, client, services):
        server, pid = self.serve(programs.ECHO, "forks")
        held = Held(self.lab, client, STACK4, self.port, CHILDREN)
        wait_for(lambda: server.output().count("served") == CHILDREN, 30, "a child for each connection")
        held.ask()
        self.kill(pid)
        held.ask()
        for name in services:
            with self.subTest(name, client=client):
                self.restart(name)
                held.ask()
        held.end()

    def test_parent_killed(self):
        self.orphans("peer", ("engine", "broker", "nicio"))

    def test_parent_killed_cut_through(self):
        self.orphans("app", ("engine", "broker"))

    def test_handed_down(self):
        """The grandchild goes on with its connection; the other one ends with the process that kept it."""
        server, pid = self.serve("-c", HANDING)
        given = Held(self.lab, "peer", STACK4, self.port)
        kept = self.lab.spawn("peer", [programs.PYTHON, "-c",
                                       "import socket, sys\n"
                                       "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
                                       "s.sendall(b'abc')\n"
                                       "assert s.recv(3, socket.MSG_WAITALL) == b'abc'\n"
                                       "print('open', flush=True)\n"
                                       "print('end', s.recv(1), flush=True)", STACK4, self.port])
        wait_for(lambda: "handed" in server.output() and "open" in kept.output(), 30, "both connections")
        given.ask()
        self.kill(pid)
        given.ask()
        self.assertEqual(kept.wait(20), 0, kept.output())
        self.assertIn("end b''", kept.output())
        given.ask()
        self.restart("engine")
        given.ask()
        wait_for(lambda: not any(local.endswith(f":{self.port}") for local, _ in self.lab.listeners()), 20, "its listener to go")
        again = self.lab.spawn("app", [programs.PYTHON, programs.ECHO, "serve", STACK4, self.port])  # the port is free
        programs.wait_listening(self.lab, "app", self.port)
        self.assertTrue(again.alive(), again.output())
        given.end()


if __name__ == "__main__":
    netcase.main()

#!/usr/bin/env python3
"""Connections outlive the process that made them, if another of its family holds them: a server whose parent is killed
while its children serve, over TCP and cut-through, and while services are killed; what the parent alone held ends."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from stack import STACK4  # noqa: E402
from wait import wait_for  # noqa: E402

ECHO = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support", "echo.py")
CHILDREN = 15

# Says its process id, then how many children it has.
FORKING = """
import os, socketserver, sys
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
class Server(socketserver.ForkingTCPServer):
    allow_reuse_address = True
    request_queue_size = 64
    def process_request(self, request, address):
        super().process_request(request, address)
        print("served", flush=True)
print("pid", os.getpid(), flush=True)
Server((sys.argv[1], int(sys.argv[2])), Echo).serve_forever()
"""

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

    def serve(self, program):
        type(self).port += 1
        server = self.lab.spawn("app", [programs.PYTHON, "-c", program, STACK4, self.port])
        programs.wait_listening(self.lab, "app", self.port)
        pid = int(server.output().split("pid ")[1].split()[0])
        return server, pid

    def idle(self, client, count):
        idle = self.lab.spawn(client, [programs.PYTHON, ECHO, "idle", STACK4, self.port, count], stdin=-1)
        wait_for(lambda: "open" in idle.output() or not idle.alive(), 30, "the connections")
        return idle

    def talk(self, idle):
        before = idle.output().count("alive")
        idle.popen.stdin.write(b"go\n")
        idle.popen.stdin.flush()
        wait_for(lambda: idle.output().count("alive") > before or not idle.alive(), 30, "all bytes to come back")
        self.assertTrue(idle.alive(), idle.output())

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
        server, pid = self.serve(FORKING)
        idle = self.idle(client, CHILDREN)
        wait_for(lambda: server.output().count("served") == CHILDREN, 30, "a child for each connection")
        self.talk(idle)
        self.kill(pid)
        self.talk(idle)
        for name in services:
            with self.subTest(name, client=client):
                self.restart(name)
                self.talk(idle)
        idle.popen.stdin.close()
        self.assertEqual(idle.wait(20), 0, idle.output())

    def test_parent_killed(self):
        self.orphans("peer", ("engine", "broker", "nicio"))

    def test_parent_killed_cut_through(self):
        self.orphans("app", ("engine", "broker"))

    def test_handed_down(self):
        """The grandchild goes on with its connection; the other one ends with the process that kept it."""
        server, pid = self.serve(HANDING)
        given = self.idle("peer", 1)
        kept = self.lab.spawn("peer", [programs.PYTHON, "-c",
                                       "import socket, sys\n"
                                       "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
                                       "s.sendall(b'abc')\n"
                                       "assert s.recv(3, socket.MSG_WAITALL) == b'abc'\n"
                                       "print('open', flush=True)\n"
                                       "print('end', s.recv(1), flush=True)", STACK4, self.port])
        wait_for(lambda: "handed" in server.output() and "open" in kept.output(), 30, "both connections")
        self.talk(given)
        self.kill(pid)
        self.talk(given)
        self.assertEqual(kept.wait(20), 0, kept.output())
        self.assertIn("end b''", kept.output())
        self.talk(given)
        self.restart("engine")
        self.talk(given)
        wait_for(lambda: not any(local.endswith(f":{self.port}") for local, _ in self.lab.listeners()), 20, "its listener to go")
        again = self.lab.spawn("app", [programs.PYTHON, ECHO, "serve", STACK4, self.port])  # the port is free
        programs.wait_listening(self.lab, "app", self.port)
        self.assertTrue(again.alive(), again.output())
        given.popen.stdin.close()
        self.assertEqual(given.wait(20), 0, given.output())


if __name__ == "__main__":
    netcase.main()

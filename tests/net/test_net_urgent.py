#!/usr/bin/env python3
"""An application dies between the stores of an urgent byte, or the engine does while the application stands there: the
kernel's end gets all that was written before, no byte and no mark of what was not, and an orderly end."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from stack import PEER4  # noqa: E402
from wait import wait_for  # noqa: E402

PORT = 7520
PEER = """
import select, socket, sys
l = socket.socket()
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.bind((sys.argv[1], int(sys.argv[2])))
l.listen(4)
while True:
    c, _ = l.accept()
    c.settimeout(30)
    got, urgent, marked = b"", b"", False
    p = select.poll()
    p.register(c, select.POLLIN | select.POLLPRI)
    while True:
        what = p.poll(30000)[0][1]
        if what & select.POLLPRI:
            marked = True
            try:
                urgent += c.recv(1, socket.MSG_OOB)
            except BlockingIOError:  # announced, not here yet
                continue
        b = c.recv(1000)
        got += b
        if not b:
            break
    print(got, urgent, marked, flush=True)
"""
WRITER = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(b"before ")
print("sends", flush=True)
s.send(b"and U", socket.MSG_OOB)
print("sent", flush=True)
"""


PAUSE = "34 "  # the system call of a thread that stands at a fault point
# in the order of the stores; the mark is behind the tail at both, so it means nothing yet
POINTS = ("vcl.urgent", "vcl.urgent_want")


class Urgent(netcase.NetCase):
    def setUp(self):
        super().setUp()
        self.peer = self.lab.spawn("peer", [programs.PYTHON, "-u", "-c", PEER, PEER4, PORT])
        self.lab.wait_listening_kernel(self.lab.P, PORT)
        self.addCleanup(self.peer.stop)

    def write(self, fault):
        env = {"HS_FAULT": fault} if fault else {}
        return self.lab.spawn("app", [programs.PYTHON, "-u", "-c", WRITER, PEER4, PORT], env=env)

    def expect(self, text):
        wait_for(lambda: self.peer.output().strip().endswith(text), 20, f"the peer's {text!r}, it has {self.peer.output()!r}")

    @staticmethod
    def has_points():
        with open(os.path.join(netcase.BUILD, "CMakeCache.txt"), encoding="utf-8") as f:
            return "HS_FAULT_POINTS:BOOL=ON" in f.read()

    def test_whole(self):
        self.assertEqual(self.write(None).wait(60), 0)
        self.expect("b'before and ' b'U' True")

    def test_app_dies(self):
        if not self.has_points():
            return  # a build without them: nowhere to die
        for point in POINTS:
            app = self.write(f"{point}:1:kill")
            self.assertEqual(app.popen.wait(60), -9, app.output())
            self.assertNotIn("sent", app.output().replace("sends", ""))
            self.expect("b'before and ' b'' False")  # all that was written before, no byte and no mark, and an end

    def test_engine_dies(self):
        if not self.has_points():
            return
        for point in POINTS:
            app = self.write(f"{point}:1:hang")
            wait_for(lambda: self.hangs(app), 20, "the writer stands at the fault point")
            pid = self.lab.pid_of("engine")
            self.lab.kill_service("engine")
            self.lab.wait_service("engine", pid)
            app.stop()
            self.expect("b'before and ' b'' False")

    @staticmethod
    def hangs(app):
        with open(f"/proc/{app.popen.pid}/syscall", encoding="ascii") as f:
            return f.read().startswith(PAUSE)


if __name__ == "__main__":
    netcase.main()

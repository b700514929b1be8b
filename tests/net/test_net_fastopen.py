#!/usr/bin/env python3
"""Fast Open with the Linux kernel as the client: it asks for a cookie, shows it with its second SYN, and has its data
acknowledged by our SYN-ACK; also by an engine that was killed and came back in between."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from stack import STACK4  # noqa: E402
from wait import wait_for  # noqa: E402

PORT = 7500
SYN_DATA = 32  # TCPI_OPT_SYN_DATA
SERVER = """
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2])))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
assert s.getsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN) == 16
s.listen(16)
while True:
    c, _ = s.accept()
    c.sendall(b"answer to " + c.recv(1000))
    c.close()
"""
CLIENT = """
import json, socket, sys
s = socket.socket()
n = s.sendto(b"request", socket.MSG_FASTOPEN, (sys.argv[1], int(sys.argv[2])))
s.settimeout(20)
got = b""
while True:
    b = s.recv(1000)
    if not b:
        break
    got += b
options = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[5]
print(json.dumps({"sent": n, "got": got.decode(), "options": options}))
"""


class FastOpen(netcase.NetCase):
    def ask(self):
        out = self.lab.peer([programs.PYTHON, "-c", CLIENT, STACK4, PORT]).stdout
        answer = json.loads(out)
        self.assertEqual((answer["sent"], answer["got"]), (7, "answer to request"))
        return answer["options"] & SYN_DATA

    def counter(self, name):
        return {c["name"]: c["value"] for c in self.lab.show("tcp")["tcp"]["counter"]}["tcp." + name]

    def test_kernel_client(self):
        self.lab.spawn("app", [programs.PYTHON, "-u", "-c", SERVER, STACK4, PORT])
        self.lab.wait_listening(PORT)
        self.assertEqual(self.ask(), 0)  # no cookie yet
        self.assertEqual(self.counter("fastopen_in"), 0)
        self.assertEqual(self.ask(), SYN_DATA)
        self.assertEqual(self.counter("fastopen_in"), 1)
        self.lab.hsctl("set", "tcp", "fastopen", "client")
        self.assertEqual(self.ask(), 0)
        self.lab.hsctl("set", "tcp", "fastopen", "default")
        pid = self.lab.pid_of("engine")
        self.lab.kill_service("engine")
        self.lab.wait_service("engine", pid)
        wait_for(lambda: self.ask() == SYN_DATA, 20, "data on the SYN again")  # the kernel may pause for a SYN that was lost
        self.assertEqual(self.counter("fastopen_bad"), 0)


if __name__ == "__main__":
    netcase.main()

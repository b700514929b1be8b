#!/usr/bin/env python3
"""app-proxy-transport-tcp: connections to ports that nobody listens at come to the proxy's first listener, which can tell
where they were to go; both families, from the network and from programs of the stack, over kill -9 of engine and broker,
within its namespace, and until it ends."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from proxycase import BLUE, RED, ProxyCase  # noqa: E402
from stack import STACK4, STACK6  # noqa: E402
from wait import wait_for  # noqa: E402

PROXY = {"VCL_APP_PROXY_TRANSPORT_TCP": "1"}
# answers with its name, the accepted socket's own address, and what SO_ORIGINAL_DST says of its port; for each byte
SERVER = """
import socket, struct, sys, threading
def original(c):
    level, opt = (socket.IPPROTO_IPV6, 80) if ":" in c.getsockname()[0] and "." not in c.getsockname()[0] else (socket.IPPROTO_IP, 80)
    return struct.unpack("!2xH", c.getsockopt(level, opt, 28)[:4])[0]
def serve(c):
    while c.recv(1):
        c.sendall(f"{sys.argv[1]} {c.getsockname()[0].removeprefix('::ffff:')} {c.getsockname()[1]} {original(c)}".encode())
for port in sys.argv[2:]:
    s = socket.socket(socket.AF_INET6)
    s.bind(("::", int(port)))
    s.listen(64)
    def accept(s=s):
        while True:
            threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
    threading.Thread(target=accept).start()
"""
# the answer, or the name of an errno, per port; with "held" again on the last connection when a line comes in
ASK = """
import errno, socket, sys
for port in sys.argv[3:]:
    try:
        c = socket.create_connection((sys.argv[1], int(port)), 20)
        c.sendall(b"?")
        print(c.recv(100).decode(), flush=True)
    except OSError as e:
        print(errno.errorcode[e.errno], flush=True)
if sys.argv[2] == "held":
    sys.stdin.readline()
    c.sendall(b"?")
    print(c.recv(100).decode(), flush=True)
"""


class Proxy(ProxyCase):
    ASK = ASK

    def server(self, name, *ports, env):
        program = self.lab.spawn("app", [programs.PYTHON, "-c", SERVER, name, *ports], env=env)
        for port in ports:
            self.lab.wait_listening(port)
        return program

    def through(self, address, *ports):
        return [f"proxy {address} {port} {port}" for port in ports]

    def test_proxy(self):
        """Whoever has a port keeps it, the first listener gets the rest, and the rest is nobody's before and after."""
        self.assertEqual(self.ask("peer", STACK4, 5001), ["ECONNREFUSED"])
        proxy = self.server("proxy", 7701, 7702, env={**BLUE, **PROXY})
        plain = self.server("plain", 7703, env=BLUE)
        for address in (STACK4, STACK6):
            self.assertEqual(self.ask("peer", address, 5001, 65535, 7701, 1), self.through(address, 5001, 65535, 7701, 1))
            self.assertEqual(self.ask("peer", address, 7703), [f"plain {address} 7703 7703"])
            self.assertEqual(self.ask("app", address, 5002, env=BLUE), self.through(address, 5002))
            self.assertEqual(self.ask("app", address, 5003, env=RED), ["ECONNREFUSED"])
        plain.stop()
        wait_for(lambda: self.ask("peer", STACK4, 7703) == self.through(STACK4, 7703), 20, "the port of one that ended")
        proxy.stop()
        wait_for(lambda: self.ask("peer", STACK4, 5001) == ["ECONNREFUSED"], 20, "nobody")

    def test_restarts(self):
        """What is established goes on, and what comes later comes to the proxy still."""
        self.server("proxy", 7711, env={**BLUE, **PROXY})
        for name in ("engine", "broker"):
            said = self.held([5004], 1, lambda n=name: self.lab.wait_service(n, self.lab.kill_service(n)))
            self.assertEqual(said, self.through(STACK4, 5004) * 2)
            self.assertEqual(self.ask("peer", STACK4, 5005), self.through(STACK4, 5005))


if __name__ == "__main__":
    netcase.main()

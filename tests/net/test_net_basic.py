#!/usr/bin/env python3
"""The stack and the kernel's TCP, IPv4 and IPv6: echo requests, connections both ways, many at once, refused ones."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from held import Held  # noqa: E402
from stack import PEER4, PEER6, STACK4, STACK6  # noqa: E402
from wait import wait_for  # noqa: E402

ECHO = os.path.join(sys.path[0], "echo.py")
PING = os.path.join(sys.path[0], "ping.py")
REFUSED = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
s.settimeout(20)
try:
    s.connect((sys.argv[1], 9))
except ConnectionRefusedError:
    print("refused")
"""


class Basic(netcase.NetCase):
    port = 7000

    def serve(self, where, address):
        type(self).port += 1
        server = self.lab.spawn(where, [programs.PYTHON, "-u", ECHO, "serve", address, self.port])
        programs.wait_listening(self.lab, where, self.port)
        return server

    def talk(self, server, client, address, size, count, bind=None):
        running = self.serve(server, bind or address)
        done = self.lab.run(client, [programs.PYTHON, ECHO, "talk", address, self.port, size, count], 150)
        self.assertIn(b"equal", done.stdout)
        self.assertTrue(running.alive())
        self.assertNotIn("echo:", running.output())
        running.stop()
        return done.stdout.decode().split()

    def test_ping(self):
        for address in (STACK4, STACK6):
            for size in (0, 56, 1400):
                with self.subTest(address=address, size=size):
                    print(f"ping {address} {size} bytes: "
                          f"{self.lab.peer([programs.PYTHON, PING, address, 20, size]).stdout.decode().strip()} µs")

    def test_server_v4(self):
        for size, count in ((1, 3), (1000, 20), (5_000_000, 2)):
            self.talk("app", "peer", STACK4, size, count)

    def test_server_v6(self):
        for size, count in ((1, 3), (1000, 20), (5_000_000, 2)):
            self.talk("app", "peer", STACK6, size, count)

    def test_client_v4(self):
        for size, count in ((1, 3), (1000, 20), (5_000_000, 2)):
            self.assertEqual(self.talk("peer", "app", PEER4, size, count), ["equal", STACK4, PEER4])

    def test_client_v6(self):
        for size, count in ((1, 3), (1000, 20), (5_000_000, 2)):
            self.assertEqual(self.talk("peer", "app", PEER6, size, count), ["equal", STACK6, PEER6])

    def test_wildcard(self):
        self.talk("app", "peer", STACK4, 1000, 3, bind="0.0.0.0")
        self.talk("app", "peer", STACK6, 1000, 3, bind="::")

    def test_dual_stack_listener(self):
        self.talk("app", "peer", STACK4, 1000, 3, bind="::")

    def test_refused(self):
        for client, address in (("peer", STACK4), ("peer", STACK6), ("app", PEER4), ("app", PEER6)):
            with self.subTest(client=client, address=address):
                done = self.lab.run(client, [programs.PYTHON, "-c", REFUSED, address])
                self.assertEqual(done.stdout, b"refused\n")

    def test_many_at_once(self):
        server = self.serve("app", STACK4)
        count = 200
        held = Held(self.lab, "peer", STACK4, self.port, count)
        established = [s for s in self.lab.sessions() if s["state"] == "ESTABLISHED"]
        self.assertGreaterEqual(len(established), count)
        held.ask()
        held.end()
        server.stop()

    def test_sessions_end(self):
        """After orderly closes and deaths nothing is left but TIME_WAIT."""
        server = self.serve("app", STACK4)
        held = Held(self.lab, "peer", STACK4, self.port, 10)
        server.kill()
        held.program.kill()

        def gone():
            return all(s["state"] == "TIME_WAIT" for s in self.lab.sessions()) and \
                not any(l.endswith(f":{self.port}") for l, _ in self.lab.listeners())
        wait_for(gone, 20, "sessions and listener of the killed program are gone")


if __name__ == "__main__":
    netcase.main()

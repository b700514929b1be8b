#!/usr/bin/env python3
"""Several addresses of one interface, of one net and of others, both families: each is reached, each can be bound alone, an
answer comes from the address that was asked, and what we begin comes from the address of the destination's net."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from stack import PEER4, PEER6, STACK4, STACK6  # noqa: E402
from wait import wait_for  # noqa: E402

OURS4, OURS6 = (STACK4, "10.77.0.11", "10.177.0.1"), (STACK6, "fd00:77::11", "fd00:177::1")
OURS = OURS4 + OURS6
THEIRS = {PEER4: STACK4, "10.177.0.2": "10.177.0.1", PEER6: STACK6, "fd00:177::2": "fd00:177::1"}
# A connection from each address given; prints what the server sees
FROM = """
import socket, sys
to, port = sys.argv[1], int(sys.argv[2])
for own in sys.argv[3:]:
    with socket.create_connection((to, port), 20, (own, 0)) as s:
        print(s.makefile().readline().strip(), flush=True)
"""
WHO = """
import socket, sys
six = ":" in sys.argv[1]
s = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if six else socket.AF_INET,
                         dualstack_ipv6=sys.argv[1] == "::")
while True:
    c, peer = s.accept()
    c.sendall((peer[0] + "\\n").encode())
    c.close()
"""
# What each address says: 1 an answer, 0 refused
REACHED = """
import socket, sys
for own in sys.argv[2:]:
    try:
        socket.create_connection((own, int(sys.argv[1])), 20).close()
        print(1)
    except ConnectionRefusedError:
        print(0)
"""


class Addresses(netcase.NetCase):
    LAB = {"extra": "".join(f'    - {{interface: hs0, address: "{a}"}}\n' for a in
                            ("10.77.0.11/24", "10.177.0.1/24", "fd00:77::11/64", "fd00:177::1/64"))}
    port = 8900

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.lab.world.up(cls.lab.P, "p0", "10.177.0.2/24", "fd00:177::2/64")

    def server(self, where, address):
        type(self).port += 1
        self.lab.spawn(where, [programs.PYTHON, "-u", "-c", WHO, address, self.port])
        programs.wait_listening(self.lab, where, self.port)
        return self.port

    def test_shown(self):
        shown = {a.partition("/")[0] for a in self.lab.show("interface")["interfaces"]["interface"][0]["address"]}
        self.assertLessEqual(set(OURS), shown)
        routes = [r["to"] for r in self.lab.show("route")["routes"]["route"]]
        for net in ("10.77.0.0/24", "10.177.0.0/24", "fd00:77::/64", "fd00:177::/64"):
            self.assertEqual(routes.count(net), 1)

    def test_each_is_reached(self):
        port = self.server("app", "::")
        done = self.lab.peer([programs.PYTHON, "-c", REACHED, port, *OURS])
        self.assertEqual(done.stdout.split(), [b"1"] * len(OURS))
        done = self.lab.app([programs.PYTHON, "-c", REACHED, port, *OURS])  # by our own apps, too
        self.assertEqual(done.stdout.split(), [b"1"] * len(OURS))

    def test_one_alone(self):
        """A listener of one address is not one of its sisters; two may have the same port."""
        for mine, sisters in ((OURS4[1], OURS4), (OURS6[2], OURS6)):
            with self.subTest(mine):
                port = self.server("app", mine)
                done = self.lab.peer([programs.PYTHON, "-c", REACHED, port, *sisters])
                self.assertEqual(done.stdout.split(), [b"1" if a == mine else b"0" for a in sisters])
                self.lab.spawn("app", [programs.PYTHON, "-u", "-c", WHO, sisters[0], port])
                wait_for(lambda p=port: sum(l.endswith(f":{p}") for l, _ in self.lab.listeners()) == 2, 20, "both listeners")
                done = self.lab.peer([programs.PYTHON, "-c", REACHED, port, *sisters])
                self.assertEqual(done.stdout.split(), [b"1" if a in (mine, sisters[0]) else b"0" for a in sisters])

    def test_own_choice(self):
        """Unbound, the address of the destination's net; bound, the one that was bound."""
        for theirs, ours in THEIRS.items():
            with self.subTest(theirs):
                port = self.server("peer", theirs)
                near = [a for a in OURS if a.startswith(theirs[:-1])]
                done = self.lab.app([programs.PYTHON, "-c", FROM, theirs, port, "::" if ":" in theirs else "0.0.0.0", *near])
                self.assertEqual(done.stdout.decode().split(), [ours, *near])

    def test_datagrams(self):
        """A socket bound to all addresses answers from the one that was asked."""
        tool = os.path.join(self.lab.world.app_dir, "udp_tool.py")
        shutil.copy(os.path.join(sys.path[0], "udp_tool.py"), tool)
        os.chmod(tool, 0o755)
        type(self).port += 1
        server = self.lab.spawn("app", ["python3", tool, "echo", "::", self.port])
        wait_for(lambda: "up" in server.output(), 20, "the server")
        for own in OURS:
            with self.subTest(own):
                done = self.lab.peer(["python3", tool, "ask", own, self.port, 10, 2000])
                self.assertIn(b'"good": true', done.stdout)


if __name__ == "__main__":
    netcase.main()

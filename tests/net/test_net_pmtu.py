#!/usr/bin/env python3
"""Path MTU over a router whose other link is narrower, IPv4 and IPv6: with its ICMP, from what an earlier connection
learned, and without any ICMP (a black hole). Every byte arrives in each case."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from netns import run  # noqa: E402
from wait import wait_for  # noqa: E402
from stack import KERNEL_PEER4, PEER4, PEER6, STACK4, STACK6  # noqa: E402

SIZE = 3_000_000
FAMILIES = ((STACK4, 7000), (STACK6, 7001))
# sends SIZE bytes of a known pattern to each connection
SERVER = """
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
data = bytes(i * 7 & 255 for i in range(65536)) * (int(sys.argv[3]) // 65536 + 1)
while True:
    c, _ = s.accept()
    c.sendall(data[:int(sys.argv[3])])
    c.recv(1)
    c.close()
"""
CLIENT = """
import socket, sys
c = socket.create_connection((sys.argv[1], int(sys.argv[2])), 40)
want = bytes(i * 7 & 255 for i in range(65536)) * (int(sys.argv[3]) // 65536 + 1)
got = b""
while len(got) < int(sys.argv[3]):
    more = c.recv(1 << 16)
    if not more:
        break
    got += more
print("same" if got == want[:int(sys.argv[3])] else "different at %d" % len(got), flush=True)
sys.stdin.read()
"""


class PathMtu(netcase.NetCase):
    LAB = dict(extra='  routes:\n    - {to: 10.78.0.0/24, via: %s}\n    - {to: "fd00:78::/64", via: "%s"}\n' % (PEER4, PEER6))

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        lab = cls.lab
        lab.world.sysctl(lab.P, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
                         "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
        run(["ip", "-n", lab.K, "route", "add", "10.77.0.0/24", "via", KERNEL_PEER4])
        run(["ip", "-n", lab.K, "-6", "route", "add", "fd00:77::/64", "via", "fd00:78::2"])
        for address, port in FAMILIES:
            lab.spawn("app", [programs.PYTHON, "-u", "-c", SERVER, address, port, SIZE])
            lab.wait_listening(port)

    def narrow(self, mtu):
        run(["ip", "-n", self.lab.P, "link", "set", "p1", "mtu", str(mtu)])

    def counters(self):
        return {c["name"]: c["value"] for c in self.lab.show("stats")["stats"]["counter"]}

    def fetch(self, address, port):
        """Path MTU that the connection ended with."""
        client = self.lab.spawn("kernel", [programs.PYTHON, "-u", "-c", CLIENT, address, port, SIZE], stdin=-1)
        wait_for(lambda: "same" in client.output(), 45, "every byte")
        rows = [s for s in self.lab.show("session", "verbose")["sessions"]["session"]
                if s["local"].endswith(f":{port}") and s["state"] == "ESTABLISHED"]
        client.popen.stdin.close()
        client.wait(60)
        self.assertEqual(len(rows), 1)
        return rows[0]["pmtu"]

    def test_1_router_tells(self):
        self.narrow(1400)
        for address, port in FAMILIES:
            with self.subTest(address):
                before = self.counters()
                self.assertEqual(self.fetch(address, port), 1400)
                after = self.counters()
                self.assertEqual(after["tcp.pmtu_lowered"] - before["tcp.pmtu_lowered"], 1)
                self.assertEqual(after["ip.pmtu.learned"] - before["ip.pmtu.learned"], 1)
                self.assertEqual(self.fetch(address, port), 1400)  # the second connection knows it from the first
                self.assertEqual(self.counters()["tcp.pmtu_lowered"], after["tcp.pmtu_lowered"])

    def test_2_black_hole(self):
        """No ICMP leaves the router: after timeouts segments get smaller, then probes find what passes."""
        self.narrow(1350)
        for family, proto in (("-4", 1), ("-6", 58)):  # ICMP; names would need netbase
            run(["ip", "-n", self.lab.P, family, "rule", "add", "iif", "lo", "ipproto", str(proto), "blackhole"])
        for address, port in FAMILIES:
            with self.subTest(address):
                before = self.counters()
                pmtu = self.fetch(address, port)
                after = self.counters()
                self.assertEqual(after["tcp.pmtu_lowered"], before["tcp.pmtu_lowered"], "ICMP came through")
                self.assertGreater(after["tcp.pmtu_blackhole"], before["tcp.pmtu_blackhole"])
                self.assertGreater(after["tcp.pmtu_probes_lost"], before["tcp.pmtu_probes_lost"])
                self.assertTrue(1350 - 8 <= pmtu <= 1350, pmtu)


if __name__ == "__main__":
    netcase.main()

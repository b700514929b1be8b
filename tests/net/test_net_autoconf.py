#!/usr/bin/env python3
"""The life of what a link hands out: DHCP leases that are renewed, rebound, lost, refused and declined, by a server that does
what the test says (support/dhcpd.py); router advertisements that come, are taken back and end (support/advertise.py), with
three workers. Connections live on what stays; what is gone is used no more."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from held import Held  # noqa: E402
from netns import run  # noqa: E402
from wait import wait_for  # noqa: E402

SUPPORT = sys.path[0]
PING, DHCPD, ADVERTISE = (os.path.join(SUPPORT, name) for name in ("ping.py", "dhcpd.py", "advertise.py"))
SERVER = "10.88.0.2"
BEYOND6 = "2001:db8:7::7"  # behind the router
LONG = {"lease": 600, "t1": 300, "t2": 500}
REACHED = """
import errno, socket, sys
try:
    socket.create_connection((sys.argv[1], 9), 10)
except OSError as e:
    print(errno.errorcode.get(e.errno, e))
"""


class Autoconf(netcase.NetCase):
    port = 7200

    def addresses(self):
        return {a.partition("/")[0]: a for a in self.lab.show("interface")["interfaces"]["interface"][0]["address"]}

    def wait_address(self, address, there=True):
        wait_for(lambda: (address in self.addresses()) == there, 20, f"{address} {'there' if there else 'gone'}")

    def counter(self, name):
        return {c["name"]: c["value"] for c in self.lab.show("stats")["stats"]["counter"]}[name]

    def serve(self, where, address):
        type(self).port += 1
        self.lab.spawn(where, [programs.PYTHON, "-u", programs.ECHO, "serve", address, self.port])
        programs.wait_listening(self.lab, where, self.port)

    def talk(self, server, client, address, bind):
        """Bytes there and back; the client's address."""
        self.serve(server, bind)
        done = self.lab.run(client, [programs.PYTHON, programs.ECHO, "talk", address, self.port, 100_000, 1], 30)
        return done.stdout.decode().split()[1]

    def held(self, address, bind):
        """A connection from the peer that is asked now and then whether it lives."""
        self.serve("app", bind)
        return Held(self.lab, "peer", address, self.port)

    def reached(self, address):
        return self.lab.app([programs.PYTHON, "-c", REACHED, address]).stdout.decode().strip()


class Dhcp(Autoconf):
    LAB = {"extra": "    - {interface: hs0, address: dhcp}\n"}

    START = False

    def begin(self, **settings):
        """The server first, then the stack: its first words are answered."""
        self.lab.world.up(self.lab.P, "p0", SERVER + "/24")
        self.seen = 0
        self.server = self.lab.spawn("peer", [programs.PYTHON, "-u", DHCPD, "p0", SERVER], stdin=-1)
        wait_for(lambda: "up" in self.server.output(), 20, "the DHCP server")
        self.does(**settings)
        self.lab.start()

    def does(self, **settings):
        self.server.popen.stdin.write(json.dumps(settings).encode() + b"\n")
        self.server.popen.stdin.flush()

    def heard(self, **want):
        """The next message with these words; what comes before it is passed over."""
        def find():
            lines = [json.loads(line) for line in self.server.output().splitlines() if line.endswith("}")]
            for i in range(self.seen, len(lines)):
                if all(lines[i].get(k) == v for k, v in want.items()):
                    self.seen = i + 1
                    return lines[i]
            return None
        return wait_for(find, 30, f"a DHCP message with {want}")

    def test_lease(self):
        """Bound, renewed by its server alone, then by anybody, lost; a new one, refused when it was to be renewed."""
        self.begin(offer=["10.88.0.50"], lease=60, t1=1, t2=40)
        self.heard(type="REQUEST", requested="10.88.0.50", server=SERVER, to="255.255.255.255", answer="ACK")
        self.wait_address("10.88.0.50")
        self.assertIn("dhcp", self.addresses()["10.88.0.50"])
        held = self.held("10.88.0.50", "0.0.0.0")
        self.assertEqual(self.talk("peer", "app", SERVER, SERVER), "10.88.0.50")
        self.assertEqual(self.talk("app", "app", "10.88.0.50", "10.88.0.50"), "10.88.0.50")  # our own apps, too
        for _ in range(2):
            self.heard(type="REQUEST", ciaddr="10.88.0.50", to=SERVER, answer="ACK")  # T1
            held.ask()
        self.does(offer=["10.88.0.50"], lease=8, t1=1, t2=2)
        self.heard(type="REQUEST", ciaddr="10.88.0.50", to=SERVER, answer="ACK", lease=8)
        self.does(offer=["10.88.0.51", "10.88.0.52"], lease=60, t1=1, t2=40, renew={"10.88.0.50": "", "10.88.0.51": "NAK"})
        self.heard(type="REQUEST", ciaddr="10.88.0.50", to=SERVER, answer="")
        self.heard(type="REQUEST", ciaddr="10.88.0.50", to="255.255.255.255", answer="")  # T2
        held.ask()
        self.heard(type="REQUEST", requested="10.88.0.51", answer="ACK")
        self.assertNotIn("10.88.0.50", self.addresses())
        self.assertEqual(self.counter("dhcp.expired"), 1)
        self.heard(type="REQUEST", ciaddr="10.88.0.51", to=SERVER, answer="NAK")
        self.wait_address("10.88.0.52")
        self.assertNotIn("10.88.0.51", self.addresses())
        self.assertEqual(self.counter("dhcp.rx.nak"), 1)
        self.assertEqual(self.talk("app", "peer", "10.88.0.52", "0.0.0.0"), SERVER)


class Declined(Dhcp):
    """The server offers what another station has."""

    test_lease = None

    def test_declined(self):
        run(["ip", "-n", self.lab.P, "addr", "add", "10.88.0.53/24", "dev", "p0"])
        self.begin(offer=["10.88.0.53"], **LONG)
        self.heard(type="REQUEST", requested="10.88.0.53", answer="ACK")
        self.heard(type="DECLINE", requested="10.88.0.53", server=SERVER)
        self.assertNotIn("10.88.0.53", self.addresses())
        self.assertEqual(self.counter("dhcp.declined"), 1)


class Advertised(Autoconf):
    LAB = {"extra": "    - {interface: hs0, address: auto}\n  workers: 3\n"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        lab = cls.lab
        lab.world.up(lab.P, "lo", BEYOND6 + "/128")
        lab.world.up(lab.P, "p0", "fd00:88::2/64", "fd00:89::2/64", "fd00:8a::2/64")
        mac = [int(b, 16) for b in lab.show("interface")["interfaces"]["interface"][0]["mac"].split(":")]
        mac[0] ^= 2  # modified EUI-64, RFC 4291 appendix A
        cls.tail = "{:x}:{:x}:{:x}:{:x}".format(mac[0] << 8 | mac[1], mac[2] << 8 | 0xFF, 0xFE00 | mac[3], mac[4] << 8 | mac[5])

    def advertise(self, lifetime, *prefixes):
        self.lab.peer([programs.PYTHON, ADVERTISE, "p0", lifetime, *prefixes])

    def test_lifetimes(self):
        """Two prefixes, one for eight seconds; a router that is one, is none, and is one again."""
        stays, goes = f"fd00:88::{self.tail}", f"fd00:89::{self.tail}"
        self.advertise(1800, "fd00:88::/7200/7200", "fd00:89::/8/2")
        self.wait_address(goes)
        self.lab.peer([programs.PYTHON, PING, goes, 2, 1400])
        self.wait_address(stays)
        self.assertIn("auto", self.addresses()[stays])
        held = self.held(stays, "::")
        wait_for(lambda: self.talk("peer", "app", "fd00:88::2", "::") == stays, 20, "an address of the same net as source")
        self.assertEqual(self.talk("app", "app", stays, "::"), stays)
        self.assertEqual(self.reached(BEYOND6), "ECONNREFUSED")
        self.advertise(0)
        wait_for(lambda: self.reached(BEYOND6) == "ENETUNREACH", 20, "no router")
        self.assertEqual(self.reached("fd00:88::2"), "ECONNREFUSED")  # on the link still
        held.ask()
        self.wait_address(goes, there=False)
        self.assertEqual(self.counter("nd.ra.expired"), 1)
        self.assertEqual(self.reached("fd00:89::2"), "ENETUNREACH")
        self.advertise(1800)
        wait_for(lambda: self.reached(BEYOND6) == "ECONNREFUSED", 20, "a router again")
        self.assertIn(stays, self.addresses())
        held.ask()

    def test_duplicate(self):
        """Another station has the address that would be made: it is not used (RFC 4862 5.4)."""
        other = f"fd00:8a::{self.tail}"
        run(["ip", "-n", self.lab.P, "addr", "add", other + "/64", "dev", "p0", "nodad"])
        self.advertise(0, "fd00:8a::/7200/7200")
        wait_for(lambda: "not used" in self.addresses().get(other, ""), 20, "a duplicate that is seen")
        self.assertEqual(self.counter("addr.duplicate"), 1)
        self.assertEqual(self.reached(other), "ECONNREFUSED")  # by the other station: it is not ours
        self.assertNotEqual(self.talk("peer", "app", other, other), other)


del Autoconf  # a frame, no test

if __name__ == "__main__":
    netcase.main()

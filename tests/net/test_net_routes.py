#!/usr/bin/env python3
"""Routes that change at run time: a host behind a router is reached or not, transfers go on while their route is replaced,
deleted and added again, what was set outlives the engine, and wrong words are refused."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from netns import run  # noqa: E402
from stack import KERNEL4, KERNEL_PEER4, PEER4, PEER6, STACK4  # noqa: E402
from wait import hold, wait_for  # noqa: E402

NET4, NET6 = "10.78.0.0/24", "fd00:78::/64"
OTHER4 = "10.77.0.9"  # the router's second address on our link
SIZE = 12_000_000
REACHED = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), 10)
except OSError as e:
    print(e.errno and __import__("errno").errorcode[e.errno])
"""
WRONG = (
    (("route", "add", "10.9.0.0", "via", PEER4), "allowed a prefix"),
    (("route", "add", "10.9.0.1/24", "via", PEER4), "no bits behind the prefix"),
    (("route", "add", "10.9.0.0/24", "via", PEER6), "the same family"),
    (("route", "add", "10.9.0.0/24", "via", "10.200.0.1"), "on no net"),
    (("route", "add", "10.9.0.0/24", "interface", "eth7"), "hsctl show interface"),
    (("route", "add", "10.9.0.0/24"), "needs an interface"),
    (("route", "add", "fd00:9::/64", "via", "fe80::1"), "needs an interface"),
    (("route", "add", "10.77.0.0/24", "interface", "hs0"), "own addresses"),
    (("route", "add", "10.99.0.0/16", "via", PEER4), "there already"),
    (("route", "replace", "10.9.0.0/24", "via", PEER4), "no route of"),
    (("route", "del", "10.77.0.0/24"), "no route of"),
    (("route", "add", "10.9.0.0/24", "metric", "5"), "usage"),
    (("route", "change", "10.9.0.0/24"), "usage"),
)


class Routes(netcase.NetCase):
    LAB = {"extra": f"  routes:\n    - {{to: 10.99.0.0/16, via: {PEER4}}}\n"}
    port = 8600

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        lab = cls.lab
        lab.world.sysctl(lab.P, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        run(["ip", "-n", lab.P, "addr", "add", OTHER4 + "/24", "dev", "p0"])
        run(["ip", "-n", lab.K, "route", "add", "10.77.0.0/24", "via", KERNEL_PEER4])
        run(["ip", "-n", lab.K, "-6", "route", "add", "fd00:77::/64", "via", "fd00:78::2"])
        cls.sha = programs.random_file(os.path.join(lab.world.data_dir, "file"), SIZE)

    def tearDown(self):
        for net in (NET4, NET6):
            self.lab.hsctl("route", "del", net, check=False)
        super().tearDown()

    def routes(self):
        return {r["to"]: (r.get("via") or "", r["by"]) for r in self.lab.show("route")["routes"]["route"]}

    def reached(self, address):
        return self.lab.app([programs.PYTHON, "-c", REACHED, address]).stdout.decode().strip()

    def engine_again(self):
        self.lab.wait_service("engine", self.lab.kill_service("engine"))

    def test_reached(self):
        for address, net, via in ((KERNEL4, NET4, PEER4), ("fd00:78::1", NET6, PEER6)):
            with self.subTest(net):
                self.assertEqual(self.reached(address), "ENETUNREACH")
                self.lab.hsctl("route", "add", net, "via", via)
                self.assertEqual(self.reached(address), "ECONNREFUSED")
                self.assertEqual(self.routes()[net], (via, "set"))
                self.engine_again()
                self.assertEqual(self.reached(address), "ECONNREFUSED")
                self.assertEqual(self.routes()[net], (via, "set"))
                self.lab.hsctl("route", "del", net)
                self.assertEqual(self.reached(address), "ENETUNREACH")

    def test_configured(self):
        """A configured route that is replaced or deleted stays so, until it is as configured again."""
        to = "10.99.0.0/16"
        self.assertEqual(self.routes()[to], (PEER4, "configured"))
        self.lab.hsctl("route", "replace", to, "via", OTHER4)
        self.assertEqual(self.routes()[to], (OTHER4, "set"))
        self.engine_again()
        self.assertEqual(self.routes()[to], (OTHER4, "set"))
        self.lab.hsctl("route", "del", to)
        self.engine_again()
        self.assertNotIn(to, self.routes())
        self.lab.hsctl("route", "add", to, "via", PEER4)
        self.assertEqual(self.routes()[to], (PEER4, "configured"))
        self.engine_again()
        self.assertEqual(self.routes()[to], (PEER4, "configured"))

    def test_wrong(self):
        before = self.routes()
        for words, said in WRONG:
            with self.subTest(words):
                done = self.lab.hsctl(*words, check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(said, (done.stdout + done.stderr).decode())
        self.assertEqual(self.routes(), before)

    def test_under_load(self):
        """The way of a transfer changes all the time, and is gone for a moment: the bytes arrive over one connection."""
        self.lab.hsctl("route", "add", NET4, "via", PEER4)
        self.lab.hsctl("impair", "hs0", "both", "rate=20000000")
        for server, client in (("app", "kernel"), ("kernel", "app")):
            with self.subTest(server=server):
                type(self).port += 1
                programs.nginx(self.lab, server, self.lab.world.data_dir, self.port)
                path = os.path.join(self.lab.world.data_dir, f"got-{server}")
                address = STACK4 if server == "app" else KERNEL4
                curl = self.lab.spawn(client, ["curl", "-sS", "--max-time", 60, "-o", path, "-w", "%{num_connects} %{size_download}",
                                               f"http://{address}:{self.port}/file"])
                wait_for(lambda p=path: os.path.exists(p) and os.stat(p).st_size > 100_000, 20, "first bytes")
                changes = 0
                while changes < 16 and curl.alive():
                    self.lab.hsctl("route", "replace", NET4, "via", (OTHER4, PEER4)[changes % 2])
                    changes += 1
                    if changes % 8 == 0:
                        self.lab.hsctl("route", "del", NET4)
                        hold(0.05, curl.alive)
                        self.lab.hsctl("route", "add", NET4, "via", PEER4)
                self.lab.hsctl("impair", "hs0", "both")
                curl.wait(120)
                self.assertEqual(curl.output(), f"1 {SIZE}")
                self.assertEqual(programs.sha256(path), self.sha)
                self.assertGreater(changes, 3)
                self.lab.hsctl("impair", "hs0", "both", "rate=20000000")
        self.lab.hsctl("impair", "hs0", "both")

    def test_kinds(self):
        """Through a gateway, on the link, of an address's own net."""
        self.lab.hsctl("route", "add", "10.120.0.0/24", "interface", "hs0")
        for n in range(3):
            self.lab.hsctl("route", "add", f"10.121.{n}.0/24", "via", (PEER4, OTHER4)[n % 2])
        shown = self.routes()
        self.assertEqual([shown[f"10.121.{n}.0/24"] for n in range(3)], [(PEER4, "set"), (OTHER4, "set"), (PEER4, "set")])
        self.assertEqual(shown["10.120.0.0/24"], ("", "set"))
        self.assertEqual(shown["10.77.0.0/24"], ("", "connected"))
        for to in ("10.120.0.0/24", "10.121.0.0/24", "10.121.1.0/24", "10.121.2.0/24"):
            self.lab.hsctl("route", "del", to)
        self.assertFalse(set(self.routes()) & {"10.120.0.0/24", "10.121.0.0/24"})

    def test_neighbors(self):
        self.assertEqual(self.reached(PEER4), "ECONNREFUSED")
        rows = {n["address"]: n for n in self.lab.show("neighbor")["neighbors"]["neighbor"]}
        mac = self.lab.peer(["cat", "/sys/class/net/p0/address"]).stdout.decode().strip()
        self.assertEqual((rows[PEER4]["mac"], rows[PEER4]["interface"]), (mac, "hs0"))
        self.assertIn(rows[PEER4]["state"], ("REACHABLE", "STALE", "DELAY"))


class ThreeWorkers(Routes):
    """Each worker of the engine has routes of its own: all of them change."""

    test_configured = test_wrong = test_kinds = test_neighbors = None

    LAB = {"extra": "  workers: 3\n" + Routes.LAB["extra"]}


if __name__ == "__main__":
    netcase.main()

#!/usr/bin/env python3
"""What a stack is told by its link: 802.1Q VLANs (support/vlan.py is the peer's end of them), IPv6 addresses and the default
router from a router advertisement daemon, an IPv4 address and router from a DHCP server (dnsmasq is both). Each carries
checked bytes both ways; the learned addresses and a connection on them outlive the engine."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from held import Held  # noqa: E402
from netns import run  # noqa: E402
from wait import wait_for  # noqa: E402

ECHO = os.path.join(sys.path[0], "echo.py")
VLAN = os.path.join(sys.path[0], "vlan.py")
PING = os.path.join(sys.path[0], "ping.py")
BEYOND4, BEYOND6 = "198.51.100.7", "2001:db8:7::7"  # behind the router


class LinkCase(netcase.NetCase):
    port = 7100

    def serve(self, where, address):
        type(self).port += 1
        server = self.lab.spawn(where, [programs.PYTHON, "-u", ECHO, "serve", address, self.port])
        programs.wait_listening(self.lab, where, self.port)
        return server

    def talk(self, server, client, address, bind):
        """A megabyte and back; returns the client's local address."""
        self.serve(server, bind)
        done = self.lab.run(client, [programs.PYTHON, ECHO, "talk", address, self.port, 1_000_000, 2], 150)
        words = done.stdout.decode().split()
        self.assertEqual(words[0], "equal")
        return words[1]

    def ping(self, address, size=1400):
        self.lab.peer([programs.PYTHON, PING, address, 5, size])

    def addresses(self):
        return self.lab.show("interface")["interfaces"]["interface"][0]["address"]

    def learned(self, prefix):
        """The stack's address that begins so, without its length."""
        def find():
            found = [a.partition("/")[0] for a in self.addresses() if a.startswith(prefix)]
            return found[0] if found else None
        return wait_for(find, 20, f"an address {prefix}…")

    def held_over_engine_death(self, address):
        self.serve("app", "::" if ":" in address else "0.0.0.0")
        held = Held(self.lab, "peer", address, self.port, 2)
        self.lab.wait_service("engine", self.lab.kill_service("engine"))
        held.ask()
        self.assertEqual(self.learned(address), address)
        self.ping(address)


class Vlan(LinkCase):
    LAB = {"extra": "    - {interface: v42, address: 10.42.0.1/24}\n"
                    '    - {interface: v42, address: "fd00:42::1/64"}\n'
                    "  vlans:\n    - {interface: hs0, id: 42, name: v42}\n"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for number in (42, 43):
            vlan = cls.lab.spawn("peer", [programs.PYTHON, "-u", VLAN, "p0", f"v{number}", number])
            wait_for(lambda v=vlan: "ready" in v.output() or not v.alive(), 20, "a tap for a VLAN")
            cls.lab.world.up(cls.lab.P, f"v{number}", f"10.{number}.0.2/24", f"fd00:{number}::2/64")

    def test_both_ways(self):
        for ours, theirs, any_address in (("10.42.0.1", "10.42.0.2", "0.0.0.0"), ("fd00:42::1", "fd00:42::2", "::")):
            with self.subTest(ours):
                self.ping(ours)
                self.assertEqual(self.talk("app", "peer", ours, any_address), theirs)
                self.assertEqual(self.talk("peer", "app", theirs, any_address), ours)

    def test_shown(self):
        rows = {row["name"]: row for row in self.lab.show("interface")["interfaces"]["interface"]}
        self.assertEqual(set(rows), {"hs0", "v42"})
        self.assertEqual((rows["v42"]["kind"], rows["v42"]["device"], rows["v42"]["mtu"]), ("vlan", "hs0 id 42", 1500))
        self.assertEqual(rows["v42"]["mac"], rows["hs0"]["mac"])
        self.assertLessEqual({"10.42.0.1/24", "fd00:42::1/64"}, set(rows["v42"]["address"]))
        self.assertNotIn("10.42.0.1/24", rows["hs0"]["address"])

    def test_untagged_beside(self):
        self.ping("10.77.0.1")
        self.talk("app", "peer", "10.77.0.1", "0.0.0.0")

    def test_foreign_vlan_is_not_heard(self):
        """Frames of a VLAN that is not configured are dropped and counted, though their IP address is ours."""
        def dropped():
            return {c["name"]: c["value"] for c in self.lab.show("stats")["stats"]["counter"]}["eth.rx.vlan"]
        before = dropped()
        mac = self.lab.show("interface")["interfaces"]["interface"][0]["mac"]
        run(["ip", "-n", self.lab.P, "neigh", "replace", "10.43.0.1", "lladdr", mac, "dev", "v43"])
        done = self.lab.peer([programs.PYTHON, PING, "10.43.0.1", 1, 10], check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertGreater(dropped(), before)

    def held_over(self, service):
        self.serve("app", "0.0.0.0")
        held = Held(self.lab, "peer", "10.42.0.1", self.port, 2)
        self.lab.wait_service(service, self.lab.kill_service(service))
        held.ask()
        self.assertEqual(self.talk("peer", "app", "10.42.0.2", "0.0.0.0"), "10.42.0.1")

    def test_engine_dies(self):
        self.held_over("engine")

    def test_nicio_dies(self):
        self.held_over("nicio")


class VlanThreeWorkers(Vlan):
    """nicio looks behind the tag for the worker that has the connection: none comes to another."""

    test_shown = test_untagged_beside = test_foreign_vlan_is_not_heard = test_nicio_dies = None
    LAB = {"extra": Vlan.LAB["extra"] + "  workers: 3\n"}

    def test_both_ways(self):
        super().test_both_ways()
        self.assertEqual({c["name"]: c["value"] for c in self.lab.show("stats")["stats"]["counter"]}["engine.rx.handed_over"], 0)


class Learned(LinkCase):
    LAB = {"extra": "    - {interface: hs0, address: auto}\n    - {interface: hs0, address: dhcp}\n"}

    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.world.up(lab.P, "p0", "10.88.0.2/24", "fd00:88::2/64")
        lab.world.up(lab.P, "lo", BEYOND4 + "/32", BEYOND6 + "/128")
        cls.leases = os.path.join(lab.dir, "leases")
        cls.daemon = lab.world.start(lab.world.command(lab.P, [
            "/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--user=root",
            "--port=0", "--interface=p0", "--bind-interfaces", "--log-dhcp", f"--dhcp-leasefile={cls.leases}",
            f"--pid-file={lab.dir}/dnsmasq.pid", "--dhcp-range=10.88.0.100,10.88.0.150,255.255.255.0,10m",
            "--dhcp-option=option:router,10.88.0.2", "--enable-ra", "--dhcp-range=::,constructor:p0,ra-only,64"]), "dnsmasq")
        lab.start()

    def test_dhcp(self):
        address = self.learned("10.88.0.1")
        with open(self.leases, encoding="ascii") as f:
            leases = [line.split() for line in f]
        mac = self.lab.show("interface")["interfaces"]["interface"][0]["mac"]
        self.assertIn([mac, address], [lease[1:3] for lease in leases])
        self.ping(address)
        self.assertEqual(self.talk("app", "peer", address, "0.0.0.0"), "10.88.0.2")
        self.assertEqual(self.talk("peer", "app", "10.88.0.2", "0.0.0.0"), address)
        self.assertEqual(self.talk("peer", "app", BEYOND4, "0.0.0.0"), address)  # by the router that DHCP named

    def test_router_advertisement(self):
        address = self.learned("fd00:88:")
        self.ping(address)
        self.assertEqual(self.talk("app", "peer", address, "::"), "fd00:88::2")
        # for its first second, also after an engine's death, it is optimistic, and another one is preferred (RFC 4429 3.1)
        wait_for(lambda: self.talk("peer", "app", "fd00:88::2", "::") == address, 20, "connects from the learned address")
        self.talk("peer", "app", BEYOND6, "::")  # by the router that advertised itself

    def test_dhcp_over_engine_death(self):
        self.held_over_engine_death(self.learned("10.88.0.1"))

    def test_router_advertisement_over_engine_death(self):
        self.held_over_engine_death(self.learned("fd00:88:"))


del LinkCase  # a frame, no test

if __name__ == "__main__":
    netcase.main()

#!/usr/bin/env python3
"""The kinds of ports besides AF_PACKET on a veth of MTU 1500: jumbo frames, a device without offloads, a tap, DPDK's
af_xdp, af_packet, pcap and tap, and two stacks joined by memif. They carry a checked file both ways and survive their
nicio."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import netns  # noqa: E402
import programs  # noqa: E402
from netns import run  # noqa: E402
from stack import STACK4, STACK6, Lab  # noqa: E402

SIZE = 20_000_000
PING = os.path.join(sys.path[0], "ping.py")


class Ports(netcase.NetCase):
    START = False

    @classmethod
    def setUpClass(cls):
        cls.lab = Lab(netcase.BUILD)  # only so that the frame has one; every test makes its own

    def lab_of(self, **kw):
        lab = Lab(netcase.BUILD, **kw)
        self.addCleanup(lab.world.close)
        self.addCleanup(lab.stop)
        return lab

    def offloads(self, lab, *settings, peer_only=False):
        ends = ((lab.P, "p0"),) if peer_only else ((lab.P, "p0"), (lab.S, "hs0"))
        for ns, interface in ends:
            run(["ip", "netns", "exec", ns, "ethtool", "-K", interface, *settings])

    def carries(self, lab, largest=1400):
        for address in (STACK4, STACK6):
            lab.peer([programs.PYTHON, PING, address, 5, largest])
        sha = programs.random_file(os.path.join(lab.world.data_dir, "file"), SIZE)
        for server, client in (("app", "peer"), ("peer", "app")):
            programs.nginx(lab, server, lab.world.data_dir)
            speed = programs.fetch(lab, server, client, "file", SIZE, sha)
            print(f"{self.id().rpartition('.')[2]} from {server}: {speed * 8e-9:.2f} Gbit/s", flush=True)
        return sha

    def survives(self, lab, sha):
        """nicio dies in the middle, both ways."""
        for server, client in (("app", "peer"), ("peer", "app")):
            transfer = programs.begun(lab, server, client, "file", SIZE, 0.1)
            lab.wait_service("nicio", lab.kill_service("nicio"))
            transfer.finish(sha)

    def test_jumbo(self):
        lab = self.lab_of(mtu=9000)
        lab.start()
        self.survives(lab, self.carries(lab, 3000))

    def test_without_offloads(self):
        """Neither end cuts or merges, nor computes checksums for the other."""
        lab = self.lab_of()
        self.offloads(lab, "tso", "off", "gso", "off", "gro", "off", "tx", "off", "rx", "off")
        lab.start()
        self.survives(lab, self.carries(lab))

    def test_af_xdp(self):
        lab = self.lab_of(interfaces=['name: hs0, kind: ethdev, device: "net_af_xdp0,iface=hs0"'])
        self.offloads(lab, "tso", "off", "gso", "off", "tx", "off")
        lab.start()
        self.survives(lab, self.carries(lab))

    def test_af_packet_pmd(self):
        lab = self.lab_of(interfaces=['name: hs0, kind: ethdev, device: "net_af_packet0,iface=hs0"'])
        self.offloads(lab, "tso", "off", "gso", "off", "tx", "off")
        lab.start()
        self.survives(lab, self.carries(lab))

    def test_tap(self):
        """A tap that nicio makes, bridged to the peer's veth by nothing: the kernel in S is the peer."""
        lab = self.lab_of(interfaces=["name: hs0, kind: kernel, device: hstap0, tap: true"])
        lab.start()
        run(["ip", "-n", lab.S, "addr", "add", "10.77.0.2/24", "dev", "hstap0"])
        sha = programs.random_file(os.path.join(lab.world.data_dir, "file"), SIZE)
        programs.nginx(lab, "app", lab.world.data_dir)
        got = os.path.join(lab.world.data_dir, "got")
        done = run(lab.world.command(lab.S, ["curl", "-sS", "--max-time", 30, "-o", got, "-w", "%{num_connects} %{http_code}",
                                             programs.url("app", "peer", "file")]), 40)
        self.assertEqual((done.stdout, programs.sha256(got)), (b"1 200", sha))

    def test_pcap_pmd(self):
        """libpcap on a live interface."""
        lab = self.lab_of(interfaces=['name: hs0, kind: ethdev, device: "net_pcap0,iface=hs0"'])
        self.offloads(lab, "tso", "off", "gso", "off", "gro", "off", "tx", "off", "rx", "off")
        lab.start()
        self.survives(lab, self.carries(lab))

    def test_tap_pmd(self):
        """A tap that DPDK makes; the kernel in S is the peer."""
        lab = self.lab_of(interfaces=['name: hs0, kind: ethdev, device: "net_tap0,iface=hstap0"'])
        lab.start()
        run(["ip", "-n", lab.S, "addr", "add", "10.77.0.2/24", "dev", "hstap0"])
        run(lab.world.command(lab.S, [programs.PYTHON, PING, STACK4, 5, 1400]), 30)

    def test_mac_stays(self):
        """Peers keep the MAC for half a minute: it is the same after the end of nicio and of all services."""
        for device in ("net_null0", "net_ring0", "net_tap0,iface=hstap0", "net_pcap0,iface=hs0", "net_af_packet0,iface=hs0",
                       "net_af_xdp0,iface=hs0"):
            with self.subTest(device):
                lab = self.lab_of(interfaces=[f'name: hs0, kind: ethdev, device: "{device}"'])
                lab.start()
                seen = [self.interface(lab)]
                lab.wait_service("nicio", lab.kill_service("nicio"))
                seen.append(self.interface(lab))
                lab.stop()
                lab.start()
                seen.append(self.interface(lab))
                self.assertEqual(seen, [(seen[0][0], device, True)] * 3)
                lab.stop()
                lab.world.close()

    def interface(self, lab):
        one, = lab.show("interface")["interfaces"]["interface"]
        return one["mac"], one["device"], one["up"]

    def test_memif(self):
        """Two stacks and no kernel between them; one of the two nicios is killed in the middle."""
        world = netns.World()
        self.addCleanup(world.close)
        labs = []
        for number, role in ((1, "server"), (2, "client")):
            device = f"net_memif0,role={role},id=0,socket={world.dir}/memif.sock,socket-abstract=no"
            labs.append(Lab(netcase.BUILD, world=world, number=number, interfaces=[
                f'name: hs0, kind: ethdev, device: "{device}", mac: "02:00:00:00:00:0{number}"']))
            self.addCleanup(labs[-1].stop)
            labs[-1].start()
        a, b = labs
        sha = programs.random_file(os.path.join(world.data_dir, "file"), SIZE)
        programs.nginx(a, "app", world.data_dir)
        speed = programs.fetch(b, "app", "app", "file", SIZE, sha)
        print(f"memif: {speed * 8e-9:.2f} Gbit/s", flush=True)
        transfer = programs.begun(b, "app", "app", "file", SIZE, 0.1)
        b.wait_service("nicio", b.kill_service("nicio"))
        transfer.finish(sha)


if __name__ == "__main__":
    netcase.main()

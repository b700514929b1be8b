#!/usr/bin/env python3
"""UDP under the preload shim, as server and as client, against the Linux kernel: what python, iperf3, netcat and sockperf
send comes back, boundaries and all; ICMP errors reach who is connected; names are looked up on the kernel where the stack
has no way; services are killed in the middle, and the sockets go on."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from stack import PEER4, PEER6, SERVICES, STACK4, STACK6  # noqa: E402
from udpcase import UdpCase  # noqa: E402
from wait import wait_for  # noqa: E402

BOTH = (("app", "peer"), ("peer", "app"))
SIZES = [0, 1, 100, 1472, 1473, 8000, 65507]
ADDRESS = {"app": (STACK4, STACK6), "peer": (PEER4, PEER6)}
KERNEL_DNS = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
c.sendto(b"query", s.getsockname())
data, peer = s.recvfrom(100)
s.sendto(b"answer", peer)
print(c.recvfrom(100)[0].decode())
d = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
d.bind(("0.0.0.0", 0))
d.connect(s.getsockname())
d.send(b"again")
print(s.recvfrom(100)[0].decode())
"""
LISTENS = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
print("up", flush=True)
print(s.recv(100).decode(), flush=True)
"""
SAYS = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b"to-you", (sys.argv[1], int(sys.argv[2])))
"""
TO_SELF = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
a = socket.socket(family, socket.SOCK_DGRAM)
a.bind((sys.argv[1], 0))
b = socket.socket(family, socket.SOCK_DGRAM)
for n in (0, 10, 3000, 20000, 65507):
    b.sendto(bytes(n), a.getsockname())
    a.settimeout(20)
    print(len(a.recv(65536)) == n)
b.connect((sys.argv[1], 9))
b.send(b"x")
b.settimeout(20)
try:
    b.recv(10)
except ConnectionRefusedError:
    print("refused")
"""


class Udp(UdpCase):
    port = 7000

    # --- what goes comes back ---

    def test_echo(self):
        for server, client in BOTH:
            for bound, address in zip(("0.0.0.0", "::"), ADDRESS[server]):
                with self.subTest(server=server, address=address):
                    port = self.next_port()
                    self.start(server, "echo", bound, port)
                    self.assertTrue(self.tell(client, "ask", address, port, *SIZES)["good"])

    def test_bound_to_one_address(self):
        for address in (STACK4, STACK6):
            port = self.next_port()
            self.start("app", "echo", address, port)
            self.assertTrue(self.tell("peer", "ask", address, port, 10, 2000)["good"])

    def test_both_families_at_one_socket(self):
        port = self.next_port()
        self.start("app", "echo", "::", port)
        for address in (STACK4, STACK6):
            self.assertTrue(self.tell("peer", "ask", address, port, 10, 2000)["good"])

    def test_forms(self):
        """Peek, truncation, ancillary data and segmentation as the kernel does them."""
        for own, theirs in zip(ADDRESS["app"], ADDRESS["peer"]):
            port = self.next_port()
            self.start("app", "echo", own, port)
            self.start("peer", "echo", theirs, port)
            kernel, stack = self.tell("peer", "forms", own, port), self.tell("app", "forms", theirs, port)
            self.assertEqual(kernel, stack)
            self.assertEqual(stack["segments"], [100, 100, 50])

    def test_shown(self):
        port = self.next_port()
        self.start("app", "echo", STACK4, port)
        rows = [r for r in self.lab.sessions() if r["proto"] == "udp" and r["local"] == f"{STACK4}:{port}"]
        self.assertEqual([r["state"] for r in rows], ["OPEN"])

    def test_refused(self):
        for address in ADDRESS["peer"]:
            heard = self.tell("app", "refused", address, self.next_port())["heard"]
            self.assertEqual(heard, ["ConnectionRefusedError", "TimeoutError", "TimeoutError"])
        for address in ADDRESS["app"]:
            heard = self.tell("peer", "refused", address, self.next_port())["heard"]
            self.assertEqual(heard, ["ConnectionRefusedError", "TimeoutError", "TimeoutError"])

    def test_to_itself(self):
        for own in ADDRESS["app"]:
            out = self.lab.app(["python3", "-c", TO_SELF, own]).stdout.decode().split()
            self.assertEqual(out, ["True"] * 5 + ["refused"])

    def test_kernel_addresses(self):
        """Loopback stays with the kernel, also for a socket that was bound to everything before it showed where to."""
        self.assertEqual(self.lab.app(["python3", "-c", KERNEL_DNS]).stdout.decode().split(), ["answer", "again"])

    # --- programs ---

    def iperf3(self, server, client, *more):
        port = self.next_port()
        srv = self.lab.spawn(server, ["iperf3", "-s", "-1", "-p", port])
        programs.wait_listening(self.lab, server, port)
        done = self.lab.run(client, ["iperf3", "-u", "-J", "-c", ADDRESS[server][0], "-p", port, "-t", 1, *more], timeout=150)
        srv.wait(60)
        return json.loads(done.stdout)["end"]["sum"]

    def test_iperf3(self):
        """Nearly all arrives. A machine that is busy elsewhere for a moment loses more: one run of three has to be good."""
        for server, client in BOTH:
            for more in (["-b", "8M"], ["-b", "8M", "-R"], ["-b", "8M", "-l", 4000]):
                with self.subTest(server=server, more=more):
                    for _ in range(3):
                        end = self.iperf3(server, client, *more)
                        print(f"iperf3 -u server {server} {more}: {end['packets']} datagrams, {end['lost_percent']:.2f}% lost")
                        if end["lost_percent"] < 10:
                            break
                    self.assertGreater(end["packets"], 100)
                    self.assertLess(end["lost_percent"], 10)

    def test_netcat(self):
        for server, client in BOTH:
            with self.subTest(server=server):
                port = self.next_port()
                srv = self.lab.spawn(server, ["nc", "-u", "-l", "-p", port])
                if server == "app":
                    self.lab.wait_listening(port)
                else:
                    wait_for(lambda: f":{port:04X} " in self.lab.run("peer", ["cat", "/proc/net/udp"]).stdout.decode(), 20, "nc")
                self.lab.run(client, ["sh", "-c", f"echo hello | nc -u -w 1 {ADDRESS[server][0]} {port}"], check=False)
                wait_for(lambda s=srv: "hello" in s.output(), 20, "what netcat sent")

    def test_sockperf(self):
        for server, client in BOTH:
            with self.subTest(server=server):
                port = self.next_port()
                self.lab.spawn(server, ["sockperf", "server", "-i", ADDRESS[server][0] if server == "app" else "0.0.0.0",
                                        "-p", port])
                if server == "app":
                    self.lab.wait_listening(port)
                done = self.lab.run(client, ["sockperf", "ping-pong", "-i", ADDRESS[server][0], "-p", port, "-t", 1],
                                    timeout=150)
                self.assertIn(b"Summary: Latency", done.stdout)

    # --- groups ---

    def group(self, name, listener, speaker, heard_at, told_at, kill=None):
        port = self.next_port()
        ear = self.start(listener, "group", name, port, heard_at, says="joined")
        if kill:
            self.lab.wait_service(kill, self.lab.kill_service(kill))
        self.lab.spawn(speaker, ["python3", self.tool, "tell", name, port, told_at])
        ear.wait(25)
        self.assertIn("to all", ear.output())

    def test_group_heard(self):
        self.group("239.1.2.3", "app", "peer", STACK4, PEER4)

    def test_group_told(self):
        self.group("239.1.2.4", "peer", "app", PEER4, STACK4)

    def test_group_outlives_the_engine(self):
        self.group("239.1.2.5", "app", "peer", STACK4, PEER4, kill="engine")
        self.group("ff05::1:5", "app", "peer", "", "p0", kill="engine")

    def test_group_of_ipv6(self):
        self.group("ff05::1:3", "app", "peer", "", "p0")
        self.group("ff05::1:4", "peer", "app", "p0", "")

    def test_group_not_joined(self):
        """Only who has joined hears a group: what is sent to it and then to the port itself comes once."""
        for group, own, theirs in (("239.1.2.6", STACK4, PEER4), ("ff05::1:6", STACK6, "p0")):
            port = self.next_port()
            ear = self.lab.spawn("app", ["python3", "-c", LISTENS, "::" if ":" in own else "0.0.0.0", port])
            wait_for(lambda p=ear: "up" in p.output(), 20, "a socket")
            self.lab.spawn("peer", ["python3", self.tool, "tell", group, port, theirs])
            before = self.group_nobody()
            wait_for(lambda b=before: self.group_nobody() > b + 4 or ear.output().count("\n") > 1, 20, "datagrams for nobody")
            self.lab.peer(["python3", "-c", SAYS, own, port])
            ear.wait(60)
            self.assertEqual(ear.output().split(), ["up", "to-you"])

    def group_nobody(self):
        """Datagrams to groups that nobody here has joined are not for us: IP counts them."""
        return {c["name"]: c["value"] for c in self.lab.show("stats")["stats"]["counter"]}["ip.rx.not_ours"]

    # --- nothing dies with a process ---

    def test_killed(self):
        """Datagrams may be lost while a service is away; the sockets, and what is connected, stay."""
        for server, client in BOTH:
            port = self.next_port()
            self.start(server, "echo", "0.0.0.0", port)
            for what in SERVICES:
                with self.subTest(what, server=server):
                    flow = self.lab.spawn(client, ["python3", self.tool, "flow", ADDRESS[server][0], port], stdin=-1)
                    wait_for(lambda: "up" in flow.output(), 20, "the flow")
                    self.lab.wait_service(what, self.lab.kill_service(what))
                    flow.popen.stdin.close()
                    flow.wait(90)
                    told = json.loads(flow.output().splitlines()[-1])
                    print(f"{what} killed, server {server}: {told}")
                    self.assertGreaterEqual(told["after"], 20)
            self.assertTrue(self.tell(client, "ask", ADDRESS[server][0], port, *SIZES)["good"])


if __name__ == "__main__":
    netcase.main()

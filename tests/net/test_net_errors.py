#!/usr/bin/env python3
"""Why a connect, or a connection, fails: the same program on the kernel and on the stack, at the same time and against the
same router, is told the same errno; and not before the time that its cause takes."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from netns import run  # noqa: E402
from stack import KERNEL_PEER4, PEER4, PEER6  # noqa: E402
from wait import wait_for  # noqa: E402

# What lies behind the peer, which is the router of both: it answers as its routes say.
NET4, NET6 = "10.96.0.0/13", "fd96::/16"
ROUTES = (("-4", "unreachable", "10.96.0.0/16"), ("-4", "prohibit", "10.97.0.0/16"), ("-4", "blackhole", "10.98.0.0/16"),
          ("-6", "unreachable", "fd96:1::/32"), ("-6", "prohibit", "fd96:2::/32"), ("-6", "blackhole", "fd96:4::/32"))
UP = ("10.100.0.1", "10.100.0.2")  # servers; one goes and is unreachable, the other one's packets vanish
PORT = 8700
# name, address ({} = own net), options (TCP_SYNCNT 7, TCP_USER_TIMEOUT 18), errno, not before s
CONNECTS = (
    ("silent neighbour", "{4}.99", {}, "EHOSTUNREACH", 2.5),
    ("silent neighbour, IPv6", "{6}::99", {}, "EHOSTUNREACH", 2.5),
    ("no route", "10.200.0.1", {}, "ENETUNREACH", 0),
    ("no route, IPv6", "fd99::1", {}, "ENETUNREACH", 0),
    ("host unreachable", "10.96.0.1", {}, "EHOSTUNREACH", 0),
    ("filtered", "10.97.0.1", {}, "EHOSTUNREACH", 0),
    ("net unreachable", "10.99.0.1", {}, "ENETUNREACH", 0),
    ("route of the router refuses, IPv6", "fd96:1::1", {}, "ENETUNREACH", 0),
    ("prohibited, IPv6", "fd96:2::1", {}, "EACCES", 0),
    ("no route of the router, IPv6", "fd96:3::1", {}, "ENETUNREACH", 0),
    ("refused", "{4}.2", {}, "ECONNREFUSED", 0),
    ("refused, IPv6", "{6}::2", {}, "ECONNREFUSED", 0),
    ("no answer, one SYN more", "10.98.0.1", {7: 1}, "ETIMEDOUT", 2.9),
    ("no answer, one SYN more, IPv6", "fd96:4::1", {7: 1}, "ETIMEDOUT", 2.9),
    ("no answer within the user timeout", "10.98.0.2", {18: 1500}, "ETIMEDOUT", 1.4),
)
SERVER = f"""
import socket
s = [socket.create_server((a, {PORT})) for a in {UP!r}]
c = [x.accept()[0] for _ in range(2) for x in s]
input()
"""
# All connects at once; a line for each error that is told, as it comes.
PROGRAM = f"""
import errno, json, select, socket, sys, time
def tell(name, err, began): print(json.dumps([name, errno.errorcode.get(err, str(err)), time.monotonic() - began]), flush=True)
four, six = sys.argv[1:3]
up = [socket.create_connection((a, {PORT}), 20) for a in {UP!r}]
print('"up"', flush=True)
input()
p, waiting = select.poll(), {{}}
for name, address, options in json.loads(sys.argv[3]):
    address = address.replace("{{4}}", four).replace("{{6}}", six)
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    s.setblocking(False)
    for k, v in options.items():
        s.setsockopt(socket.IPPROTO_TCP, int(k), v)
    began = time.monotonic()
    rc = s.connect_ex((address, 9))
    if rc != errno.EINPROGRESS:
        tell(name, rc, began)
    else:
        waiting[s.fileno()] = (name, s, began)
        p.register(s, select.POLLOUT)
for name, s in zip(("gone, unreachable", "gone, silent"), up):
    s.setblocking(False)
    s.setsockopt(socket.IPPROTO_TCP, 18, 2000)
    waiting[s.fileno()] = (name, s, time.monotonic())
    s.send(b"x")
    p.register(s, select.POLLIN)
while waiting:
    for fd, _ in p.poll(40000) or sys.exit("nothing for 40 s: " + str([w[0] for w in waiting.values()])):
        name, s, began = waiting.pop(fd)
        tell(name, s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), began)
        p.unregister(fd)
"""
GONE = (("gone, unreachable", "EHOSTUNREACH", 1.9), ("gone, silent", "ETIMEDOUT", 1.9))


class Errors(netcase.NetCase):
    def ip(self, ns, *words):
        run(["ip", "-n", ns, *words])

    def test_same_as_the_kernel(self):
        lab, P = self.lab, self.lab.P
        lab.world.sysctl(P, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.icmp_ratelimit=0",
                         "net.ipv6.icmp.ratelimit=0", "net.ipv4.icmp_msgs_per_sec=100000")
        for family, kind, net in ROUTES:
            self.ip(P, family, "route", "add", kind, net)
        self.ip(P, "link", "set", "lo", "up")
        for a in UP:
            self.ip(P, "addr", "add", a + "/32", "dev", "lo")
        self.ip(lab.K, "route", "add", NET4, "via", KERNEL_PEER4)
        self.ip(lab.K, "-6", "route", "add", NET6, "via", "fd00:78::2")
        lab.hsctl("route", "add", NET4, "via", PEER4)
        lab.hsctl("route", "add", NET6, "via", PEER6)
        lab.spawn("peer", [programs.PYTHON, "-c", SERVER], stdin=-1)
        lab.wait_listening_kernel(P, PORT)
        cases = json.dumps([c[:3] for c in CONNECTS])
        both = {}
        for where, four, six in (("kernel", "10.78.0", "fd00:78"), ("app", "10.77.0", "fd00:77")):
            both[where] = lab.spawn(where, [programs.PYTHON, "-u", "-c", PROGRAM, four, six, cases], stdin=-1)
        for p in both.values():
            wait_for(lambda: "up" in p.output(), 30, "the connections to be lost")
        for a, kind in zip(UP, ("unreachable", "blackhole")):
            self.ip(P, "addr", "del", a + "/32", "dev", "lo")
            self.ip(P, "route", "add", kind, a + "/32")
        for p in both.values():
            p.popen.stdin.write(b"\n")
            p.popen.stdin.flush()
        want = {name: (err, least) for name, _, _, err, least in CONNECTS} | {n: (e, t) for n, e, t in GONE}
        for where, p in both.items():
            p.wait(120)
            told = [json.loads(line) for line in p.output().splitlines() if line.startswith("[")]
            with self.subTest(where):
                self.assertEqual({name: err for name, err, _ in told}, {name: err for name, (err, _) in want.items()})
                for name, _, took in told:
                    self.assertGreaterEqual(took, want[name][1], name)


if __name__ == "__main__":
    netcase.main()

#!/usr/bin/env python3
"""Two VRFs with the same addresses, ports and peers side by side: connections with the very same four numbers in both at
once, each with its own content, also over the death of engine, broker and nicio; routes, neighbours, rules and what the
stack's own programs reach of each other, per VRF."""
import errno
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from netns import run  # noqa: E402
from stack import PEER4, PEER6, STACK4, STACK6  # noqa: E402
from wait import wait_for  # noqa: E402

VLAN = os.path.join(sys.path[0], "vlan.py")
INTERFACES = ["name: hs0, kind: kernel, device: hs0", "name: hs1, kind: kernel, device: hs1, vrf: 1"]
EXTRA = f"""    - {{interface: hs1, address: {STACK4}/24}}
    - {{interface: hs1, address: "{STACK6}/64"}}
    - {{interface: v5, address: {STACK4}/24}}
  vlans:
    - {{interface: hs0, id: 5, name: v5, vrf: 3}}
  routes:
    - {{to: 10.99.0.0/16, via: {PEER4}, vrf: 1}}
broker:
  namespaces:
    - {{ id: green, vrf: 1 }}
    - {{ id: tagged, vrf: 3 }}
"""
GREEN, TAGGED = {"VCL_APP_NAMESPACE_ID": "green"}, {"VCL_APP_NAMESPACE_ID": "tagged"}
# every line or datagram is answered with the server's name and what was said
SERVE = """
import socket, sys, threading
name, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
t = socket.socket(family)
t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
t.bind((address, port))
t.listen(16)
u = socket.socket(family, socket.SOCK_DGRAM)
u.bind((address, port))
def stream(c):
    for line in c.makefile("rb"):
        c.sendall(name.encode() + b" " + line)
def datagrams():
    while True:
        data, peer = u.recvfrom(1000)
        u.sendto(name.encode() + b" " + data, peer)
threading.Thread(target=datagrams, daemon=True).start()
print("up", flush=True)
while True:
    threading.Thread(target=stream, args=(t.accept()[0],), daemon=True).start()
"""
# one connection and one connected datagram socket from a port of our choice; each word of stdin is said on both
HOLD = """
import socket, sys
t, u = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
for s in (t, u):
    s.settimeout(20)
    s.bind(("0.0.0.0", int(sys.argv[3])))
    s.connect((sys.argv[1], int(sys.argv[2])))
f = t.makefile("rwb")
print("open", flush=True)
for line in sys.stdin:
    f.write(line.encode())
    f.flush()
    print("tcp", f.readline().decode().strip(), flush=True)
    u.send(line.strip().encode())
    print("udp", u.recv(1000).decode(), flush=True)
"""
# what is answered over TCP and over UDP, or the errno
ASK = """
import socket, sys
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, kind)
    s.settimeout(float(sys.argv[3]))
    try:
        s.connect((sys.argv[1], int(sys.argv[2])))
        s.send(b"x\\n" if kind == socket.SOCK_STREAM else b"x")
        print(s.recv(100).decode().strip())
    except TimeoutError:
        print("nothing")
    except OSError as e:
        print(e.errno)
"""


class Vrf(netcase.NetCase):
    LAB = {"interfaces": INTERFACES, "extra": EXTRA}

    @classmethod
    def prepare(cls):
        lab = cls.lab
        lab.Q = lab.world.namespace("q")
        lab.join(lab.S, "hs1", lab.Q, "q0", 1500)
        lab.world.up(lab.S, "hs1")
        lab.world.up(lab.Q, "q0", PEER4 + "/24", PEER6 + "/64")
        lab.start()

    def command(self, where, argv):
        """where: "P" and "Q", the peers in VRF 0 and 1, or an environment of a program of the stack."""
        ns = {"P": self.lab.P, "Q": self.lab.Q}.get(where) if isinstance(where, str) else None
        return self.lab.world.command(ns, argv) if ns else self.lab.app_command(argv, env=where)

    def serve(self, where, name, address, port):
        cmd = self.command(where, [programs.PYTHON, "-u", "-c", SERVE, name, address, port])
        program = self.lab.world.start(cmd, f"serve-{name}", cwd=self.lab.world.app_dir)
        wait_for(lambda: "up" in program.output() or not program.alive(), 20, f"{name} serves")
        self.assertTrue(program.alive(), program.output())
        return program

    def ask(self, where, address, port, wait=20):
        cmd = self.command(where, [programs.PYTHON, "-c", ASK, address, port, wait])
        done = run(cmd, 60, cwd=self.lab.world.app_dir)
        return [int(w) if w.isdigit() else w for w in done.stdout.decode().splitlines()]

    def hold(self, where, port, own_port):
        cmd = self.command(where, [programs.PYTHON, "-u", "-c", HOLD, STACK4, port, own_port])
        program = self.lab.world.start(cmd, f"hold-{where}", cwd=self.lab.world.app_dir, stdin=-1)
        wait_for(lambda: "open" in program.output() or not program.alive(), 20, f"{where} connects")
        self.assertTrue(program.alive(), program.output())
        return program

    def say(self, holder, name, word):
        """Over the connection and the datagram socket; a lost datagram, as over a death, is said again by no one."""
        holder.popen.stdin.write(word.encode() + b"\n")
        holder.popen.stdin.flush()
        wait_for(lambda: f"udp {name} {word}\n" in holder.output() or not holder.alive(), 30, f"{name} answers {word}")
        self.assertTrue(holder.alive(), holder.output())
        self.assertIn(f"tcp {name} {word}\n", holder.output())

    def both(self, answer):
        return [answer, answer]

    def test_same_numbers(self):
        """The same four numbers in both: two connections, two contents; engine, broker and nicio die under them."""
        for name, env in (("zero", {}), ("one", GREEN)):
            self.serve(env, name, "0.0.0.0", 7300)
        holders = [(self.hold("P", 7300, 7301), "zero"), (self.hold("Q", 7300, 7301), "one")]
        for holder, name in holders:
            self.say(holder, name, "first")
        rows = [s for s in self.lab.sessions() if s["proto"] == "tcp" and s["remote"] == f"{PEER4}:7301"]
        self.assertEqual({(s["local"], s["state"]) for s in rows}, {(f"{STACK4}:7300", rows[0]["state"])})
        self.assertEqual(sorted(s["vrf"] for s in rows), [0, 1])
        for service in ("engine", "broker", "nicio"):
            self.lab.wait_service(service, self.lab.kill_service(service))
            for holder, name in holders:
                self.say(holder, name, service)
        for where, name in (("P", "zero"), ("Q", "one")):
            self.assertEqual(self.ask(where, STACK4, 7300), self.both(f"{name} x"))
        rows = {a["listener"][0]["vrf"]: a["namespace_id"] for a in self.lab.show("app")["apps"]["app"] if a["listener"]}
        self.assertEqual(rows, {0: "default", 1: "green"})

    def test_out(self):
        """Programs of the stack reach their VRF's host of an address that is there in both."""
        self.serve("P", "P", PEER4, 7310)
        self.serve("Q", "Q", PEER4, 7310)
        self.serve("Q", "Q6", PEER6, 7310)
        self.assertEqual(self.ask({}, PEER4, 7310), self.both("P x"))
        self.assertEqual(self.ask(GREEN, PEER4, 7310), self.both("Q x"))
        self.assertEqual(self.ask(GREEN, PEER6, 7310), self.both("Q6 x"))
        self.assertEqual(self.ask({}, PEER6, 7310), self.both(errno.ECONNREFUSED))
        macs = {n["vrf"]: n["mac"] for n in self.lab.show("neighbor")["neighbors"]["neighbor"] if n["address"] == PEER4}
        self.assertEqual(len({macs[0], macs[1]}), 2)

    def test_own_addresses(self):
        """Neither over TCP nor by cut-through does a program meet what listens in another VRF."""
        self.serve(GREEN, "one", STACK4, 7320)
        self.assertEqual(self.ask({}, STACK4, 7320), self.both(errno.ECONNREFUSED))
        self.assertEqual(self.ask(GREEN, STACK4, 7320), self.both("one x"))
        self.serve({}, "zero", "::", 7320)
        self.assertEqual(self.ask({}, STACK4, 7320), self.both("zero x"))
        self.assertEqual(self.ask(GREEN, STACK4, 7320), self.both("one x"))
        self.assertEqual(self.ask(GREEN, STACK6, 7320), self.both(errno.ECONNREFUSED))

    def test_rule(self):
        """An ingress rule of one VRF."""
        for env, name in (({}, "zero"), (GREEN, "one")):
            self.serve(env, name, STACK4, 7330)
        self.lab.hsctl("rule", "add", "ingress", "ports=7330", "action=deny", "vrf=1")
        self.assertEqual([r["vrf"] for r in json.loads(self.lab.hsctl("--json", "rule", "show").stdout)["rules"]["rule"]], [1])
        self.assertEqual(self.ask("P", STACK4, 7330), self.both("zero x"))
        self.assertEqual(self.ask("Q", STACK4, 7330, 1), self.both("nothing"))
        self.lab.hsctl("rule", "del", "all")
        self.assertEqual(self.ask("Q", STACK4, 7330), self.both("one x"))

    def test_routes(self):
        """A route of one VRF, configured or set, leads nobody in the other; what was set outlives the engine."""
        refused = self.lab.hsctl("route", "add", "10.98.0.0/16", "via", PEER4, "vrf", "2", check=False)
        self.assertIn(b"allowed one of an interface", refused.stdout + refused.stderr)
        self.lab.hsctl("route", "add", "10.98.0.0/16", "via", PEER4, "vrf", "1")
        run(["ip", "-n", self.lab.Q, "addr", "add", "10.98.0.7/32", "dev", "q0"])
        run(["ip", "-n", self.lab.Q, "addr", "add", "10.99.0.7/32", "dev", "q0"])
        for far in ("10.98.0.7", "10.99.0.7"):
            self.serve("Q", "Q", far, 7340)
        for _ in range(2):
            for far in ("10.98.0.7", "10.99.0.7"):
                self.assertEqual(self.ask(GREEN, far, 7340), self.both("Q x"))
                self.assertEqual(self.ask({}, far, 7340), self.both(errno.ENETUNREACH))
            rows = self.routes()
            self.assertEqual({(r["to"], r["vrf"], r["by"]) for r in rows if r["to"].startswith("10.9")},
                             {("10.98.0.0/16", 1, "set"), ("10.99.0.0/16", 1, "configured")})
            self.assertEqual(sorted(r["vrf"] for r in rows if r["to"] == "10.77.0.0/24"), [0, 1, 3])
            self.lab.wait_service("engine", self.lab.kill_service("engine"))
        self.lab.hsctl("route", "del", "10.98.0.0/16", "vrf", "1")
        self.assertEqual([r for r in self.routes() if r["to"] == "10.98.0.0/16"], [])

    def test_vlan(self):
        """A VLAN in another VRF than its interface."""
        vlan = self.lab.spawn("peer", [programs.PYTHON, "-u", VLAN, "p0", "v5", 5])
        wait_for(lambda: "ready" in vlan.output() or not vlan.alive(), 20, "a tap for a VLAN")
        host = self.lab.world.namespace("v")
        run(["ip", "-n", self.lab.P, "link", "set", "v5", "netns", host])
        self.lab.world.up(host, "v5", PEER4 + "/24")
        self.serve(TAGGED, "tagged", STACK4, 7350)
        self.serve({}, "zero", STACK4, 7350)
        self.assertEqual(self.ask("P", STACK4, 7350), self.both("zero x"))
        done = run(self.lab.world.command(host, [programs.PYTHON, "-c", ASK, STACK4, 7350, 20]), 60)
        self.assertEqual(done.stdout.decode().splitlines(), self.both("tagged x"))

    def routes(self):
        return json.loads(self.lab.hsctl("--json", "route", "show").stdout)["routes"]["route"]


if __name__ == "__main__":
    netcase.main()

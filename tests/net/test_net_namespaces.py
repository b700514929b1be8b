#!/usr/bin/env python3
"""Two namespaces side by side on one stack: each serves its own port, neither takes the other's nor reaches it, nor
leaves its own if it is told not to; secrets; limits that are reached and freed again, with the errno that a program
sees. And namespaces with addresses of their own."""
import errno
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from held import Held  # noqa: E402
from stack import PEER4, PEER6, STACK4  # noqa: E402
from wait import wait_for  # noqa: E402

ECHO = os.path.join(sys.path[0], "echo.py")
EXTRA = """broker:
  slots-per-worker: 256
  namespaces:
    - { id: blue, secret: 77, limit: { listeners: 2 } }
    - { id: red, limit: { sessions: 512 } }
    - { id: lime }
"""
BLUE = {"VCL_APP_NAMESPACE_ID": "blue", "VCL_APP_NAMESPACE_SECRET": "77"}
LIME = {"VCL_APP_NAMESPACE_ID": "lime"}
RED = {"VCL_APP_NAMESPACE_ID": "red"}
# one errno a line (0 = it worked) for each port that is bound with SO_REUSEPORT and listened on; the first is given up
# before the last
LISTENS = """
import socket, sys
held = []
def listen(port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        s.bind((sys.argv[1], port))
        s.listen(5)
    except OSError as e:
        print(e.errno, flush=True)
        return
    held.append(s)
    print(0, flush=True)
ports = [int(p) for p in sys.argv[2:]]
for port in ports[:-1]:
    listen(port)
if len(ports) > 1 and held:
    held.pop(0).close()
listen(ports[-1])
"""
CONNECT = """
import socket, sys
s = socket.socket()
s.settimeout(15)
print(s.connect_ex((sys.argv[1], int(sys.argv[2]))))
"""
# connected and not: 0 if it is answered
SEND = """
import socket, sys
peer = (sys.argv[1], int(sys.argv[2]))
for how in ("connect", "sendto"):
    s = socket.socket(type=socket.SOCK_DGRAM)
    s.settimeout(15)
    try:
        if how == "connect":
            s.connect(peer)
            s.send(b"x")
        else:
            s.sendto(b"x", peer)
        s.recv(10)
        print(0)
    except OSError as e:
        print(e.errno)
"""
RECEIVE = """
import socket, sys
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
print("up", flush=True)
while True:
    s.sendto(*s.recvfrom(10))
"""
SOCKET = """
import socket
try:
    socket.socket()
    print(0)
except OSError as e:
    print(e.errno)
"""

BLUE4, RED4, BLUE6 = "10.77.0.11", "10.77.0.12", "fd00:77::11"
OWN = f"""    - {{interface: hs0, address: {BLUE4}/24}}
    - {{interface: hs0, address: {RED4}/24}}
    - {{interface: hs0, address: "{BLUE6}/64"}}
broker:
  namespaces:
    - {{ id: blue, addresses: [ {BLUE4}, "{BLUE6}" ] }}
    - {{ id: red, addresses: {RED4}/32 }}
    - {{ id: lime, attach: @RUN@/lime, addresses: {STACK4} }}
"""
# answers connections and datagrams with its name and the peer's address
NAMED = """
import select, socket, sys
name, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
t = socket.socket(family)
t.bind((address, port))
t.listen(5)
u = socket.socket(family, socket.SOCK_DGRAM)
u.bind((address, port))
print("up", flush=True)
while True:
    for s in select.select([t, u], [], [])[0]:
        if s is t:
            c, peer = t.accept()
            c.sendall(f"{name} {peer[0]}".encode())
            c.close()
        else:
            peer = u.recvfrom(10)[1]
            u.sendto(f"{name} {peer[0]}".encode(), peer)
"""
# what is answered over TCP and over UDP, or the errno
ASK = """
import socket, sys
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, kind)
    s.settimeout(15)
    try:
        s.connect((sys.argv[1], int(sys.argv[2])))
        if kind == socket.SOCK_DGRAM:
            s.send(b"x")
        print(s.recv(100).decode())
    except OSError as e:
        print(e.errno)
"""
# the errno of bind for each kind
BIND = """
import socket, sys
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    s = socket.socket(type=kind)
    try:
        s.bind((sys.argv[1], int(sys.argv[2])))
        print(0)
    except OSError as e:
        print(e.errno)
"""


class Namespaces(netcase.NetCase):
    LAB = {"extra": EXTRA}

    def python(self, env, script, *args):
        done = self.lab.app([programs.PYTHON, "-c", script, *args], env=env)
        return [int(word) for word in done.stdout.split()]

    def serve(self, env, port):
        program = self.lab.spawn("app", [programs.PYTHON, "-u", ECHO, "serve", STACK4, port], env=env)
        self.lab.wait_listening(port)
        return program

    def use(self):
        return {n["namespace_id"]: n for n in self.lab.show("namespace")["namespaces"]["namespace_"]}

    def until_empty(self):
        """The workers of programs that ended are given back."""
        wait_for(lambda: not any(n["workers"] for n in self.use().values()), 20, "namespaces without workers")

    def test_side_by_side(self):
        self.until_empty()
        self.serve(BLUE, 7100)
        self.serve(RED, 7101)
        for port in (7100, 7101):
            self.lab.peer([programs.PYTHON, ECHO, "talk", STACK4, port, 100000, 2])
        owners = {a["listener"][0]["local"]: a["namespace_id"] for a in self.lab.show("app")["apps"]["app"]}
        self.assertEqual(owners, {f"{STACK4}:7100": "blue", f"{STACK4}:7101": "red"})
        use = self.use()
        self.assertEqual([use[n]["apps"] for n in ("default", "blue", "red")], [0, 1, 1])
        self.assertEqual([use[n]["listeners"]["used"] for n in ("default", "blue", "red")], [0, 1, 1])
        self.assertEqual((use["red"]["sessions"]["used"], use["red"]["sessions"]["limit"]), (256, 512))
        self.assertEqual((use["blue"]["secret"], use["red"]["secret"]), (True, False))

    def test_no_takeover(self):
        """SO_REUSEPORT on both, one user: Linux would share the port; here the other namespace is refused."""
        first = self.lab.spawn("app", [programs.PYTHON, "-c", LISTENS + "input()\n", STACK4, 7110], env=RED, stdin=-1)
        self.lab.wait_listening(7110)
        self.assertEqual(self.python(RED, LISTENS, STACK4, 7110), [0])
        self.assertEqual(self.python(BLUE, LISTENS, STACK4, 7110), [errno.EADDRINUSE])
        self.assertEqual(self.python(BLUE, LISTENS, "0.0.0.0", 7110), [errno.EADDRINUSE])
        first.stop()
        wait_for(lambda: not self.lab.listeners(), 20, "no listener")
        self.assertEqual(self.python(BLUE, LISTENS, STACK4, 7110), [0])

    def test_apart(self):
        """Within a namespace connects are cut-through; another one's listeners and datagrams are out of reach, the
        network's hosts reach them all."""
        self.serve(LIME, 7120)
        held = Held(self.lab, "app", STACK4, 7120, 2, env=LIME)
        self.assertEqual({s["proto"] for s in self.lab.sessions() if s["remote"] == f"{STACK4}:7120"}, {"cut"})
        self.assertEqual(self.python(BLUE, CONNECT, STACK4, 7120), [errno.ECONNREFUSED])
        self.assertEqual(self.python({}, CONNECT, STACK4, 7120), [errno.ECONNREFUSED])
        held.program.stop()
        udp = self.lab.spawn("app", [programs.PYTHON, "-c", RECEIVE, STACK4, 7121], env=LIME)
        wait_for(lambda: "up" in udp.output(), 20, "a bound socket")
        self.assertEqual(self.python(BLUE, SEND, STACK4, 7121), [errno.ECONNREFUSED, errno.EPERM])
        self.assertEqual(self.python(LIME, SEND, STACK4, 7121), [0, 0])
        drops = {c["name"]: c["value"] for c in self.lab.show("drops")["stats"]["counter"]}
        self.assertGreaterEqual(drops["engine.namespace.refused"], 4)

    def test_scope(self):
        """app-scope-global off: reached by programs of its namespace alone, and reaches nothing else."""
        inner = {**LIME, "VCL_APP_SCOPE_GLOBAL": "0"}
        self.serve(inner, 7150)
        self.serve(LIME, 7151)
        for port, want in ((7150, errno.ECONNREFUSED), (7151, 0)):
            done = self.lab.peer([programs.PYTHON, "-c", CONNECT, STACK4, port])
            self.assertEqual(int(done.stdout), want)
            self.assertEqual(self.python(LIME, CONNECT, STACK4, port), [0])
            self.assertEqual(self.python(inner, CONNECT, STACK4, port), [0])
        self.lab.spawn("peer", [programs.PYTHON, "-u", ECHO, "serve", PEER4, 7152])
        self.lab.wait_listening_kernel(self.lab.P, 7152)
        self.assertEqual(self.python(inner, CONNECT, PEER4, 7152), [errno.ENETUNREACH])
        self.assertEqual(self.python(LIME, CONNECT, PEER4, 7152), [0])

    def test_secret(self):
        for env, want in ((BLUE, 0), ({**BLUE, "VCL_APP_NAMESPACE_SECRET": "78"}, errno.ENETDOWN),
                          ({"VCL_APP_NAMESPACE_ID": "green"}, errno.ENETDOWN)):
            self.assertEqual(self.python(env, SOCKET), [want], env)

    def test_listeners(self):
        """Two are allowed: the third is refused, until one is closed."""
        self.until_empty()
        self.assertEqual(self.python(BLUE, LISTENS, STACK4, 7130, 7131, 7132, 7133), [0, 0, errno.ENOBUFS, 0])

    def test_sessions(self):
        """Two processes have all the room; the next one gets in when one of them ends."""
        self.until_empty()
        one, _ = self.serve(RED, 7140), self.serve(RED, 7141)
        self.assertEqual(self.use()["red"]["sessions"]["used"], 512)
        self.assertEqual(self.python(RED, SOCKET), [errno.ENFILE])
        drops = {c["name"]: c["value"] for c in self.lab.show("drops")["stats"]["counter"]}
        self.assertGreaterEqual(drops["broker.limit-sessions"], 1)
        one.stop()
        wait_for(lambda: self.use()["red"]["sessions"]["used"] == 256, 20, "room")
        self.assertEqual(self.python(RED, SOCKET), [0])


class Addresses(netcase.NetCase):
    """broker.namespaces[].addresses: what its programs may bind, receive at and connect from."""
    LAB = {"extra": OWN}
    BLUE, RED = {"VCL_APP_NAMESPACE_ID": "blue"}, {"VCL_APP_NAMESPACE_ID": "red"}

    @classmethod
    def prepare(cls):
        with open(cls.lab.config, encoding="utf-8") as f:
            text = f.read()
        cls.lab.write_config(os.path.basename(cls.lab.config), text.replace("@RUN@", cls.lab.run_dir))
        cls.lab.start()

    def script(self, where, script, *args, env=None):
        run = self.lab.peer if where == "peer" else self.lab.app
        done = run([programs.PYTHON, "-c", script, *args], **({"env": env} if env else {}))
        return [int(w) if w.isdigit() else w for w in done.stdout.decode().splitlines()]

    def named(self, name, env, address, port):
        program = self.lab.spawn("app", [programs.PYTHON, "-u", "-c", NAMED, name, address, port], env=env)
        wait_for(lambda: "up" in program.output(), 20, f"{name} serves")
        return program

    def both(self, answer):
        return [answer, answer]

    def ask_all(self, port):
        for address, name in ((BLUE4, "blue"), (RED4, "red"), (BLUE6, "blue")):
            peer = PEER6 if ":" in address else "::ffff:" + PEER4 if name == "blue" else PEER4
            self.assertEqual(self.script("peer", ASK, address, port), self.both(f"{name} {peer}"))
        self.assertEqual(self.script("peer", ASK, STACK4, port), self.both(errno.ECONNREFUSED))

    def test_wildcards_side_by_side(self):
        """Both hold the same port on all addresses, which are each one's own; also over restarts."""
        self.named("blue", self.BLUE, "::", 7200)
        self.named("red", self.RED, "0.0.0.0", 7200)
        self.ask_all(7200)
        self.assertEqual(self.script("app", BIND, STACK4, 7200), [0, 0])
        self.assertEqual(self.script("app", BIND, RED4, 7200), self.both(errno.EADDRINUSE))
        for service in ("engine", "broker"):
            self.lab.wait_service(service, self.lab.kill_service(service))
            self.ask_all(7200)

    def test_bind(self):
        for env, address, want in ((self.BLUE, BLUE4, 0), (self.RED, RED4, 0), (None, RED4, 0),
                                   (self.BLUE, RED4, errno.EADDRNOTAVAIL), (self.RED, BLUE4, errno.EADDRNOTAVAIL),
                                   (self.RED, STACK4, errno.EADDRNOTAVAIL), (self.BLUE, "0.0.0.0", 0)):
            self.assertEqual(self.script("app", BIND, address, 7210, env=env), self.both(want), (env, address))

    def test_source(self):
        """The peer sees an address of the namespace; who has none of the family has no source."""
        for host in (PEER4, PEER6):
            program = self.lab.spawn("peer", [programs.PYTHON, "-u", "-c", NAMED, "peer", host, 7220])
            wait_for(lambda p=program: "up" in p.output(), 20, "the peer serves")
        for env, source in ((self.BLUE, BLUE4), (self.RED, RED4), (None, STACK4)):
            self.assertEqual(self.script("app", ASK, PEER4, 7220, env=env), self.both(f"peer {source}"))
        self.assertEqual(self.script("app", ASK, PEER6, 7220, env=self.BLUE), self.both(f"peer {BLUE6}"))
        tcp, udp = self.script("app", ASK, PEER6, 7220, env=self.RED)
        self.assertEqual(tcp, errno.EADDRNOTAVAIL)
        self.assertIn(udp, (errno.EADDRNOTAVAIL, errno.ENETUNREACH))  # the shim tries the kernel then

    def test_within(self):
        """On the stack itself: one's own address is served, the wildcard takes no other."""
        self.named("red", self.RED, "0.0.0.0", 7230)
        self.assertEqual(self.script("app", ASK, RED4, 7230, env=self.RED), self.both(f"red {RED4}"))
        self.assertEqual(self.script("app", ASK, STACK4, 7230, env=self.RED), self.both(errno.ECONNREFUSED))
        self.assertEqual(self.script("app", ASK, RED4, 7230, env=self.BLUE), self.both(errno.ECONNREFUSED))

    def test_own_socket(self):
        """Who comes by a namespace's own attach socket is in it, in no other; by the common one nobody gets in."""
        own = {"VCL_VPP_SAPI_SOCKET": os.path.join(self.lab.run_dir, "lime")}
        name = {"VCL_APP_NAMESPACE_ID": "lime"}
        self.assertEqual(self.script("app", BIND, STACK4, 7240, env=own), self.both(0))
        self.assertEqual(self.script("app", BIND, BLUE4, 7240, env=own), self.both(errno.EADDRNOTAVAIL))
        for env, want in (({**own, **name}, 0), ({**own, **self.RED}, errno.ENETDOWN), (name, errno.ENETDOWN)):
            self.assertEqual(self.script("app", SOCKET, env=env), [want], env)

    def test_shown(self):
        shown = {n["namespace_id"]: n.get("address", []) for n in
                 self.lab.show("namespace")["namespaces"]["namespace_"]}
        self.assertEqual(shown, {"default": [], "blue": [BLUE4, BLUE6], "red": [RED4], "lime": [STACK4]})


if __name__ == "__main__":
    netcase.main()

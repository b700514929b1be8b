#!/usr/bin/env python3
"""Cut-through for datagrams: a socket of one program, connected or not, and a bound one of another, over the stack's
own address.

Where they go is seen by `hsctl show session` (proto cut-udp) and by their going on while the engine is away. Boundaries,
sources, answers, a full fifo, both families, deaths, a fork, what stays with the engine; sockperf and iperf3."""
import contextlib
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
from puppet import Puppet  # noqa: E402
from stack import PEER4, STACK4, STACK6  # noqa: E402
from udpcase import UdpCase  # noqa: E402
from wait import wait_for  # noqa: E402

SIZES = [0, 1, 100, 1472, 1473, 8000, 65507]
FLOOD = 300  # of 10000 bytes: more than a fifo holds


class UdpCutCase(UdpCase):
    port = 9400

    def cut_rows(self, port):
        return [s for s in self.lab.sessions()
                if s["proto"] == "cut-udp" and any(s[end].endswith(f":{port}") for end in ("local", "remote"))]

    def wait_left(self, port, but=0):
        """One side has left. (The other one leaves when it looks, which a puppet does when it is told to.)"""
        wait_for(lambda: sum(s["state"] == "CONNECTED" for s in self.cut_rows(port)) == but, 20, "branches to be left")

    def server(self, address=STACK4, near=None, port=None, **kw):
        """A program with a bound socket that it waits at."""
        a, port = Puppet(self.lab, **kw), port or self.next_port()
        a(f"s = socket.socket(socket.{'AF_INET6' if ':' in address else 'AF_INET'}, socket.SOCK_DGRAM)")
        self.assertIsNone(a(f"s.bind(('{near or address}', {port}))"))
        a("s.settimeout(20)")
        a("select.select([s], [], [], 0)")
        return a, port

    def connect(self, b, port, address=STACK4, name="c", cut=True):
        """A connected socket of b's; over a pair, unless the broker had no time for 50 ms: then once more."""
        def made():
            b(f"{name} = socket.socket(socket.{'AF_INET6' if ':' in address else 'AF_INET'}, socket.SOCK_DGRAM)")
            b(f"{name}.settimeout(20)")
            self.assertIsNone(b(f"{name}.connect(('{address}', {port}))"))
            return not cut or self.cut_rows(b(f"{name}.getsockname()[1]"))
        wait_for(made, 20, "a connection by cut-through")

    def pair(self, address=STACK4, near=None):
        a, port = self.server(address, near)
        b = Puppet(self.lab)
        self.connect(b, port, address)
        return a, b, port

    def exchange(self, a, b, what="hello"):
        b(f"c.send({what!r}.encode())")
        a("d, who = s.recvfrom(100)")
        self.assertEqual(a("d"), what.encode())
        a("s.sendto(d.upper(), who)")
        self.assertEqual(b("c.recv(100)"), what.upper().encode())


class Semantics(UdpCutCase):
    def test_names(self):
        for address, near in ((STACK4, STACK4), (STACK4, "0.0.0.0"), (STACK6, STACK6), (STACK6, "::"), (STACK4, "::")):
            with self.subTest(address=address, near=near):
                a, port = self.server(near if near == "::" else address, near)
                b = Puppet(self.lab)
                self.connect(b, port, address)
                b("c.send(b'who is it')")
                a("d, who = s.recvfrom(100)")
                self.assertEqual(a("d"), b"who is it")
                mine = b("c.getsockname()[:2]")
                self.assertEqual(mine[0], address)
                shown = f"::ffff:{address}" if near == "::" and address == STACK4 else address
                self.assertEqual(a("who[:2]"), (shown, mine[1]))
                self.assertEqual(b("c.getpeername()[:2]"), (address, port))
                a("s.sendto(b'it is me', who)")
                self.assertEqual(b("c.recvfrom(100)[0]"), b"it is me")
                rows = self.cut_rows(mine[1])
                self.assertEqual(len(rows), 2, rows)
                self.assertEqual({r["state"] for r in rows}, {"CONNECTED"})

    def test_boundaries(self):
        """Sizes from nothing to the longest, more than a reader takes, peeked at and cut off."""
        a, b, _ = self.pair()
        for size in SIZES:
            b(f"x = os.urandom({size})")
            self.assertEqual(b("c.send(x)"), size)
            a("d = s.recv(70000)")
            self.assertEqual(a("len(d), sum(d)"), b("len(x), sum(x)"))
        b("for k in range(5): c.send(bytes([65 + k]) * (k + 1))")
        self.assertEqual(a("s.recv(1, socket.MSG_PEEK)"), b"A")
        self.assertEqual(a("s.recv(100)"), b"A")
        self.assertEqual(a("struct.unpack('i', fcntl.ioctl(s, 0x541B, bytes(4)))[0]"), 2)
        self.assertEqual(a("s.recv(1)"), b"B")
        self.assertEqual(a("s.recv_into(bytearray(2), 2, socket.MSG_TRUNC)"), 3)
        self.assertEqual(a("s.recv(100)"), b"DDDD")
        self.assertEqual(a("s.recv(100)"), b"EEEEE")
        b("c.setsockopt(17, 103, 100)")  # UDP_SEGMENT
        b("c.send(bytes(250))")
        self.assertEqual(a("[len(s.recv(1000)) for _ in range(3)]"), [100, 100, 50])

    def test_full(self):
        """Who does not read loses the newest, and blocks nobody."""
        a, b, port = self.pair()
        other = Puppet(self.lab)
        self.connect(other, port)
        b(f"for k in range({FLOOD}): c.send(struct.pack('>I', k) + bytes(9996))")
        other("c.send(b'from another')")
        a("got = [s.recv(20000)]")
        a("while select.select([s], [], [], 0)[0]: got.append(s.recv(20000))")
        self.assertEqual(a("got.count(b'from another')"), 1)
        numbers = a("[struct.unpack('>I', x[:4])[0] for x in got if len(x) == 10000]")
        self.assertEqual(numbers, list(range(len(numbers))))
        self.assertGreater(len(numbers), 50)
        self.assertLess(len(numbers), FLOOD)
        lost = {s["local"]: s.get("lost", 0) for s in self.cut_rows(b("c.getsockname()[1]"))}
        self.assertEqual(lost[f"{STACK4}:{port}"], FLOOD - len(numbers))
        said = {w["pid"]: w.get("dgrams_lost", 0) for app in self.lab.show("app")["apps"]["app"] for w in app["worker"]}
        self.assertEqual(said[b.pid()], FLOOD - len(numbers))
        self.assertEqual(said[other.pid()], 0)
        self.assertIn("DGRAMS-LOST", self.lab.hsctl("show", "app").stdout.decode())
        self.exchange(a, b)

    def test_bystander(self):
        """Datagrams of a program that has no cut-through come through the engine to the same receiver; in turns."""
        a, b, port = self.pair()
        off = Puppet(self.lab, env={"VCL_APP_SCOPE_LOCAL": "0"})
        off("e = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
        for k in range(20):
            b(f"c.send(b'cut %d' % {k})")
            off(f"e.sendto(b'engine %d' % {k}, ('{STACK4}', {port}))")
        got = [a("s.recv(100)") for _ in range(40)]
        for kind in (b"cut ", b"engine "):
            self.assertEqual([x for x in got if x.startswith(kind)], [kind + b"%d" % k for k in range(20)])

    def test_polled(self):
        """Who only looks, and never sleeps, finds what came over a pair, the first one and later ones."""
        a, b, _ = self.pair()
        look = "bool(select.select([s], [], [], 0)[0])"
        for k in range(3):
            self.assertFalse(a(look))
            b("c.send(b'look')")
            wait_for(lambda: a(look), 20, "the datagram")
            self.assertEqual(a("s.recv(100)"), b"look")

    def test_both_connected(self):
        a, b, port = self.pair()
        self.assertIsNone(a(f"s.connect(('{STACK4}', {b('c.getsockname()[1]')}))"))
        a("s.send(b'one')")
        self.assertEqual(b("c.recv(100)"), b"one")
        b("c.send(b'two')")
        self.assertEqual(a("s.recv(100)"), b"two")
        self.assertTrue(self.cut_rows(port))

    def test_elsewhere(self):
        """connect() to another one leaves, dissolving it, too; what was sent before arrives."""
        a, b, port = self.pair()
        other, second = self.server()
        mine = b("c.getsockname()[1]")
        b("c.send(b'before')")
        self.assertIsNone(b(f"c.connect(('{STACK4}', {second}))"))
        b("c.send(b'to the other')")
        self.assertEqual(other("s.recv(100)"), b"to the other")
        self.assertEqual(a("s.recv(100)"), b"before")
        self.wait_left(port)
        a(f"s.sendto(b'not for you', ('{STACK4}', {mine}))")
        other(f"s.sendto(b'for you', ('{STACK4}', {mine}))")
        self.assertEqual(b("c.recv(100)"), b"for you")
        b(f"c.connect(('{PEER4}', 9))")
        self.wait_left(second)

    def test_server_connects(self):
        """A server that connects to one client hears no other one any more."""
        a, b, port = self.pair()
        other = Puppet(self.lab)
        self.connect(other, port)
        other("c.send(b'queued')")
        self.assertEqual(a("s.recv(100)"), b"queued")
        a(f"s.connect(('{STACK4}', {b('c.getsockname()[1]')}))")
        self.wait_left(port, but=2)
        other("c.send(b'unheard')")
        self.assertEqual(other("c.recv(100)"), "ConnectionRefusedError ECONNREFUSED")
        self.exchange_connected(a, b)

    def exchange_connected(self, a, b):
        b("c.send(b'heard')")
        self.assertEqual(a("s.recv(100)"), b"heard")
        a("s.send(b'so are you')")
        self.assertEqual(b("c.recv(100)"), b"so are you")

    def test_refused(self):
        """The receiver closes: the next datagram is refused; a new one at its port hears the one after."""
        a, b, port = self.pair()
        self.exchange(a, b)
        a("s.close()")
        b("c.send(b'x')")
        self.assertEqual(b("c.recv(100)"), "ConnectionRefusedError ECONNREFUSED")
        again, _ = self.server(port=port)
        b("c.send(b'y')")
        self.assertEqual(again("s.recv(100)"), b"y")

    def test_death(self):
        """Either side killed, with the broker up and with the broker down: what was sent is read, then it is over."""
        for broker_down in (False, True):
            for who in ("server", "client"):
                with self.subTest(broker_down=broker_down, who=who):
                    a, b, port = self.pair()
                    self.exchange(a, b)
                    b("c.send(b'last words')")
                    pid = self.lab.kill_service("broker") if broker_down else 0
                    if who == "client":
                        b.kill(b.pid())
                        self.assertEqual(a("s.recv(100)"), b"last words")
                    else:
                        a("s.sendto(b'of mine', who)")
                        a.kill(a.pid())
                        self.assertEqual(b("c.recv(100)"), b"of mine")
                        b("c.settimeout(0.2)")
                        wait_for(lambda: b("c.send(b'x')") and b("c.recv(1)") == "ConnectionRefusedError ECONNREFUSED",
                                 20, "a refusal")
                    if broker_down:
                        self.lab.wait_service("broker", pid)

    def test_fork(self):
        """Both processes of a fork go on, through the engine."""
        a, b, port = self.pair()
        self.exchange(a, b)
        b("def child(): c.send(b'from the child'); os._exit(0)")
        b("pid = os.fork() or child()")
        self.assertEqual(a("s.recv(100)"), b"from the child")
        b("c.send(b'from the parent')")
        self.assertEqual(a("s.recv(100)"), b"from the parent")
        self.assertEqual(b("os.waitpid(pid, 0)[1]"), 0)
        self.wait_left(port)
        a("def serve(): d, w = s.recvfrom(100); s.sendto(b'child ' + d, w); os._exit(0)")
        a("pid = os.fork() or serve()")
        other = Puppet(self.lab)
        self.connect(other, port, cut=False)
        other("c.send(b'anybody')")
        self.assertEqual(other("c.recv(100)"), b"child anybody")
        self.wait_left(port)

    def test_by_the_engine(self):
        """To oneself; scope off on either side; each connected and not."""
        a, port = self.server()
        b = Puppet(self.lab)
        a("e = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
        a(f"e.sendto(b'myself', ('{STACK4}', {port}))")
        self.assertEqual(a("s.recv(100)"), b"myself")
        a(f"e.connect(('{STACK4}', {port}))")
        a("e.send(b'myself')")
        self.assertEqual(a("s.recv(100)"), b"myself")
        off = Puppet(self.lab, env={"VCL_APP_SCOPE_LOCAL": "0"})
        off("c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
        off(f"c.sendto(b'off', ('{STACK4}', {port}))")
        self.assertEqual(a("s.recv(100)"), b"off")
        self.connect(off, port, cut=False)
        off("c.send(b'off')")
        self.assertEqual(a("s.recv(100)"), b"off")
        quiet, second = self.server(env={"VCL_APP_SCOPE_LOCAL": "0"})
        b("c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
        b(f"c.sendto(b'off there', ('{STACK4}', {second}))")
        self.assertEqual(quiet("s.recv(100)"), b"off there")
        self.connect(b, second, cut=False)
        b("c.send(b'off there')")
        self.assertEqual(quiet("s.recv(100)"), b"off there")
        self.assertEqual(self.cut_rows(port) + self.cut_rows(second), [])


class NotConnected(UdpCutCase):
    """sendto() of a socket that is not connected, as of resolvers and statistics."""

    def sender(self, b, a, port, address=STACK4, name="u"):
        """A socket of b's whose datagrams go over a pair: from the first one on, unless the broker had no time."""
        b(f"{name} = socket.socket(socket.AF_INET{'6' if ':' in address else ''}, socket.SOCK_DGRAM)")
        b(f"{name}.settimeout(20)")

        def sent():
            self.assertEqual(b(f"{name}.sendto(b'hello', ('{address}', {port}))"), 5)
            self.assertEqual(a("s.recv(100)"), b"hello")
            return self.cut_rows(b(f"{name}.getsockname()[1]"))
        wait_for(sent, 20, "a sender by cut-through")

    def ask(self, a, b, port, what, name="u"):
        b(f"{name}.sendto({what!r}, ('{STACK4}', {port}))")
        a("d, who = s.recvfrom(100)")
        self.assertEqual(a("d"), what)
        a("s.sendto(d.upper(), who)")
        self.assertEqual(b(f"{name}.recvfrom(100)"), (what.upper(), (STACK4, port)))

    def test_names(self):
        for address, near in ((STACK4, STACK4), (STACK4, "0.0.0.0"), (STACK6, "::"), (STACK4, "::")):
            with self.subTest(address=address, near=near):
                a, port = self.server(near if near == "::" else address, near)
                b = Puppet(self.lab)
                self.sender(b, a, port, address)
                self.assertEqual(b(f"u.sendto(b'who is it', ('{address}', {port}))"), 9)
                a("d, who = s.recvfrom(100)")
                mine = b("u.getsockname()[1]")
                shown = f"::ffff:{address}" if near == "::" and address == STACK4 else address
                self.assertEqual(a("d, who[:2]"), (b"who is it", (shown, mine)))
                a("s.sendto(b'it is me', who)")
                self.assertEqual(b("d, who = u.recvfrom(100)"), None)
                self.assertEqual(b("d, who[:2]"), (b"it is me", (address, port)))
                self.assertEqual(len(self.cut_rows(mine)), 2)
                a.program.stop()
                b.program.stop()

    def test_resolver(self):
        """A server that answers whoever asks: senders with a socket for each question, and one that asks two servers."""
        a, port = self.server()
        other, second = self.server()
        b, c = Puppet(self.lab), Puppet(self.lab)
        for k in range(15):
            for who in (b, c):
                who("q = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
                who("q.settimeout(20)")
                self.ask(a, who, port, b"question %d" % k, "q")
                self.ask(other, who, second, b"second %d" % k, "q")
                who("q.close()")
        for server, at in ((a, port), (other, second)):
            server("select.select([s], [], [], 0)")  # who looks lets go of what was left
            wait_for(lambda at=at, server=server: server("select.select([s], [], [], 0)") and not self.cut_rows(at), 20,
                     "the last branch to go")

    def test_statistics(self):
        """One way, many, in order from the first one on, also while the engine is away; the receiver waits only later, so
        that the first ones come through the engine."""
        b, port = Puppet(self.lab), self.next_port()
        a = Puppet(self.lab)
        a("s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
        self.assertIsNone(a(f"s.bind(('{STACK4}', {port}))"))
        a("s.settimeout(20)")
        b("u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
        b("n = 0")
        step = f"u.sendto(struct.pack('>I', n), ('{STACK4}', {port})) and (n := n + 1)"
        b(f"[{step} for _ in range(20)]")
        got = []

        def read():
            got.extend(a(f"[struct.unpack('>I', s.recv(10))[0] for _ in range({b('n') - len(got)})]"))
            self.assertEqual(got, list(range(len(got))))

        def by_pair():
            read()
            b("threading.Event().wait(0.03)")  # a sender that pauses
            b(f"[{step} for _ in range(10)]")
            return self.cut_rows(b("u.getsockname()[1]"))
        wait_for(by_pair, 20, "a sender by cut-through")
        read()
        pid = self.lab.kill_service("engine")
        b(f"[{step} for _ in range(200)]")
        read()
        self.lab.wait_service("engine", pid)

    def test_elsewhere(self):
        """To the peer's host, to a group and to everybody: not over a pair; to a receiver that goes, and comes again."""
        a, port = self.server()
        b = Puppet(self.lab)
        self.sender(b, a, port)
        self.assertEqual(b(f"u.sendto(b'x', ('{PEER4}', 9))"), 1)
        self.assertEqual(b(f"u.sendto(b'x', ('239.1.2.3', {port}))"), 1)
        mine = b("u.getsockname()[1]")
        self.assertEqual({r["remote"] for r in self.cut_rows(mine)}, {f"{STACK4}:{port}", f"{STACK4}:{mine}"})
        a("s.close()")
        self.assertEqual(b(f"u.sendto(b'nobody', ('{STACK4}', {port}))"), 6)
        self.assertEqual(b(f"u.sendto(b'nobody', ('{STACK4}', {port}))"), 6)  # no error: it is not connected
        again, _ = self.server(port=port)
        b(f"u.sendto(b'somebody', ('{STACK4}', {port}))")
        self.hears(again, b"somebody")

    def hears(self, a, what):
        """… sooner or later, after others."""
        self.assertEqual(a(f"next(d for d in iter(lambda: s.recv(100), None) if d == {what!r})"), what)

    def test_rule(self):
        """A rule counts within a second, also over a pair that is there."""
        a, port = self.server()
        b = Puppet(self.lab)
        self.sender(b, a, port)
        number = self.lab.hsctl("rule", "add", "egress", "namespace=default", "proto=udp", f"ports={port}",
                                "action=deny").stdout.split()[1].decode()
        before = self.denied()
        wait_for(lambda: b(f"u.sendto(b'x', ('{STACK4}', {port}))") == "PermissionError EPERM", 20, "the rule to count")
        self.assertGreater(self.denied(), before)
        self.lab.hsctl("rule", "del", number)
        wait_for(lambda: b(f"u.sendto(b'again', ('{STACK4}', {port}))") == 5, 20, "the last refusal to be told")
        self.hears(a, b"again")

    def denied(self):
        return {c["name"]: c["value"] for c in self.lab.show("drops")["stats"]["counter"]}.get(
            "engine.rule.egress_denied", 0)


class Rules(UdpCutCase):
    """Session rules: they are asked when two sockets begin to speak. What speaks already goes on, over a pair as by way
    of the engine, and as established connections do where a Linux firewall tracks them."""

    @contextlib.contextmanager
    def rule(self, *words):
        number = self.lab.hsctl("rule", "add", *words).stdout.split()[1].decode()
        try:
            yield
        finally:
            self.lab.hsctl("rule", "del", number)

    def new_socket(self, b, port, by_pair, says=None):
        """Connects of one that has connected before: within a second the rule counts (then `says` is what connect says)."""
        def made():
            b("n = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
            b("n.settimeout(0.3)")
            return b(f"n.connect(('{STACK4}', {port}))") == says and \
                (says or bool(self.cut_rows(b("n.getsockname()[1]"))) == by_pair)
        wait_for(made, 20, "the rule to count")

    def both_go_on(self, a, b, port):
        rows = {json.dumps(r["local"]) for r in self.cut_rows(b("c.getsockname()[1]"))}
        self.assertEqual(len(rows), 2)
        self.exchange(a, b)
        self.assertEqual({json.dumps(r["local"]) for r in self.cut_rows(b("c.getsockname()[1]"))}, rows)
        b("t.sendall(b'ping')")
        self.assertEqual(a("w.recv(4)"), b"ping")
        a("w.sendall(b'pong')")
        self.assertEqual(b("t.recv(4)"), b"pong")
        self.assertEqual([s["proto"] for s in self.lab.sessions() if s["local"].endswith(f":{port}") and
                          s["state"] == "ESTABLISHED"], ["cut"])

    def test_rules(self):
        a, b, port = self.pair()
        stranger = Puppet(self.lab)
        stranger("c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
        stranger("c.settimeout(0.3)")
        a(f"l = socket.create_server(('{STACK4}', {port}))")
        a("l.settimeout(0)")
        a("select.select([l], [], [], 0)")

        def tcp():
            b(f"t = socket.create_connection(('{STACK4}', {port}), 20)")
            wait_for(lambda: a("w, _ = l.accept()") is None, 20, "a connection")
            return any(s["proto"] == "cut" and s["local"].endswith(f":{port}") for s in self.lab.sessions())
        wait_for(tcp, 20, "a connection by cut-through")
        self.both_go_on(a, b, port)
        refused = "ConnectionRefusedError ECONNREFUSED"
        with self.subTest("egress deny"), self.rule("egress", "namespace=default", f"remote={STACK4}", f"ports={port}",
                                                    "action=deny"):
            self.assertEqual(stranger(f"c.connect(('{STACK4}', {port}))"), refused)
            self.new_socket(b, port, False, says=refused)
            self.both_go_on(a, b, port)
        with self.subTest("ingress deny"), self.rule("ingress", f"ports={port}", "action=deny"):
            self.assertIsNone(stranger(f"c.connect(('{STACK4}', {port}))"))
            self.assertEqual(stranger("c.send(b'unheard')"), 7)
            self.assertEqual(stranger("c.recv(100)"), "TimeoutError None")
            self.new_socket(b, port, False)
            b("n.send(b'unheard')")
            self.both_go_on(a, b, port)
        with self.subTest("another's ports"), self.rule("egress", "namespace=default", f"ports={port + 1}", "action=deny"):
            self.new_socket(b, port, True)
        with self.subTest("redirect is for TCP"):
            words = ["egress", "namespace=default", f"ports={port}", "action=redirect", "app=nobody"]
            done = self.lab.hsctl("rule", "add", *words, "proto=udp", check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(b"TCP", done.stdout + done.stderr)
            with self.rule(*words):
                self.new_socket(b, port, True)
                b("n.send(b'not redirected')")
                self.assertEqual(a("s.recv(100)"), b"not redirected")
                self.assertEqual(b(f"socket.create_connection(('{STACK4}', {port}), 20)"), refused)
                self.both_go_on(a, b, port)


class Programs(UdpCutCase):
    def test_tool(self):
        """Random datagrams of all sizes come back as they went, connected and not."""
        for address in (STACK4, STACK6):
            port = self.next_port()
            echo = self.lab.spawn("app", ["python3", self.tool, "echo", address, port])
            wait_for(lambda: "up" in echo.output(), 20, "the echo")
            done = self.lab.run("app", ["python3", self.tool, "ask", address, port, *SIZES], timeout=150)
            self.assertTrue(json.loads(done.stdout.decode().splitlines()[-1])["good"])

    def test_sockperf(self):
        port = self.next_port()
        self.lab.spawn("app", ["sockperf", "server", "-i", STACK4, "-p", port])
        self.lab.wait_listening(port)
        pace = ["--mps", 100_000]  # its table of answers ends at 600 000 a second
        done = self.lab.run("app", ["sockperf", "ping-pong", "-i", STACK4, "-p", port, "-t", 1, *pace], timeout=150)
        self.assertIn(b"Summary: Latency", done.stdout)

    def test_iperf3(self):
        for address in (STACK4, STACK6):
            for more in (["-b", "1G", "-n", "20M"], ["-b", "1G", "-n", "20M", "-R"]):
                with self.subTest(address=address, more=more):
                    port = self.next_port()
                    srv = self.lab.spawn("app", ["iperf3", "-s", "-1", "-p", port])
                    self.lab.wait_listening(port)
                    done = self.lab.run("app", ["iperf3", "-u", "-J", "-c", address, "-p", port, *more], timeout=150)
                    srv.wait(60)
                    end = json.loads(done.stdout)["end"]["sum"]
                    print(f"iperf3 -u {address} {more}: {end['packets']} datagrams, {end['lost_percent']:.2f}% lost")
                    self.assertGreater(end["packets"], 100)


class Deaths(UdpCutCase):
    def ask(self, a, b, port):
        """Of one that is not connected."""
        b(f"u.sendto(b'not connected', ('{STACK4}', {port}))")
        a("d, who = s.recvfrom(100)")
        a("s.sendto(d.upper(), who)")
        self.assertEqual(b("u.recv(100)"), b"NOT CONNECTED")
        return True

    def test_each_service(self):
        """Connected datagrams go on while each service dies, and none is lost."""
        a, b, port = self.pair()
        b("u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
        b("u.settimeout(20)")
        wait_for(lambda: self.ask(a, b, port) and self.cut_rows(b("u.getsockname()[1]")), 20, "a sender by cut-through")
        for name in ("nicio", "engine", "broker", "api"):
            with self.subTest(name):
                pid = self.lab.kill_service(name)
                for k in range(20):
                    self.exchange(a, b, f"{name} {k}")
                    self.ask(a, b, port)
                self.lab.wait_service(name, pid)
                self.exchange(a, b)


if __name__ == "__main__":
    netcase.main()

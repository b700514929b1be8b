#!/usr/bin/env python3
"""Cut-through: two programs under the shim that talk over the stack's own address, without TCP and without any service.

Real programs with checked content, the conformance suite's lines (GROUPS), every service killed
(and left dead) in the middle of transfers, either program killed or stopped, and what goes by TCP instead: own
listeners, app-scope-local off."""
import difflib
import errno
import hashlib
import os
import shutil
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from filecase import FileCase  # noqa: E402
from puppet import Puppet  # noqa: E402
from stack import KERNEL4, KERNEL_PEER4, SERVICES, STACK4, STACK6  # noqa: E402
from wait import hold, wait_for  # noqa: E402

ECHO = os.path.join(os.path.dirname(sys.path[0]), "support", "echo.py")
FAMILIES = ("AF_INET", "AF_INET6")
# left out: unanswered and arrived, which are about other hosts
GROUPS = ("options", "life", "connect", "data", "urgent", "calls", "poll", "epoll", "six", "dgram", "waits", "process",
          "spawns", "corks", "kin", "passed", "beside", "heirs", "mixes")
SENDER = """
import hashlib, os, select, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
block, digest = os.urandom(1 << 16), hashlib.sha256()
n = 0
while not select.select([sys.stdin], [], [], 0.001)[0]:  # to the end of stdin; a pause, so that it is no flood
    s.sendall(block)
    digest.update(block)
    n += len(block)
s.shutdown(socket.SHUT_WR)
print(n, digest.hexdigest(), s.recv(200).decode())
"""
SINK = """
import hashlib, socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2])))
s.listen()
while True:
    c, _ = s.accept()
    n, digest = 0, hashlib.sha256()
    while data := c.recv(1 << 18):
        n += len(data)
        digest.update(data)
    c.sendall(f"{n} {digest.hexdigest()}".encode())
    c.close()
"""

LIAR = """
import ctypes, random, select, socket, sys, threading, time
address, port, mine = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def maps():
    return [tuple(int(x, 16) for x in line.split()[0].split('-')) for line in open('/proc/self/maps')
            if 'hs-pair' in line and line.split()[1].startswith('rw')]
def scribble(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for lo, hi in maps():
            geom = (ctypes.c_uint64 * 16).from_address(lo + 48)
            own = range(geom[9], geom[9] + geom[10])  # the library's own words there: nobody else reads them
            for _ in range(100):  # block, ring, slots; what lies behind them
                at = random.choice((random.randrange(256, 0x4000), random.randrange(256, hi - lo))) // 8 * 8
                word = random.choice((random.randbytes(8), bytes([255] * 8), bytes(8), random.randbytes(1) + bytes(7)))
                if at not in own:
                    ctypes.memmove(lo + at, word, 8)
        select.select([], [], [], 0.001)
def serve():
    l = socket.socket()
    l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    l.bind((address, mine))
    l.listen(64)
    while True:
        c = l.accept()[0]
        c.settimeout(0.2)
        try:
            c.sendall(c.recv(100000))
        except OSError:
            pass
threading.Thread(target=serve, daemon=True).start()
until = time.monotonic() + 60
while time.monotonic() < until:
    held = []
    try:
        for _ in range(4):
            held.append(socket.create_connection((address, port), timeout=0.5))
            held[-1].sendall(random.randbytes(10000))
        scribble(0.1)
    except OSError:
        pass
"""
VICTIM = """
import socket, sys, time
n = bad = 0
until = time.monotonic() + float(sys.argv[3])
while time.monotonic() < until:
    n += 1
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=0.3) as s:
            s.sendall(b"x" * 5000)
            s.recv(5000)
    except OSError:
        bad += 1
print(n, "tries,", bad, "errors")
"""


class CutCase(netcase.NetCase):
    port = 9700

    def cut_rows(self, port):
        return [s for s in self.lab.sessions() if s["proto"] == "cut" and f":{port}" in s["local"] + s["remote"]]

    def transfer(self, during):
        """A checked transfer while during() happens: every byte, once, in order."""
        port = self.next_port()
        self.lab.spawn("app", [programs.PYTHON, "-u", "-c", SINK, STACK4, port])
        self.lab.wait_listening(port)
        for _ in range(20):
            sender = self.lab.spawn("app", [programs.PYTHON, "-u", "-c", SENDER, STACK4, port], stdin=-1)
            wait_for(lambda: self.cut_rows(port) or self.tcp_rows(port)[1:], 20, "a connection")
            if self.cut_rows(port):
                break
            sender.stop()  # the broker had no time for 50 ms
        during()
        self.assertTrue(sender.alive(), sender.output())
        sender.popen.stdin.close()
        self.assertEqual(sender.wait(120), 0, sender.output())
        n, sha, n_back, sha_back = sender.output().split()
        self.assertEqual((n, sha), (n_back, sha_back))
        print(f"{int(n) / 1e6:.0f} MB")

    def tcp_rows(self, port):
        return [s for s in self.lab.sessions() if s["proto"] != "cut" and f":{port}" in s["local"] + s["remote"]]


class Programs(CutCase, FileCase):
    SIZE = 20_000_000

    def test_iperf3(self):
        for address in (STACK4, STACK6):
            for reverse, streams in ((False, 1), (True, 1), (False, 4)):
                with self.subTest(address=address, reverse=reverse, streams=streams):
                    rate = programs.iperf3(self.lab, "app", "app", 1, self.next_port(), reverse, streams, address=address)
                    print(f"iperf3 {address} reverse {reverse} streams {streams}: {rate:.1f} Gbit/s")
                    self.assertGreater(rate, 0.001)

    def test_nginx_curl(self):
        port = self.next_port()
        programs.nginx(self.lab, "app", self.root, port)
        got = os.path.join(self.lab.world.app_dir, "got")
        for _ in range(3):
            self.lab.app(["curl", "-sS", "--max-time", 30, "-o", got, f"http://{STACK4}:{port}/big"])
            self.assertEqual(programs.sha256(got), self.sha)

    def test_nginx_reload(self):
        """Three workers, reloaded again and again: connections go over pairs with each, and none fails."""
        port = self.next_port()
        server = programs.nginx(self.lab, "app", self.root, port, workers=3)
        load = self.lab.spawn("app", ["ab", "-q", "-t", 4, "-n", 1000000, "-c", 8, f"http://{STACK4}:{port}/hello"])
        for _ in range(3):
            old = {pid for local, pid in self.lab.listeners() if local.endswith(f":{port}")}
            server.popen.send_signal(signal.SIGHUP)
            wait_for(lambda: {p for l, p in self.lab.listeners() if l.endswith(f":{port}")} - old or not load.alive(), 20,
                     "new workers")
        self.assertEqual(load.wait(120), 0, load.output())
        text = load.output()
        self.assertRegex(text, r"Failed requests: +0\n")
        self.assertNotIn("Non-2xx", text)
        print(" ".join(line for line in text.splitlines() if "per second" in line or "Complete" in line))

    def test_redis(self):
        port = self.next_port()
        self.lab.spawn("app", ["redis-server", "--port", port, "--save", "", "--appendonly", "no", "--protected-mode",
                               "no", "--dir", self.lab.world.app_dir, "--bind", STACK4])
        self.lab.wait_listening(port)
        cli = ["redis-cli", "-h", STACK4, "-p", port]
        value = hashlib.sha256(b"cut").hexdigest() * 1000
        self.assertEqual(self.lab.app(cli + ["set", "key", value]).stdout, b"OK\n")
        self.assertEqual(self.lab.app(cli + ["get", "key"]).stdout.decode().strip(), value)
        for more in (["-c", 20], ["-c", 20, "-P", 16], ["-c", 8, "--threads", 2]):
            bench = self.lab.app(["redis-benchmark", "-h", STACK4, "-p", port, "-t", "set,get", "-n", 20000, "-q", *more], 150)
            self.assertIn(b"requests per second", bench.stdout)

    def test_churn(self):
        """Connections that come and go, from three programs at once."""
        port = self.next_port()
        self.lab.spawn("app", [programs.PYTHON, "-u", ECHO, "serve", STACK4, port])
        self.lab.wait_listening(port)
        churns = [self.lab.spawn("app", [programs.PYTHON, ECHO, "churn", STACK4, port, 2]) for _ in range(3)]
        for churn in churns:
            self.assertEqual(churn.wait(120), 0, churn.output())
            print(churn.output().strip())


class Conformance(CutCase):
    """The suite's peer runs under the shim as well, on the same address."""

    def test_all(self):
        program = os.path.join(self.lab.world.app_dir, "conform")
        shutil.copy(os.path.join(netcase.BUILD, "tests/conformance/conform"), program)
        os.chmod(program, 0o755)
        for group in GROUPS:
            with self.subTest(group):
                kernel = self.lines(program, group, "kernel", "peer", KERNEL_PEER4, KERNEL4, "fd00:78::2", "fd00:78::1")
                cut = self.lines(program, group, "app", "app", STACK4, STACK4, STACK6, STACK6)
                self.assertGreater(len(kernel), 12)
                differ = list(difflib.unified_diff(kernel, cut, "kernel", "cut", n=1, lineterm=""))
                self.assertFalse(differ, "\n" + "\n".join(differ))

    def lines(self, program, group, where, peer_where, *addresses):
        path = os.path.join(self.lab.world.app_dir, f"{group}.{where}")
        env = ["env", "CONFORM_ARMED=1"]
        peer = self.lab.spawn(peer_where, [*env, program, "peer", path, *addresses])
        wait_for(lambda: os.path.exists(path), 30, "the peer's socket")
        os.chmod(path, 0o777)
        done = self.lab.run(where, [*env, program, "subject", path, *addresses, group], timeout=100, check=False)
        peer.stop()
        text = done.stdout.decode(errors="replace")
        self.assertEqual(done.returncode, 0, f"{where}: {text[-400:]}{done.stderr.decode(errors='replace')[-400:]}")
        return text.splitlines()


class Semantics(CutCase):
    def pair(self, family="AF_INET", arm=True):
        """Two programs, one connection; server's in c, client's in s. Over a pair if the server waits: a broker that had
        no time for 50 ms is no matter of these tests, so then once more."""
        for _ in range(20):
            a, b, port = self.pair_once(family, arm)
            if not arm or self.cut_rows(port):
                return a, b, port
            a.kill()
            b.kill()
        self.fail("never by cut-through")

    def pair_once(self, family, arm):
        port = self.next_port()
        a, b = Puppet(self.lab), Puppet(self.lab)
        address = STACK4 if family == "AF_INET" else STACK6
        a(f"l = socket.socket(socket.{family})")
        a(f"l.bind(('{address}', {port}))")
        a("l.listen(4)")
        a("l.setblocking(False)")
        if arm:
            a("select.select([l], [], [], 0)")
        b(f"s = socket.socket(socket.{family})")
        b("s.settimeout(20)")
        self.assertIsNone(b(f"s.connect(('{address}', {port}))"))
        return a, b, port

    def accept(self, a):
        a("select.select([l], [], [], 20)")
        a("c, who = l.accept()")
        a("c.settimeout(20)")

    def connected(self, family="AF_INET"):
        a, b, port = self.pair(family)
        self.accept(a)
        return a, b, port

    def test_names(self):
        for family, address in (("AF_INET", STACK4), ("AF_INET6", STACK6)):
            a, b, port = self.connected(family)
            rows = self.cut_rows(port)
            self.assertEqual(len(rows), 2, rows)
            self.assertEqual(self.tcp_rows(port), [])
            self.assertEqual({r["state"] for r in rows}, {"ESTABLISHED"})
            self.assertEqual(b("s.getpeername()[:2]"), (address, port))
            self.assertEqual(a("c.getsockname()[:2]"), (address, port))
            self.assertEqual(a("c.getpeername()"), b("s.getsockname()"))
            self.assertEqual(a("who"), b("s.getsockname()"))

    def test_bound_client(self):
        """A client that is bound to the address, to any address, with a port of its own choice and without: over a pair,
        from that port, which stays its own until it closes."""
        for family, address, near, lport in (("AF_INET", STACK4, STACK4, 0), ("AF_INET", STACK4, "0.0.0.0", 19701),
                                             ("AF_INET6", STACK6, STACK6, 19702), ("AF_INET6", STACK6, "::", 0)):
            with self.subTest(near=near, lport=lport):
                a, b, port = self.connected(family)
                b(f"t = socket.socket(socket.{family})")
                b(f"t.bind(('{near}', {lport}))")
                chosen = b("t.getsockname()[1]")
                self.assertEqual(chosen, lport or chosen)
                b("t.settimeout(20)")
                self.assertIsNone(b(f"t.connect(('{address}', {port}))"))
                self.accept(a)
                self.assertEqual(len(self.cut_rows(chosen)), 2)
                self.assertEqual(self.tcp_rows(port), [])
                self.assertEqual(a("who[:2]"), (address, chosen))
                self.assertEqual(b("t.getsockname()[:2]"), (address, chosen))
                b("t.sendall(b'from there')")
                self.assertEqual(a("c.recv(100)"), b"from there")
                again = f"socket.socket(socket.{family}).bind(('{near}', {chosen}))"
                self.assertEqual(b(again), "OSError EADDRINUSE")
                b("t.close()")
                self.assertEqual(a("c.recv(100)"), b"")
                self.assertIsNone(b(again))

    def test_own_side_only(self):
        """Of the two segments of a pair each program can write one: the other's is out of reach for mprotect and for a
        second open, too."""
        a, b, _ = self.connected()
        for p in (a, b):
            p("import ctypes")
            p("maps = [(int(x.split('-')[0], 16), x.split()[1]) for x in open('/proc/self/maps') if 'hs-pair' in x]")
            maps = p("maps")
            self.assertEqual(sorted({how for _, how in maps}), ["r--s", "rw-s"], maps)
            p("libc = ctypes.CDLL(None, use_errno=True)")
            for at, how in maps:
                if how == "r--s":
                    self.assertEqual(p(f"libc.mprotect(ctypes.c_void_p({at}), 4096, 3), ctypes.get_errno()"),
                                     (-1, errno.EACCES))
            p("links = [(n, os.readlink(n)) for n in (f'/proc/self/fd/{k}' for k in range(1024)) if os.path.islink(n)]")
            for n in p("[n for n, to in links if 'hs-pair' in to]"):
                self.assertEqual(p(f"os.open({n!r}, os.O_RDWR)"), "PermissionError EACCES", n)

    def test_write_and_exit(self):
        """The client writes and is gone before anybody accepts; every byte is there, then the end."""
        for family in FAMILIES:
            a, b, _ = self.pair(family)
            self.assertEqual(b("s.send(bytes(range(256)) * 100)"), 25600)
            b.kill()
            self.accept(a)
            self.assertEqual(a("c.recv(30000, socket.MSG_WAITALL)"), bytes(range(256)) * 100)
            self.assertEqual(a("c.recv(10)"), b"")

    def test_write_and_exit_broker_dies(self):
        """… also if the broker dies before the server, which sleeps elsewhere, looks at anything."""
        a, b, port = self.pair()
        self.assertEqual(b("s.send(bytes(range(256)) * 100)"), 25600)
        b.kill()
        self.lab.wait_service("broker", self.lab.kill_service("broker"))
        self.accept(a)
        self.assertEqual(a("c.recv(30000, socket.MSG_WAITALL)"), bytes(range(256)) * 100)
        self.assertEqual(a("c.recv(10)"), b"")

    def test_nobody_waits_yet(self):
        """A listener that was never waited on is reached by TCP, and what was written before the exit is there."""
        a, b, port = self.pair(arm=False)
        self.assertEqual(self.cut_rows(port), [])
        self.assertEqual(len(self.tcp_rows(port)), 2)
        self.assertEqual(b("s.send(bytes(range(256)) * 100)"), 25600)
        b.kill()
        self.accept(a)
        self.assertEqual(a("b''.join(iter(lambda: c.recv(65536), b''))"), bytes(range(256)) * 100)

    def test_half_close(self):
        for family in FAMILIES:
            a, b, port = self.connected(family)
            b("s.sendall(b'question')")
            b("s.shutdown(socket.SHUT_WR)")
            self.assertEqual(a("c.recv(100, socket.MSG_WAITALL)"), b"question")
            self.assertEqual(a("c.recv(1)"), b"")
            a("c.sendall(b'answer')")
            self.assertEqual(b("s.recv(6)"), b"answer")
            self.assertEqual(b("s.send(b'more')"), "BrokenPipeError EPIPE")
            self.assertEqual({r["state"] for r in self.cut_rows(port)}, {"FIN_WAIT_2", "CLOSE_WAIT"})
            a("c.close()")
            self.assertEqual(b("s.recv(1)"), b"")

    def test_reset(self):
        for family in FAMILIES:
            a, b, _ = self.connected(family)
            a("c.sendall(b'last')")
            a("c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))")
            a("c.close()")
            self.assertEqual(b("s.recv(10)"), b"last")
            self.assertEqual(b("s.recv(10)"), "ConnectionResetError ECONNRESET")
            self.assertEqual(b("s.send(b'x')"), "BrokenPipeError EPIPE")

    def test_unread(self):
        for family in FAMILIES:
            a, b, _ = self.connected(family)
            b("s.sendall(b'never read')")
            a("select.select([c], [], [], 20)")
            a("c.close()")
            self.assertEqual(b("s.recv(10)"), "ConnectionResetError ECONNRESET")

    def test_backlog(self):
        """Beyond the backlog connects go by TCP and wait as they do there; all are served in the end."""
        a, b, port = self.pair()
        b(f"more = [socket.socket() for _ in range(12)]")
        b("[m.setblocking(False) for m in more]")
        b(f"[m.connect_ex(('{STACK4}', {port})) for m in more]")
        self.assertLessEqual(len(self.cut_rows(port)), 5)
        a("l.settimeout(20)")
        a("got = [l.accept()[0] for _ in range(13)]", 40)
        self.assertEqual(a("len(got)"), 13)

    def test_refused(self):
        a, b, port = self.pair()
        a("l.close()")
        b(f"t = socket.socket()")
        self.assertEqual(b(f"t.connect(('{STACK4}', {port}))"), "ConnectionRefusedError ECONNREFUSED")
        self.assertEqual(b("s.recv(1)"), "ConnectionResetError ECONNRESET")  # it was never accepted

    def test_stopped_listener(self):
        """A listener that is stopped: connects succeed up to the backlog, data waits, and goes on later."""
        a, b, port = self.pair()
        pid = a.pid()
        os.kill(pid, signal.SIGSTOP)
        b(f"t = socket.create_connection(('{STACK4}', {port}), timeout=20)")
        self.assertEqual(b("t.send(b'while you slept')"), 15)
        os.kill(pid, signal.SIGCONT)
        self.accept(a)
        self.accept(a)
        self.assertEqual(a("c.recv(100)"), b"while you slept")

    def test_returned(self):
        """The accepting program goes before it accepts; another one listens there: the connect is taken to it by TCP."""
        port = self.next_port()
        a, b, other = Puppet(self.lab), Puppet(self.lab), Puppet(self.lab)
        for p in (a, other):
            p("l = socket.socket()")
            p("l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)")
            p(f"l.bind(('{STACK4}', {port}))")
            if p is a:
                p("l.listen(8)")
                p("l.setblocking(False)")
                p("select.select([l], [], [], 0)")
        b(f"s = socket.create_connection(('{STACK4}', {port}), timeout=20)")
        b("s.sendall(bytes(range(256)) * 16)")
        other("l.listen(8)")
        other("l.settimeout(20)")
        b.tell("s.recv(10)")
        a.kill(a.pid())
        other("c = l.accept()[0]")
        other("c.settimeout(None)")  # Python's own time-outs make it O_NONBLOCK, where MSG_WAITALL means nothing
        self.assertEqual(other("c.recv(4096, socket.MSG_WAITALL)"), bytes(range(256)) * 16)
        other("c.sendall(b'here')")
        self.assertEqual(b.answer(), b"here")

    def test_death(self):
        """Either side killed, with the broker up and with the broker down."""
        for broker_down in (False, True):
            for who in ("server", "client"):
                for unread in (False, True):
                    with self.subTest(broker_down=broker_down, who=who, unread=unread):
                        a, b, _ = self.connected()
                        victim, name, stays, its = (a, "c", b, "s") if who == "server" else (b, "s", a, "c")
                        victim(f"{name}.sendall(b'last words')")
                        if unread:
                            stays(f"{its}.sendall(b'nobody reads this')")
                        pid = self.lab.kill_service("broker") if broker_down else 0
                        victim.kill(victim.pid())
                        self.assertEqual(stays(f"{its}.recv(100)"), b"last words")
                        self.assertEqual(stays(f"{its}.recv(100)"),
                                         "ConnectionResetError ECONNRESET" if unread else b"")
                        if broker_down:
                            self.lab.wait_service("broker", pid)

    def test_fork(self):
        """A child serves a connection that its parent accepted; the parent has closed its own descriptor."""
        a, b, _ = self.connected()
        a("def child(): c.sendall(c.recv(100).upper()); c.sendall(b'%d' % len(c.recv(100))); c.close(); os._exit(0)")
        a("pid = os.fork() or child()")
        a("c.close()")
        b("s.sendall(b'small')")
        self.assertEqual(b("s.recv(100)"), b"SMALL")
        b("s.sendall(b'1234567')")
        self.assertEqual(b("s.recv(100)"), b"7")
        self.assertEqual(b("s.recv(100)"), b"")
        self.assertEqual(a("os.waitpid(pid, 0)[1]"), 0)

    def test_fork_client(self):
        """A child goes on with a connection that its parent made, the parent with another one."""
        a, b, port = self.connected()
        b(f"t = socket.create_connection(('{STACK4}', {port}), timeout=20)")
        a("select.select([l], [], [], 20)")
        a("d = l.accept()[0]")
        b("def child(): s.sendall(b'from the child'); s.recv(1); os._exit(0)")
        b("pid = os.fork() or child()")
        self.assertEqual(a("c.recv(100)"), b"from the child")
        b("t.sendall(b'from the parent')")
        self.assertEqual(a("d.recv(100)"), b"from the parent")
        a("c.sendall(b'x')")
        self.assertEqual(b("os.waitpid(pid, 0)[1]"), 0)

    def test_fork_bound(self):
        """A child goes on with a connection from a bound port, which its parent has closed; connects of both go on."""
        a, b, port = self.connected()
        b("t = socket.socket()")
        b(f"t.bind(('{STACK4}', 19703))")
        b("t.settimeout(20)")
        b(f"t.connect(('{STACK4}', {port}))")
        self.accept(a)
        self.assertEqual(a("who"), (STACK4, 19703))
        b("def child(): t.sendall(t.recv(100).upper()); t.recv(1); t.close(); os._exit(0)")
        b("pid = os.fork() or child()")
        b("t.close()")
        for _ in range(3):
            b(f"u = socket.create_connection(('{STACK4}', {port}), timeout=20, source_address=('{STACK4}', 0))")
            a("select.select([l], [], [], 20)")
            a("d = l.accept()[0]")
            b("u.sendall(b'beside')")
            self.assertEqual(a("d.recv(100)"), b"beside")
            b("u.close()")
        a("c.sendall(b'small')")
        self.assertEqual(a("c.recv(100)"), b"SMALL")
        a("c.sendall(b'x')")
        self.assertEqual(b("os.waitpid(pid, 0)[1]"), 0)

    def test_own_listener(self):
        """A program that connects to itself goes by TCP."""
        port = self.next_port()
        a = Puppet(self.lab)
        a(f"l = socket.create_server(('{STACK4}', {port}))")
        a("l.setblocking(False)")
        a("select.select([l], [], [], 0)")
        a(f"s = socket.create_connection(('{STACK4}', {port}), timeout=20)")
        self.assertEqual(self.cut_rows(port), [])
        self.assertGreaterEqual(len(self.tcp_rows(port)), 1)

    def test_scope(self):
        """app-scope-local off on either side, in vcl.conf or in the environment: by TCP."""
        conf = self.lab.vcl_conf("vcl {\n  app-scope-local off\n}\n")
        for off in ("server", "client"):
            port = self.next_port()
            env = {"env": {"VCL_CONFIG": conf} if off == "server" else {"VCL_APP_SCOPE_LOCAL": "0"}}
            a = Puppet(self.lab, **(env if off == "server" else {}))
            b = Puppet(self.lab, **(env if off == "client" else {}))
            a(f"l = socket.create_server(('{STACK4}', {port}))")
            a("l.setblocking(False)")
            a("select.select([l], [], [], 0)")
            b(f"s = socket.create_connection(('{STACK4}', {port}), timeout=20)")
            self.accept(a)
            self.assertEqual(self.cut_rows(port), [], off)
            self.assertEqual(len(self.tcp_rows(port)), 2, off)


class Hostile(CutCase):
    """A program that writes rubbish over all it can write of its pairs harms nobody but itself."""

    def liar(self, port, mine):
        return self.lab.spawn("app", [programs.PYTHON, "-u", "-c", LIAR, STACK4, port, mine])

    def test_liars(self):
        """Liars connect to an honest server, and one accepts from an honest client; all honest traffic is whole."""
        port, bad_port = self.next_port(), self.next_port()
        self.lab.liars = True
        server = self.lab.spawn("app", [programs.PYTHON, "-u", ECHO, "serve", STACK4, port])
        self.lab.wait_listening(port)
        liar, lives = self.liar(port, bad_port), 1
        self.lab.wait_listening(bad_port)
        talk = self.lab.spawn("app", [programs.PYTHON, ECHO, "talk", STACK4, port, 300_000, 10])
        churn = self.lab.spawn("app", [programs.PYTHON, ECHO, "churn", STACK4, port, 3])
        victim = self.lab.spawn("app", [programs.PYTHON, "-u", "-c", VICTIM, STACK4, bad_port, 3])
        while churn.alive() or victim.alive():
            if not hold(0.05, liar.alive):  # it died of its own lies
                liar, lives = self.liar(port, bad_port), lives + 1
        for program in (talk, churn, victim):
            self.assertEqual(program.wait(120), 0, program.output())
        self.assertIn("equal", talk.output())
        self.assertTrue(server.alive(), server.output())
        self.lab.app([programs.PYTHON, ECHO, "talk", STACK4, port, 100_000, 3])
        counters = {c["name"]: c["value"] for c in self.lab.show("drops")["stats"]["counter"]}
        print(f"{churn.output().strip()}; {victim.output().strip()}; {lives} liars, "
              f"{counters['broker.pair-lied']} pairs ended for a lie")
        self.assertGreater(counters["broker.pair-lied"], 0)


class Deaths(CutCase):
    def test_each_service(self):
        def all_of_them():
            for name in SERVICES:
                self.lab.wait_service(name, self.lab.kill_service(name))
        self.transfer(all_of_them)

    def test_two_at_once(self):
        def two():
            for pair in (("broker", "engine"), ("engine", "nicio"), ("broker", "nicio")):
                pids = {name: self.lab.kill_service(name) for name in pair}
                for name, pid in pids.items():
                    self.lab.wait_service(name, pid)
        self.transfer(two)

    def test_churn(self):
        """Connections come and go while each service dies."""
        port = self.next_port()
        self.lab.spawn("app", [programs.PYTHON, "-u", ECHO, "serve", STACK4, port])
        self.lab.wait_listening(port)
        churn = self.lab.spawn("app", [programs.PYTHON, ECHO, "churn", STACK4, port, 3])
        wait_for(lambda: len(self.lab.show("app")["apps"]["app"]) >= 2, 20, "both programs")
        for name in SERVICES:
            if not hold(0.2, churn.alive):  # on a busy machine its time may be over before all were killed
                break
            self.lab.wait_service(name, self.lab.kill_service(name))
        self.assertEqual(churn.wait(120), 0, churn.output())
        print(churn.output().strip())


class AllDown(CutCase):
    """Every service is gone and stays away: what is connected goes on."""

    @classmethod
    def setUpClass(cls):
        cls.START, start = False, True
        super().setUpClass()
        if start:
            cls.lab.start_unsupervised()

    def test_all_down(self):
        def away():
            for name in SERVICES:
                self.lab.kill_service(name)
                self.lab.services[name].wait(60)
                del self.lab.services[name]
        self.transfer(away)


if __name__ == "__main__":
    netcase.main()

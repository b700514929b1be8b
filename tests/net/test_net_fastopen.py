#!/usr/bin/env python3
"""Fast Open between the Linux kernel and the stack, both ways. As the client the kernel asks for a cookie, shows it with
its second SYN, and has its data acknowledged by our SYN-ACK; also by an engine that was killed and came back in
between. As the server it gives the cookies to a program under the shim, which calls as programs do on Linux."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from puppet import Puppet  # noqa: E402
from stack import PEER4, STACK4  # noqa: E402
from wait import wait_for  # noqa: E402

PORT = 7500
SYN_DATA = 32  # TCPI_OPT_SYN_DATA
SERVER = """
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2])))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
assert s.getsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN) == 16
s.listen(16)
while True:
    c, _ = s.accept()
    c.sendall(b"answer to " + c.recv(1000))
    c.close()
"""
CLIENT = """
import json, socket, sys
s = socket.socket()
n = s.sendto(b"request", socket.MSG_FASTOPEN, (sys.argv[1], int(sys.argv[2])))
s.settimeout(20)
got = b""
while True:
    b = s.recv(1000)
    if not b:
        break
    got += b
options = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[5]
print(json.dumps({"sent": n, "got": got.decode(), "options": options}))
"""
CLIENT_STEPS = """
TCP = socket.IPPROTO_TCP
def options(s): return s.getsockopt(TCP, socket.TCP_INFO, 104)[5]
def ready(s, what): p = select.poll(); p.register(s, what); return p.poll(20000)[0][1]
def rest(s): s.setblocking(True); s.settimeout(20); return b"".join(iter(lambda: s.recv(65536), b""))
def fresh(*opt): s = socket.socket(); [s.setsockopt(TCP, o, 1) for o in opt]; return s
""".strip().splitlines()
PLAIN = SERVER.replace("s.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)", "").replace("== 16", "== 0")
SINK = """
import socket, sys
s = socket.socket()
s.bind((sys.argv[1], int(sys.argv[2])))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
s.listen(16)
while True:
    c, _ = s.accept()
    n = 0
    while True:
        b = c.recv(65536)
        if not b:
            break
        assert all(x == (n + i) % 251 for i, x in enumerate(b))
        n += len(b)
    c.sendall(str(n).encode())
    c.close()
"""


class FastOpen(netcase.NetCase):
    def ask(self):
        out = self.lab.peer([programs.PYTHON, "-c", CLIENT, STACK4, PORT]).stdout
        answer = json.loads(out)
        self.assertEqual((answer["sent"], answer["got"]), (7, "answer to request"))
        return answer["options"] & SYN_DATA

    def counter(self, name):
        return {c["name"]: c["value"] for c in self.lab.show("tcp")["tcp"]["counter"]}["tcp." + name]

    def test_kernel_client(self):
        self.lab.spawn("app", [programs.PYTHON, "-u", "-c", SERVER, STACK4, PORT])
        self.lab.wait_listening(PORT)
        self.assertEqual(self.ask(), 0)  # no cookie yet
        self.assertEqual(self.counter("fastopen_in"), 0)
        self.assertEqual(self.ask(), SYN_DATA)
        self.assertEqual(self.counter("fastopen_in"), 1)
        self.lab.hsctl("set", "tcp", "fastopen", "client")
        self.assertEqual(self.ask(), 0)
        self.lab.hsctl("set", "tcp", "fastopen", "default")
        pid = self.lab.pid_of("engine")
        self.lab.kill_service("engine")
        self.lab.wait_service("engine", pid)
        wait_for(lambda: self.ask() == SYN_DATA, 20, "data on the SYN again")  # the kernel may pause for a SYN that was lost
        self.assertEqual(self.counter("fastopen_bad"), 0)

    def serve(self, *options):
        """A program under the shim that answers as SERVER does; `options` are set on its listener."""
        p = Puppet(self.lab)
        p("def serve(): c = l.accept()[0]; c.sendall(b'answer to ' + c.recv(1000)); c.close(); serve()")
        p("l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); l.setsockopt(6, 23, 16)")
        for name, value in options:
            self.assertEqual(p(f"l.setsockopt(6, {name}, {value!r})"), None)
        p(f"l.bind(({STACK4!r}, {PORT})); l.listen(16)")
        p("threading.Thread(target=serve, daemon=True).start()")
        return p

    def test_keys_of_a_listener(self):
        """TCP_FASTOPEN_KEY of a program: cookies are its own, and outlive a change that names the former key."""
        one, two, other = b"1" * 16, b"2" * 16, b"3" * 16
        p = self.serve((33, one))
        self.assertEqual([self.ask(), self.ask()], [0, SYN_DATA])
        bad = self.counter("fastopen_bad")
        for keys in (two + one, two):
            self.assertEqual(p(f"l.setsockopt(6, 33, {keys!r})"), None)
            self.assertEqual(self.ask(), SYN_DATA)
        self.assertEqual(self.counter("fastopen_bad"), bad)
        p(f"l.setsockopt(6, 33, {other!r})")
        self.assertEqual([self.ask(), self.ask()], [0, SYN_DATA])
        self.assertEqual(self.counter("fastopen_bad"), bad + 1)

    def test_no_cookie(self):
        """TCP_FASTOPEN_NO_COOKIE: the first SYN of a client that shows none brings its data."""
        self.lab.world.sysctl(self.lab.P, "net.ipv4.tcp_fastopen=5")
        self.addCleanup(self.lab.world.sysctl, self.lab.P, "net.ipv4.tcp_fastopen=1")
        taken = self.counter("fastopen_in")
        self.serve((34, 1))
        self.assertEqual([self.ask(), self.counter("fastopen_in")], [SYN_DATA, taken + 1])

    def start_client(self):
        """A program under the shim, and the kernel's servers: with Fast Open, without, and one that counts."""
        self.lab.world.sysctl(self.lab.P, "net.ipv4.tcp_fastopen=3")
        for port, program in ((PORT, SERVER), (PORT + 1, PLAIN), (PORT + 2, SINK)):
            self.lab.spawn("peer", [programs.PYTHON, "-u", "-c", program, PEER4, port])
            self.lab.wait_listening_kernel(self.lab.P, port)
        p = Puppet(self.lab)
        for step in CLIENT_STEPS:
            p(step)
        p(f"A, B, C, D = [({PEER4!r}, {PORT} + i) for i in range(4)]")
        return p

    def test_shim_client(self):
        p = self.start_client()
        sent = self.counter("fastopen_out")
        p("s = fresh(); s.setblocking(False)")
        self.assertEqual(p("s.sendto(b'request', socket.MSG_FASTOPEN, A)"), "BlockingIOError EINPROGRESS")  # no cookie yet
        self.assertIn(p("s.sendto(b'request', socket.MSG_FASTOPEN, A)"), ("BlockingIOError EALREADY", "OSError EISCONN"))
        self.assertEqual(p("(ready(s, 4), s.send(b'request'), rest(s))"), (4, 7, b"answer to request"))
        self.assertEqual(p("options(s) & 32"), 0)
        self.assertEqual(self.counter("fastopen_out"), sent)

        p("s = fresh(); s.setblocking(False)")
        self.assertEqual(p("s.sendto(b'request', socket.MSG_FASTOPEN, A)"), 7)
        self.assertEqual(p("rest(s), options(s) & 32"), (b"answer to request", 32))
        self.assertEqual(self.counter("fastopen_out"), sent + 1)

        p("s = fresh()")  # blocking, by sendmsg in pieces
        self.assertEqual(p("s.sendmsg([b'req', b'uest'], [], socket.MSG_FASTOPEN, A)"), 7)
        self.assertEqual(p("rest(s), options(s) & 32"), (b"answer to request", 32))

        self.assertEqual(p("s.sendto(b'x', socket.MSG_FASTOPEN, A)"), "OSError EISCONN")
        p("s = fresh()")
        self.assertEqual(p("s.send(b'x', socket.MSG_FASTOPEN)"), "OSError EINVAL")
        self.assertEqual(p("s.sendto(b'x', socket.MSG_FASTOPEN, D)"), "ConnectionRefusedError ECONNREFUSED")

        p("s = fresh()")  # a server of the same host that takes no data with the SYN
        self.assertEqual(p("s.sendto(b'request', socket.MSG_FASTOPEN, B)"), 7)
        self.assertEqual(p("rest(s), options(s) & 32"), (b"answer to request", 0))
        self.assertEqual(self.counter("fastopen_fallback"), 0)

    def test_shim_connect(self):
        p = self.start_client()
        p("s = fresh(30)")  # TCP_FASTOPEN_CONNECT
        self.assertEqual(p("s.getsockopt(TCP, 30)"), 1)
        self.assertEqual(p("(s.connect(A), s.sendall(b'request'), rest(s))"), (None, None, b"answer to request"))
        sent = self.counter("fastopen_out")
        p("s = fresh(30); s.setblocking(False)")
        self.assertEqual(p("s.connect(A)"), None)  # nothing leaves before there are bytes
        self.assertEqual(self.counter("fastopen_out"), sent)
        self.assertEqual(p("s.connect(A)"), "OSError EISCONN")
        self.assertEqual(p("s.getpeername()"), "OSError ENOTCONN")
        self.assertEqual(p("s.recv(1)"), "BlockingIOError EAGAIN")
        self.assertEqual(p("ready(s, 5)"), 4)
        self.assertEqual(p("s.send(b'request')"), 7)
        self.assertEqual(p("rest(s), options(s) & 32"), (b"answer to request", 32))
        self.assertEqual(p("s.getpeername() == A"), True)
        self.assertEqual(self.counter("fastopen_out"), sent + 1)
        p("s = fresh(30); s.connect(A); s.close()")  # never written to: no SYN
        self.assertEqual(p("fresh(30).setsockopt(TCP, 30, 2)"), "OSError EINVAL")

        p("s = fresh(30); m = bytes(i % 251 for i in range(300000))")  # more than a SYN carries
        self.assertEqual(p("s.connect(C)"), None)
        first = p("s.send(m, socket.MSG_DONTWAIT)")
        self.assertTrue(1000 < first <= 300000, first)  # what the SYN carries, and more if the answer was there already
        self.assertEqual(p(f"(s.sendall(m[{first}:]), s.shutdown(1), rest(s))"), (None, None, b"300000"))
        p("s = fresh(30); s.connect(C)")
        self.assertEqual(p("(s.sendall(m), s.shutdown(1), rest(s))"), (None, None, b"300000"))
        self.assertEqual(p("options(s) & 32"), 32)

        self.lab.hsctl("set", "tcp", "fastopen", "server")
        p("s = fresh()")
        self.assertEqual(p("s.sendto(b'request', socket.MSG_FASTOPEN, A)"), "OSError ENOTSUP")  # errno.errorcode has this name for EOPNOTSUPP
        p("s = fresh(30)")
        self.assertEqual(p("(s.connect(A), s.sendall(b'request'), rest(s))"), (None, None, b"answer to request"))
        self.lab.hsctl("set", "tcp", "fastopen", "default")


if __name__ == "__main__":
    netcase.main()

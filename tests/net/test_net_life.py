#!/usr/bin/env python3
"""From a session's first state to the return of its memory, seen from outside: every TCP state is reached and shown,
what a program leaves unsent when it exits still arrives, segments and descriptors of programs that ended are given back,
and ICMP errors go out and come in."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from netns import run  # noqa: E402
from stack import PEER4, SERVICES, STACK4, STACK6  # noqa: E402
from wait import wait_for  # noqa: E402

HOLD = os.path.join(sys.path[0], "hold.py")
STATES = ["ESTABLISHED", "SYN_SENT", "SYN_RECEIVED", "FIN_WAIT_1", "FIN_WAIT_2", "TIME_WAIT", "CLOSED", "CLOSE_WAIT",
          "LAST_ACK", "LISTEN", "CLOSING"]
PATTERN = b"0123456789abcdef"
# fills its send buffer and is gone without a close
LEAVES = f"""
import os, socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
s.connect((sys.argv[1], 7300))
s.setblocking(False)
data, sent = {PATTERN!r} * 196608, 0
try:
    while sent < len(data):
        sent += s.send(data[sent:])
except BlockingIOError:
    pass
print(sent, flush=True)
os._exit(0)
"""
READS = f"""
import socket
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
s.bind(("0.0.0.0", 7300))
s.listen()
conn, _ = s.accept()
data = b""
while True:
    more = conn.recv(65536)
    if not more:
        break
    data += more
print(len(data), data == ({PATTERN!r} * (len(data) // 16 + 1))[:len(data)], flush=True)
"""
UDP = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(20)
s.connect((sys.argv[1], 9))
s.send(b"x")
try:
    s.recv(1)
except OSError as e:
    print(type(e).__name__)
"""
PROTOCOL = """
import select, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)
icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.sendto(b"hello", (sys.argv[1], 0))
if select.select([icmp], [], [], 20)[0]:
    print(*icmp.recv(2000)[20:22])
"""
CONNECT = """
import socket, sys
s = socket.socket()
s.settimeout(10)
try:
    s.connect((sys.argv[1], 80))
except OSError as e:
    print(type(e).__name__)
"""


class States(netcase.NetCase):
    def hold(self, where, how, port):
        address = STACK4 if (where == "app") == (how == "serve") else PEER4
        return self.lab.spawn(where, [programs.PYTHON, "-u", HOLD, how, address, port], stdin=subprocess.PIPE)

    def pair(self, port):
        """A program on the stack and its peer in the kernel, connected."""
        server = self.hold("app", "serve", port)
        self.lab.wait_listening(port)
        client = self.hold("peer", "connect", port)
        for p in (server, client):
            wait_for(lambda p=p: "open" in p.output(), 20, "an open connection")
        return server, client

    def say(self, program, word):
        program.popen.stdin.write(word.encode() + b"\n")
        program.popen.stdin.flush()
        wait_for(lambda: f"did {word}" in program.output(), 20, word)

    def shows(self, port, state):
        def there():
            return state in {s["state"] for s in self.lab.sessions()
                             if s["local"].endswith(f":{port}") or s["remote"].endswith(f":{port}")}
        wait_for(there, 20, f"port {port} in {state}")
        row = {c["name"]: c["value"] for c in self.lab.show("tcp")["tcp"]["connections_by_state"]}
        self.assertEqual(list(row), STATES)
        self.assertGreaterEqual(row[state], 1)

    def deaf(self, direction):
        self.lab.hsctl("impair", "hs0", direction, "loss=100")
        self.addCleanup(self.hear)

    def hear(self):
        self.lab.hsctl("impair", "hs0", "both")

    def test_passive_close(self):
        server, client = self.pair(7201)
        self.shows(7201, "ESTABLISHED")
        self.say(client, "close")
        self.shows(7201, "CLOSE_WAIT")
        self.deaf("tx")
        self.say(server, "close")
        self.shows(7201, "LAST_ACK")
        self.hear()
        wait_for(lambda: not [s for s in self.lab.sessions() if s["local"].endswith(":7201")], 20, "the end")

    def test_active_close(self):
        server, client = self.pair(7202)
        self.deaf("tx")
        self.say(server, "close")
        self.shows(7202, "FIN_WAIT_1")
        self.hear()
        self.shows(7202, "FIN_WAIT_2")
        self.say(client, "close")
        self.shows(7202, "TIME_WAIT")

    def test_simultaneous_close(self):
        server, client = self.pair(7203)
        self.deaf("tx")
        self.say(server, "close")
        self.shows(7203, "FIN_WAIT_1")
        self.say(client, "close")
        self.shows(7203, "CLOSING")
        self.hear()
        self.shows(7203, "TIME_WAIT")

    def test_opening(self):
        self.pair(7208)  # the peer learns our link address, as it can't while we are deaf
        self.hold("app", "serve", 7204)
        self.lab.wait_listening(7204)
        self.deaf("tx")
        self.hold("peer", "connect", 7204)
        self.shows(7204, "SYN_RECEIVED")
        self.hold("app", "connect", 7205)
        self.shows(7205, "SYN_SENT")

    def test_reset(self):
        for by in (0, 1):
            with self.subTest(by=("app", "peer")[by]):
                both = self.pair(7206 + by)
                self.say(both[by], "reset")
                wait_for(lambda port=7206 + by: not [s for s in self.lab.sessions() if s["local"].endswith(f":{port}")], 20,
                         "no connection")

    def test_unsent_arrives_after_exit(self):
        reader = self.lab.spawn("peer", [programs.PYTHON, "-u", "-c", READS])
        self.lab.wait_listening_kernel(self.lab.P, 7300)
        sent = int(self.lab.app([programs.PYTHON, "-c", LEAVES, PEER4]).stdout)
        self.assertGreater(sent, 1 << 20)
        reader.wait(120)
        self.assertEqual(reader.output().split(), [str(sent), "True"])

    def test_icmp_errors_out(self):
        for address in (STACK4, STACK6):
            self.assertEqual(self.lab.peer([programs.PYTHON, "-c", UDP, address]).stdout, b"ConnectionRefusedError\n")
        self.assertEqual(self.lab.peer([programs.PYTHON, "-c", PROTOCOL, STACK4]).stdout, b"3 2\n")  # protocol unreachable


class IcmpIn(netcase.NetCase):
    LAB = {"extra": "  routes:\n    - {to: 0.0.0.0/0, via: 10.77.0.2}\n"}

    def test_icmp_errors_in(self):
        """A router says that it may not pass our SYN: counted, and told to TCP."""
        run(["ip", "netns", "exec", self.lab.P, "sysctl", "-qw", "net.ipv4.ip_forward=1"])
        run(["ip", "-n", self.lab.P, "route", "add", "prohibit", "203.0.113.0/24"])
        before = self.icmp_seen()
        self.lab.spawn("app", [programs.PYTHON, "-c", CONNECT, "203.0.113.1"])
        wait_for(lambda: self.icmp_seen() > before, 20, "an ICMP error from the router")

    def icmp_seen(self):
        return {c["name"]: c["value"] for c in self.lab.show("stats")["stats"]["counter"]}["icmp.rx.error"]


class Memory(netcase.NetCase):
    LAB = {"extra": "  tcp: {time-wait-ms: 100}\n"}
    STARTS = 200

    def held(self):
        """{service: (descriptors, mapped segments)}"""
        found = {}
        for name in SERVICES:
            pid = self.lab.pid_of(name)
            with open(f"/proc/{pid}/maps", encoding="utf-8") as f:
                maps = len(re.findall(r"/memfd:hs-", f.read()))
            found[name] = (len(os.listdir(f"/proc/{pid}/fd")), maps)
        return found

    def programs_run(self, count):
        for _ in range(count):
            done = self.lab.app(["curl", "-sS", f"http://{PEER4}:8080/hello"])
            self.assertEqual(done.stdout, b"hello\n")

    def test_returns_after_exit(self):
        """After 200 programs that came, connected and went, the services hold what they held before."""
        programs.nginx(self.lab, "peer", self.lab.world.data_dir)
        wait_for(lambda: not self.lab.sessions() and not self.lab.show("app")["apps"]["app"], 20, "nothing on the stack")
        before = self.held()
        self.programs_run(self.STARTS)
        wait_for(lambda: not self.lab.sessions() and not self.lab.show("app")["apps"]["app"], 20, "nothing on the stack")
        try:
            wait_for(lambda: self.held() == before, 20, "what was held before")
        except TimeoutError:
            self.assertEqual(self.held(), before)


if __name__ == "__main__":
    netcase.main()

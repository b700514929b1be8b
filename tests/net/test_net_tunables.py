#!/usr/bin/env python3
"""hsctl show tcp config and set tcp: what is changed counts at once, outlives the engine, and is refused if it is wrong.
Congestion control is also a socket's own: set before connect, after it, or on the listener."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from held import Held  # noqa: E402
from puppet import Puppet  # noqa: E402
from stack import PEER4, STACK4  # noqa: E402
from wait import wait_for  # noqa: E402

ECHO = os.path.join(sys.path[0], "echo.py")
# name, value, and a word of the refusal; the api server's answer, status 1
REFUSED = [("nonsense", "1", "no tunable"), ("rto-min-ms", "0", "5 to 60000"), ("rto-min-ms", "x", "5 to 60000"),
           ("rto-min-ms", "2000", "must not be above rto-initial-ms"), ("sack", "maybe", "true, false"),
           ("congestion-control", "magic", "cubic"), ("fastopen-key", "12", "32 hex digits"),
           ("fastopen-key", "0" * 32 + "," + "1" * 31, "NEW,FORMER")]


class Tunables(netcase.NetCase):
    def config(self):
        return {t["name"]: t for t in self.lab.show("tcp", "config")["tcp_config"]["tunable"]}

    def test_list(self):
        rows = self.config()
        self.assertGreater(len(rows), 20)
        for row in rows.values():
            self.assertTrue(row["help"] and row["allowed"] and row["default_value"])
            self.assertIn(row["reach"], ("all", "new"))
            self.assertFalse(row["set"])
        self.assertEqual((rows["rto-min-ms"]["value"], rows["rto-min-ms"]["unit"]), ("200", "ms"))
        text = self.lab.hsctl("show", "tcp", "config").stdout.decode()
        self.assertEqual(len(text.strip().splitlines()), len(rows) + 1)

    def test_refused(self):
        for name, value, word in REFUSED:
            with self.subTest((name, value)):
                done = self.lab.hsctl("set", "tcp", name, value, check=False)
                self.assertEqual(done.returncode, 1)
                self.assertIn(word, done.stderr.decode())
        self.assertFalse(any(t["set"] for t in self.config().values()))

    def test_set_counts_and_outlives_the_engine(self):
        """congestion-control newreno: of connections opened later; still so in the next engine; default: cubic again."""
        self.lab.spawn("app", [programs.PYTHON, "-u", ECHO, "serve", STACK4, 7000])
        self.lab.wait_listening(7000)
        self.assertEqual(self.cc_of_a_new_connection(), "cubic")
        self.lab.hsctl("set", "tcp", "congestion-control", "newreno")
        self.lab.hsctl("set", "tcp", "rto-min-ms", "321")
        self.lab.hsctl("set", "tcp", "fastopen-key", "00112233445566778899aabbccddeeff,ffeeddccbbaa99887766554433221100")
        shown = self.lab.hsctl("--json", "show", "tcp", "config").stdout.decode()
        self.assertNotIn("00112233", shown)
        self.assertNotIn("ffeeddcc", shown)
        self.assertEqual(self.cc_of_a_new_connection(), "newreno")
        pid = self.lab.kill_service("engine")
        self.lab.wait_service("engine", pid)
        rows = self.config()
        self.assertEqual((rows["rto-min-ms"]["value"], rows["rto-min-ms"]["set"]), ("321", True))
        self.assertEqual(rows["congestion-control"]["value"], "newreno")
        self.assertEqual(self.cc_of_a_new_connection(), "newreno")
        self.assertEqual((rows["fastopen-key"]["value"], rows["fastopen-key"]["set"]), ("given", True))
        for name in ("congestion-control", "rto-min-ms", "fastopen-key"):
            self.lab.hsctl("set", "tcp", name, "default")
        self.assertFalse(any(t["set"] for t in self.config().values()))
        self.assertEqual(self.cc_of_a_new_connection(), "cubic")

    def cc_in_use(self, port):
        """What the engine says of the established connection that has this port at either end."""
        found = [s["cc"] for s in self.lab.sessions() if s["state"] == "ESTABLISHED" and
                 (s["local"].endswith(f":{port}") or s["remote"].endswith(f":{port}"))]
        self.assertEqual(len(found), 1, found)
        return found[0]

    def test_congestion_by_socket(self):
        """TCP_CONGESTION as the program sets it, over a line that loses and delays; every byte is compared."""
        self.lab.hsctl("impair", "hs0", "both", "loss=0.3", "delay=1000")
        app, peer = Puppet(self.lab), Puppet(self.lab, "peer")
        for p in (app, peer):
            p("m = bytes(i * i % 251 for i in range(100000)) * 5")
            p("take = lambda s: b''.join(iter(lambda: s.recv(65536), b''))")
        app("put = lambda s, m: s.sendall(m) or s.shutdown(1)")
        app("cc = lambda s: s.getsockopt(6, 13, 16).rstrip(bytes(1)).decode()")
        peer(f"l = socket.create_server(({PEER4!r}, 7100))")
        app(f"l = socket.create_server(({STACK4!r}, 7101))")
        for name in ("bbr", "newreno"):
            with self.subTest(name):
                peer.tell("c = l.accept()[0]; got = take(c)")
                app(f"s = socket.socket(); s.setsockopt(6, 13, {name.encode()!r}); s.connect(({PEER4!r}, 7100))")
                self.assertEqual((app("cc(s)"), self.cc_in_use(7100)), (name, name))
                app("put(s, m)")
                peer.answer(60)
                self.assertEqual(peer("got == m"), True)
                app("s.close()")

                peer.tell("c = l.accept()[0]; got = take(c)")  # changed on its way
                app(f"s = socket.create_connection(({PEER4!r}, 7100)); s.sendall(m[:100000])")
                self.assertEqual((app("cc(s)"), self.cc_in_use(7100)), ("cubic", "cubic"))
                app(f"s.setsockopt(6, 13, {name.encode()!r})")
                self.assertEqual(app("cc(s)"), name)
                wait_for(lambda: self.cc_in_use(7100) == name, 20, "the change")
                app("put(s, m[100000:])")
                peer.answer(60)
                self.assertEqual(peer("got == m"), True)
                app("s.close()")

                app(f"l.setsockopt(6, 13, {name.encode()!r})")  # what a listener accepts
                peer(f"c = socket.create_connection(({STACK4!r}, 7101))")
                app("s = l.accept()[0]; s.send(m[:1])")
                self.assertEqual(app("cc(s)"), name)
                wait_for(lambda: self.cc_in_use(7101) == name, 20, "the listener's choice")
                peer.tell("got = take(c)")
                app("put(s, m[1:])")
                peer.answer(60)
                self.assertEqual(peer("got == m"), True)
                app("s.close()")
        self.assertEqual(app("s = socket.socket()"), None)
        self.assertEqual(app("s.setsockopt(6, 13, b'vegas')"), "FileNotFoundError ENOENT")
        self.lab.hsctl("impair", "hs0", "both")

    def cc_of_a_new_connection(self):
        return self.a_new_connection()["cc"]

    def test_send_buffer(self):
        """What a new connection's program may write ahead; the old one keeps its own."""
        self.lab.spawn("app", [programs.PYTHON, "-u", ECHO, "serve", STACK4, 7002])
        self.lab.wait_listening(7002)
        old = self.a_new_connection(7002)
        self.assertEqual(old["tx_limit"], 262144)
        self.lab.hsctl("set", "tcp", "send-buffer", "64k")
        self.assertEqual(self.a_new_connection(7002)["tx_limit"], 65536)
        self.assertEqual([s["tx_limit"] for s in self.lab.show("session", "verbose")["sessions"]["session"]
                          if s["index"] == old["index"]], [262144])
        self.lab.hsctl("set", "tcp", "send-buffer", "default")

    def a_new_connection(self, port=7000):
        before = {s["index"] for s in self.lab.sessions()}
        Held(self.lab, "peer", STACK4, port)
        fresh = [s for s in self.lab.show("session", "verbose")["sessions"]["session"] if s["index"] not in before and s["state"] == "ESTABLISHED"]
        self.assertEqual(len(fresh), 1)
        return fresh[0]


if __name__ == "__main__":
    netcase.main()

#!/usr/bin/env python3
"""hsctl: every show command as text and as JSON while connections exist, capture, impair, and what it refuses."""
import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from held import Held  # noqa: E402
from stack import PEER4, SERVICES, STACK4, STACK6  # noqa: E402
from wait import wait_for  # noqa: E402

ECHO = os.path.join(sys.path[0], "echo.py")
PING = os.path.join(sys.path[0], "ping.py")
SHOW = (("interface",), ("session",), ("session", "verbose"), ("tcp",), ("tcp", "statistics"), ("tcp", "config"), ("drops", "all"),
        ("app",), ("namespace",), ("version",), ("stats",))
# arguments and a word of the refusal; all are refused with exit status 2, none reaches a service
WRONG = [
    ((), "usage"), (("nonsense",), "nonsense"), (("show",), "allowed"), (("show", "nonsense"), "nonsense"),
    (("show", "tcp", "more"), "allowed"), (("impair",), "usage"), (("impair", "hs0", "sideways"), "usage"),
    (("impair", "hs0", "rx", "loss=101"), "loss"), (("impair", "hs0", "rx", "loss=much"), "loss"),
    (("impair", "hs0", "rx", "colour=1"), "colour"), (("capture", "hs0"), "usage"), (("reset-rings", "x"), "no arguments"),
    (("set",), "usage"), (("set", "udp", "x", "1"), "usage"), (("set", "tcp", "sack"), "usage"),
    (("show", "session", "more"), "session verbose"), (("down", "x"), "no arguments"), (("run", "x"), "usage"), (("up", "x"), "usage"), (("--timeout", "x", "show", "tcp"), "timeout"),
]


class Down(netcase.NetCase):
    START = False

    def test_a_service_that_is_down_is_named(self):
        """The others still answer; the one that is away is told with an error."""
        for name in ("broker", "nicio", "api"):
            self.lab.start_service(name)
        wait_for(self.lab.versions, 20, "an api server that answers")
        versions = self.lab.versions()
        self.assertEqual(set(versions), set(SERVICES))
        self.assertTrue(versions["engine"]["error"])
        self.assertEqual([n for n in ("broker", "nicio", "api") if versions[n]["error"]], [])
        done = self.lab.hsctl("show", "session", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"engine", done.stderr)
        for args in (("show", "tcp", "config"), ("set", "tcp", "sack", "false")):
            done = self.lab.hsctl(*args, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"engine", done.stderr)
        drops = {c["name"]: c["value"] for c in self.lab.show("drops")["stats"]["counter"]}
        self.assertEqual(drops["engine.away"], 1)
        self.assertNotIn("broker.away", drops)
        self.assertFalse(versions["nicio"]["serving"])  # it opens no port before there is an engine
        done = self.lab.hsctl("show", "interface", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"nicio is starting", done.stderr)


class Ctl(netcase.NetCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = cls.lab.spawn("app", [programs.PYTHON, "-u", ECHO, "serve", STACK4, 7000])
        cls.lab.wait_listening(7000)
        cls.held = Held(cls.lab, "peer", STACK4, 7000, 3)

    def test_text_and_json(self):
        for what in SHOW:
            with self.subTest(what):
                text = self.lab.hsctl("show", *what).stdout.decode()
                self.assertTrue(text.strip())
                data = json.loads(self.lab.hsctl("show", *what, "--json").stdout)
                self.assertEqual(data["rc"], 0)
                self.assertEqual(data, json.loads(self.lab.hsctl("--json", "show", *what).stdout) | data)

    def test_interface(self):
        one, = self.lab.show("interface")["interfaces"]["interface"]
        self.assertEqual((one["name"], one["kind"], one["device"], one["mtu"], one["up"]), ("hs0", "kernel", "hs0", 1500, True))
        self.assertRegex(one["mac"], r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
        self.assertIn(f"{STACK4}/24", one["address"])
        self.assertIn(f"{STACK6}/64", one["address"])
        before = {c["name"]: c["value"] for c in one["counter"]}
        self.lab.peer([programs.PYTHON, PING, STACK4, 10, 100])
        after = {c["name"]: c["value"] for c in self.lab.show("interface")["interfaces"]["interface"][0]["counter"]}
        self.assertGreaterEqual(after["rx.frames"] - before["rx.frames"], 10)
        self.assertGreaterEqual(after["tx.frames"] - before["tx.frames"], 10)

    def test_session(self):
        established = [s for s in self.lab.sessions() if s["state"] == "ESTABLISHED"]
        self.assertEqual(len(established), 3)
        for s in established:
            self.assertEqual((s["proto"], s["local"]), ("tcp", f"{STACK4}:7000"))
            self.assertTrue(s["remote"].startswith(PEER4 + ":"))
            self.assertEqual(s["mss"], 1460)
        text = self.lab.hsctl("show", "session").stdout.decode()
        self.assertEqual(text.count("ESTABLISHED"), 3)

    def test_session_verbose(self):
        """Every figure, also of connections that have been idle since they were opened."""
        for s in self.lab.show("session", "verbose")["sessions"]["session"]:
            if s["state"] != "ESTABLISHED":
                continue
            self.assertEqual((s["pmtu"], s["recovery"], s["backoff"], s["accept"]), (1500, "open", 0, "taken"))
            self.assertEqual(s["options"].split(), ["timestamps", "sack", "wscale"])
            self.assertTrue(0 < s["srtt_us"] < 1e6 and s["rto_us"] >= 200000 and 0 < s["age_ms"] < 300000)
            self.assertTrue(s["cwnd"] >= 10 * 1448 and s["rcv_wnd"] >= 65535 and s["tx_limit"] >= 16384)
            self.assertEqual((s["unacked"], s["lost"], s["sacked"], s["rexmit_out"]), (0, 0, 0, 0))
        text = self.lab.hsctl("show", "session", "verbose").stdout.decode()
        self.assertEqual((text.count("ESTABLISHED"), text.count("fifos:")), (3, 3))

    def test_app(self):
        apps = self.lab.show("app")["apps"]["app"]
        self.assertEqual(len(apps), 1)
        self.assertEqual(apps[0]["listener"][0]["local"], f"{STACK4}:7000")
        self.assertEqual(apps[0]["worker"][0]["pid"], self.server.pid)
        self.assertEqual(sum(w["sessions"] for w in apps[0]["worker"]), 3)
        self.assertEqual(self.lab.listeners(), [(f"{STACK4}:7000", self.server.pid)])

    def test_version(self):
        versions = self.lab.versions()
        self.assertEqual(set(versions), set(SERVICES))
        for name, v in versions.items():
            self.assertEqual(v["pid"], self.lab.pid_of(name))

    def test_wrong_arguments(self):
        for args, word in WRONG:
            with self.subTest(args):
                done = self.lab.hsctl(*args, check=False)
                self.assertEqual(done.returncode, 2)
                self.assertIn(word, done.stderr.decode())
                self.assertEqual(done.stdout, b"")

    def test_unknown_interface(self):
        for args in (("impair", "hs9", "rx", "loss=1"), ("capture", "hs9", os.path.join(self.lab.dir, "x.pcapng"))):
            done = self.lab.hsctl(*args, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"hs9", done.stderr)

    def test_no_api_server(self):
        done = self.lab.hsctl("--api", f"ipc://{self.lab.dir}/nobody", "--timeout", "300", "show", "tcp", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"nobody", done.stderr)

    def test_capture(self):
        path = os.path.join(self.lab.dir, "capture.pcapng")
        self.lab.hsctl("capture", "hs0", path)
        self.lab.peer([programs.PYTHON, PING, STACK4, 5, 333])
        self.lab.hsctl("capture", "hs0", "--stop")
        with open(path, "rb") as f:
            blocks = list(pcapng_blocks(f.read()))
        self.assertEqual([kind for kind, _ in blocks[:2]], [0x0A0D0D0A, 1])
        packets = [body for kind, body in blocks if kind == 6]
        echoes = [p for p in packets if struct.unpack("<I", p[16:20])[0] == 14 + 20 + 8 + 333]
        self.assertGreaterEqual(len(echoes), 10)  # requests and answers


def pcapng_blocks(data):
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        assert size % 4 == 0 and size >= 12 and struct.unpack_from("<I", data, at + size - 4)[0] == size
        yield kind, data[at + 8:at + size - 4]
        at += size


if __name__ == "__main__":
    netcase.main()

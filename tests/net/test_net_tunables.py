#!/usr/bin/env python3
"""hsctl show tcp config and set tcp: what is changed counts at once, outlives the engine, and is refused if it is wrong."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from stack import STACK4  # noqa: E402
from wait import wait_for  # noqa: E402

ECHO = os.path.join(sys.path[0], "echo.py")
# name, value, and a word of the refusal; the api server's answer, status 1
REFUSED = [("nonsense", "1", "no tunable"), ("rto-min-ms", "0", "5 to 60000"), ("rto-min-ms", "x", "5 to 60000"),
           ("rto-min-ms", "2000", "must not be above rto-initial-ms"), ("sack", "maybe", "true, false"),
           ("congestion-control", "magic", "cubic"), ("fastopen-key", "12", "32 hex digits")]


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
        self.lab.hsctl("set", "tcp", "fastopen-key", "00112233445566778899aabbccddeeff")
        self.assertNotIn("00112233", self.lab.hsctl("--json", "show", "tcp", "config").stdout.decode())
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

    def cc_of_a_new_connection(self):
        before = {s["index"] for s in self.lab.sessions()}
        idle = self.lab.spawn("peer", [programs.PYTHON, ECHO, "idle", STACK4, 7000, 1], stdin=-1)
        wait_for(lambda: "open" in idle.output(), 20, "a connection")
        fresh = [s for s in self.lab.sessions() if s["index"] not in before and s["state"] == "ESTABLISHED"]
        self.assertEqual(len(fresh), 1)
        return fresh[0]["cc"]


if __name__ == "__main__":
    netcase.main()

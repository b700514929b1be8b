#!/usr/bin/env python3
"""`hsctl rule add` and `rule del` while broker or engine die: the broker killed between any two stores of a change, the
engine before it has taken one and while it redirects by one, both at once. A change counts whole or not at all, and whoever comes back goes by it."""
import json
import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from stack import PEER4  # noqa: E402
from test_net_rules import ASK_MEANT, MEANT  # noqa: E402
from wait import wait_for  # noqa: E402

EXTRA = """broker:
  rules:
    - { table: egress, remote: 10.77.0.2, ports: 9, action: deny }
"""
# (fault point, which hit after the start, whether the change is durable there); what is compiled is so at the start, too
ADD = (("rules.high", 1, False), ("rules.id", 1, False), ("rules.fields", 1, False), ("rules.used", 1, True),
       ("rules.bank", 2, True), ("rules.compiled", 2, True), ("rules.gen", 2, True), ("broker.rules.publish", 2, True))
FIRST = 7300
PORTS = list(range(FIRST, FIRST + len(ADD) + 3))
SERVE = """
import select, socket, sys
held = []
for port in sys.argv[2:]:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((sys.argv[1], int(port)))
    s.listen(8)
    held.append(s)
print("up", flush=True)
while True:
    for s in select.select(held, [], [])[0]:
        s.accept()[0].close()
"""
CONNECT = """
import socket, sys
s = socket.socket()
s.settimeout(15)
print(s.connect_ex((sys.argv[1], int(sys.argv[2]))) != 0)
"""


def has_fault_points():
    with open(os.path.join(netcase.BUILD, "CMakeCache.txt"), encoding="utf-8") as cache:
        return re.search(r"^HS_FAULT_POINTS:BOOL=(ON|1|TRUE)$", cache.read(), re.M) is not None


class RuleFaults(netcase.NetCase):
    LAB = {"extra": EXTRA}

    @classmethod
    def prepare(cls):
        cls.lab.start_unsupervised()
        server = cls.lab.spawn("peer", [programs.PYTHON, "-u", "-c", SERVE, PEER4, *PORTS])
        wait_for(lambda: "up" in server.output(), 20, "the peer serves")

    def hsctl(self, *words):
        return subprocess.Popen([self.lab.hsctl_path, "-r", self.lab.run_dir, *map(str, words)],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def add(self, port):
        return self.hsctl("rule", "add", "egress", f"remote={PEER4}", f"ports={port}", "action=deny")

    def rules(self):
        done = self.lab.hsctl("--json", "rule", "show", check=False)
        return json.loads(done.stdout)["rules"] if done.returncode == 0 else {}

    def of_port(self, port):
        shown = wait_for(self.rules, 20, "rules are shown")  # not at once by an api whose broker has just come
        return [r["id"] for r in shown["rule"] if r["ports"] == str(port)]

    def denied(self, port):
        return self.lab.app([programs.PYTHON, "-c", CONNECT, PEER4, port]).stdout.strip() == b"True"

    def begin(self, name, fault=None):
        """A service that is not there; until it serves, and the engine goes by the rules as they are."""
        self.lab.start_service(name, fault)
        self.lab.wait_service(name, 0)
        wait_for(lambda: self.rules().get("in_force"), 20, "rules in force")

    def end(self, *names):
        for name in names:
            self.lab.kill_service(name)
        for name in names:
            self.lab.services[name].wait(60)

    def dies_by_itself(self, name):
        self.assertEqual(self.lab.services[name].wait(60), -signal.SIGKILL)

    @staticmethod
    def over(command):
        """1 = it said that all is well; 0 = not, which is what one may hear of a broker that died."""
        command.communicate(timeout=150)
        return command.returncode == 0

    def test_broker_at_every_point(self):
        if not has_fault_points():
            self.skipTest("a build without fault points")
        for port, (point, nth, durable) in zip(PORTS, ADD):
            with self.subTest(point=point):
                self.end("broker")
                self.begin("broker", f"{point}:{nth}:kill")
                command = self.add(port)
                self.dies_by_itself("broker")
                self.begin("broker")
                heard = self.over(command)
                there = len(self.of_port(port))
                self.assertIn(there, (0, 1))
                if durable or heard:  # a request may be made again by itself
                    self.assertEqual(there, 1)
                self.assertEqual(self.denied(port), there == 1)
        port = PORTS[3]
        rule = self.of_port(port)
        self.assertEqual(len(rule), 1)
        self.end("broker")
        self.begin("broker", "rules.del:1:kill")
        command = self.hsctl("rule", "del", rule[0])
        self.dies_by_itself("broker")
        self.begin("broker")
        self.over(command)
        self.assertEqual(self.of_port(port), [])
        self.assertFalse(self.denied(port))

    def test_engine_before_it_took_them(self):
        """It stands still, so that it has not said that it goes by the first change; the second waits for the bank."""
        ports = PORTS[len(ADD):len(ADD) + 2]
        pid = self.lab.pid_of("engine")
        os.kill(pid, signal.SIGSTOP)
        commands = [self.add(p) for p in ports]
        wait_for(lambda: all(self.of_port(p) for p in ports), 20, "both rules are kept")
        self.assertFalse(self.rules().get("in_force", False))
        self.end("engine")
        self.begin("engine")
        for command in commands:
            self.assertTrue(self.over(command))
        for p in ports:
            self.assertEqual(len(self.of_port(p)), 1)
            self.assertTrue(self.denied(p))

    def test_engine_at_a_redirect(self):
        """It dies as it tells one end, then the other, where a redirected connect was meant to go."""
        if not has_fault_points():
            self.skipTest("a build without fault points")
        server = self.lab.spawn("app", [programs.PYTHON, "-c", MEANT, "0.0.0.0", 7390], env={"LDP_APP_NAME": "meant"})
        self.lab.wait_listening(7390)
        self.assertTrue(self.over(self.hsctl("rule", "add", "egress", f"remote={PEER4}", "ports=7391", "action=redirect",
                                             "app=meant", "to-port=7390")))
        for nth in (1, 2):
            with self.subTest(nth=nth):
                self.end("engine")
                self.begin("engine", f"session.meant:{nth}:kill")
                client = self.lab.spawn("app", [programs.PYTHON, "-c", ASK_MEANT, PEER4, 7391])
                self.dies_by_itself("engine")
                self.begin("engine")
                self.assertEqual(client.wait(120), 0, client.output())
                self.assertEqual(client.output().split(), [PEER4, "7391"] * 4)
        server.kill()

    def test_both_at_once(self):
        if not has_fault_points():
            self.skipTest("a build without fault points")
        for port, point in zip(PORTS[len(ADD) + 2:], ("rules.gen:2",)):
            with self.subTest(point=point):
                self.end("broker")
                self.begin("broker", f"{point}:hang")
                command = self.add(port)
                wait_for(lambda: not self.rules(), 20, "the broker hangs")
                self.end("broker", "engine")
                self.lab.start_service("engine")
                self.begin("broker")
                self.lab.wait_service("engine", 0)
                self.over(command)
                wait_for(lambda: self.rules().get("in_force"), 20, "rules in force")
                self.assertEqual(len(self.of_port(port)), 1)
                self.assertTrue(self.denied(port))


if __name__ == "__main__":
    netcase.main()

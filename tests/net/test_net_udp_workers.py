#!/usr/bin/env python3
"""UDP with several engine workers: sockets lie on all of them, by port; what comes to another worker first (fragments,
ICMP errors, datagrams from an app of this host, to groups, too) reaches them; and they go on when the engine is killed
and comes back with another number of workers."""
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
from stack import PEER4, PEER6, STACK4, STACK6  # noqa: E402
from udpcase import UdpCase  # noqa: E402
from wait import wait_for  # noqa: E402

COUNT = 8
SIZES = [0, 100, 8000]  # the last one comes in fragments, and those are worker 0's


class UdpWorkers(UdpCase):
    LAB = {"extra": "  workers: 2\n"}
    port = 7300

    def ask_all(self, where, address, port):
        out = self.lab.run(where, ["python3", self.tool, "asks", address, port, COUNT, *SIZES], timeout=150).stdout.decode()
        self.assertEqual([json.loads(line)["good"] for line in out.splitlines()], [True] * COUNT)

    def workers_of(self, port):
        """How many of the sockets from `port` on lie on which worker; all of them are there, or nothing is said."""
        rows = [r for r in self.lab.sessions() if r["proto"] == "udp" and
                port <= int(r["local"].rsplit(":", 1)[1]) < port + COUNT]
        return {w: sum(r["engine_worker"] == w for r in rows) for w in {r["engine_worker"] for r in rows}
                if len(rows) == COUNT}

    def handed_over(self):
        return {c["name"]: c["value"] for c in self.lab.show("stats")["stats"]["counter"]}["engine.rx.handed_over"]

    def test_spread(self):
        port = self.next_port(COUNT)
        self.start("app", "echoes", "::", port, COUNT)
        spread = self.workers_of(port)
        self.assertEqual(sorted(spread), [0, 1])
        before = self.handed_over()
        self.ask_all("peer", STACK4, port)
        came = self.handed_over() - before
        print(f"sockets by worker: {spread}, datagrams that came elsewhere: {came}")
        self.assertGreaterEqual(came, 2 * spread[1])  # the long ones, connected and not
        self.assertTrue(self.tell("peer", "ask", STACK6, port, *SIZES)["good"])
        self.ask_all("app", STACK4, port)  # both ends here, often on two workers

    def test_client(self):
        port = self.next_port(COUNT)
        self.start("peer", "echo", "0.0.0.0", port)
        self.assertTrue(self.tell("app", "ask", PEER4, port, *SIZES * 2)["good"])

    def test_refused(self):
        """ICMP comes to worker 0, or is made by the worker that was asked."""
        for address in (PEER4, PEER6, STACK4):
            with self.subTest(address):
                heard = self.tell("app", "refusals", address, self.next_port(COUNT), 4)["heard"]  # Linux sends 6 in one go
                self.assertEqual(heard, ["ConnectionRefusedError"] * 4)

    def test_groups(self):
        """Heard from the link and from a program of this host, whichever worker the port is on."""
        port = self.next_port(COUNT)
        for number, (speaker, told_at) in enumerate((("peer", PEER4), ("app", STACK4)) * 2):
            with self.subTest(speaker=speaker, number=number):
                name = f"239.1.3.{number}"
                ear = self.start("app", "group", name, port + number, STACK4, says="joined")
                mouth = self.lab.spawn(speaker, ["python3", self.tool, "tell", name, port + number, told_at])
                ear.wait(25)
                mouth.stop()
                self.assertIn("to all", ear.output())

    def test_other_numbers(self):
        port = self.next_port(COUNT)
        self.start("app", "echoes", "0.0.0.0", port, COUNT)
        for count in (4, 1, 2):
            with open(self.lab.config, encoding="utf-8") as f:
                text = re.sub(r"workers: \d+", f"workers: {count}", f.read())
            self.lab.write_config(os.path.basename(self.lab.config), text)
            self.lab.wait_service("engine", self.lab.kill_service("engine"))
            wait_for(lambda n=count: len(self.workers_of(port)) in ((1,) if n == 1 else range(2, n + 1)), 30, "the sockets")
            self.ask_all("peer", STACK4, port)


if __name__ == "__main__":
    netcase.main()

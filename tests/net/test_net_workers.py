#!/usr/bin/env python3
"""Several engine workers: connections both ways land on every worker, one program's listener accepts from all of them,
and an engine that is killed in the middle comes back with more or fewer workers, to the same connections."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from held import Held  # noqa: E402
from stack import PEER4, PEER6, STACK4, STACK6  # noqa: E402
from transfercase import BOTH, ECHO, TransferCase  # noqa: E402
from wait import wait_for  # noqa: E402

PING = os.path.join(sys.path[0], "ping.py")


class Workers(TransferCase):
    LAB = {"extra": "  workers: 2\n"}
    port = 9700

    def set_workers(self, count):
        """In the configuration, for the next engine."""
        with open(self.lab.config, encoding="utf-8") as f:
            text = f.read()
        self.lab.write_config(os.path.basename(self.lab.config), re.sub(r"workers: \d+", f"workers: {count}", text))

    def restart_engine(self, count):
        self.set_workers(count)
        self.lab.wait_service("engine", self.lab.kill_service("engine"))

    def threads(self):
        task = f"/proc/{self.lab.pid_of('engine')}/task"
        names = []
        for tid in os.listdir(task):
            with open(os.path.join(task, tid, "comm"), encoding="ascii") as f:
                names.append(f.read().strip())
        return sorted(n for n in names if n.startswith("engine-"))

    def held(self, server, client, count):
        """`count` open connections of one program with another."""
        address = programs.address_of(server, client)
        self.lab.spawn(server, [programs.PYTHON, "-u", ECHO, "serve", address, self.port])
        programs.wait_listening(self.lab, server, self.port)
        return Held(self.lab, client, address, self.port, count)

    def test_ping(self):
        """Worker 0 answers, once."""
        for address in (STACK4, STACK6):
            self.lab.peer([programs.PYTHON, PING, address, 20, 56])

    def test_both_ways(self):
        for server, client, addresses in (("app", "peer", (STACK4, STACK6)), ("peer", "app", (PEER4, PEER6))):
            for address in addresses:
                with self.subTest(server=server, address=address):
                    type(self).port += 1
                    self.lab.spawn(server, [programs.PYTHON, "-u", ECHO, "serve", address, self.port])
                    programs.wait_listening(self.lab, server, self.port)
                    done = self.lab.run(client, [programs.PYTHON, ECHO, "talk", address, self.port, 200_000, 20], 150)
                    self.assertIn(b"equal", done.stdout)

    def test_spread(self):
        """64 connections each way: both workers have some."""
        self.restart_engine(2)
        wait_for(lambda: self.threads() == ["engine-0", "engine-1"], 30, "two workers")
        for server, client in BOTH:
            with self.subTest(server=server):
                type(self).port += 1
                held = self.held(server, client, 64)
                held.ask()
                counts = [sum(s["engine_worker"] == k for s in self.lab.sessions() if s["state"] == "ESTABLISHED")
                          for k in range(2)]
                self.assertGreaterEqual(sum(counts), 64)
                self.assertTrue(all(n > 8 for n in counts), counts)
                held.end()

    def test_other_numbers(self):
        """The engine is killed and comes back with other numbers of workers; idle connections and transfers go on."""
        for server, client in BOTH:
            with self.subTest(server=server):
                type(self).port += 1
                self.restart_engine(2)
                held = self.held(server, client, 40)
                for number, count in enumerate((2, 4, 1, 3, 2), 1):
                    transfer = self.transfer(server, client, 0.2)
                    self.restart_engine(count)
                    wait_for(lambda: len(self.threads()) == count, 30, f"{count} workers")
                    held.ask()
                    transfer.finish(self.sha)
                held.end()

    def test_come_and_go(self):
        """Connect, talk, close, over and over, both ways, while services die, rings are lost and workers change."""
        whats = (3, "nicio", "reset-rings", 1, "broker", 2, "nicio", "reset-rings")
        self.come_and_go([lambda w=what: self.restart_engine(w) if isinstance(w, int) else self.disturb(w) for what in whats])

    def test_death_of_an_app(self):
        """Its connections on all workers end, and the app worker is gone from the broker's list."""
        server = self.lab.spawn("app", [programs.PYTHON, "-u", ECHO, "serve", STACK4, self.port])
        programs.wait_listening(self.lab, "app", self.port)
        held = Held(self.lab, "peer", STACK4, self.port, 30)
        server.kill()
        held.program.kill()
        port = f":{self.port}"

        def gone():
            return all(s["state"] == "TIME_WAIT" for s in self.lab.sessions() if s["local"].endswith(port)) and \
                not any(l.endswith(port) for l, _ in self.lab.listeners())
        wait_for(gone, 20, "sessions and listener of the killed program are gone")


if __name__ == "__main__":
    netcase.main()

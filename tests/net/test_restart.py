#!/usr/bin/env python3
"""Nothing dies with a process: every service killed with -9 in the middle of transfers both ways, two at once, again and
again, for a while, among idle connections and among connections that come and go; the rings thrown away; a program
killed whose last bytes are still to be sent. The same connections go on, every byte arrives once and in order."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from held import Held  # noqa: E402
from stack import PEER4, SERVICES, STACK4  # noqa: E402
from transfercase import BOTH, ECHO, TransferCase  # noqa: E402
from wait import hold  # noqa: E402

SIZE = 200_000_000
LAST_WORDS = """
import os, signal, socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(bytes(range(256)) * 1000)
os.kill(os.getpid(), signal.SIGKILL)
"""
READ_ALL = """
import hashlib, socket, sys
s = socket.socket()
s.bind((sys.argv[1], int(sys.argv[2])))
s.listen()
c, _ = s.accept()
n, digest = 0, hashlib.sha256()
while data := c.recv(65536):
    n += len(data)
    digest.update(data)
print(n, digest.hexdigest() == hashlib.sha256(bytes(range(256)) * 1000).hexdigest())
"""


class Restart(TransferCase):
    SIZE = SIZE
    port = 9100

    def test_each_in_the_middle(self):
        for server, client in BOTH:
            for what in (*SERVICES, "reset-rings"):
                with self.subTest(what, server=server):
                    transfer = self.transfer(server, client, 0.2)
                    self.disturb(what)
                    transfer.finish(self.sha)

    def test_two_at_once(self):
        """Descriptors lie with broker, engine and nicio: any two of them may go together."""
        for server, client in BOTH:
            for pair in (("broker", "engine"), ("engine", "nicio"), ("broker", "nicio")):
                with self.subTest(pair, server=server):
                    transfer = self.transfer(server, client, 0.2)
                    pids = {name: self.lab.kill_service(name) for name in pair}
                    for name, pid in pids.items():
                        self.lab.wait_service(name, pid)
                    transfer.finish(self.sha)

    def test_idle_connections(self):
        """Connections on which nothing happens notice nothing; they are tried after each death."""
        count = 40
        for server, client in BOTH:
            address = programs.address_of(server, client)
            self.lab.spawn(server, [programs.PYTHON, "-u", ECHO, "serve", address, self.port])
            programs.wait_listening(self.lab, server, self.port)
            held = Held(self.lab, client, address, self.port, count)
            for what in (*SERVICES, "reset-rings"):
                with self.subTest(what, server=server):
                    self.disturb(what)
                    held.ask()
            held.end()

    def test_connections_that_come_and_go(self):
        """Connect, talk, close, over and over, both ways at once, while each service dies: none of them fails."""
        whats = (*SERVICES, "reset-rings", "engine", "nicio")
        self.come_and_go([lambda w=what: self.disturb(w) for what in whats])

    def test_listen_after_death(self):
        """New listeners and connects work after each death, listeners from before still serve."""
        self.lab.spawn("app", [programs.PYTHON, "-u", ECHO, "serve", STACK4, self.port])
        self.lab.wait_listening(self.port)
        for number, what in enumerate(SERVICES):
            with self.subTest(what):
                self.disturb(what)
                self.lab.peer([programs.PYTHON, ECHO, "talk", STACK4, self.port, 10000, 2])
                fresh = 9500 + number
                self.lab.spawn("app", [programs.PYTHON, "-u", ECHO, "serve", STACK4, fresh])
                self.lab.wait_listening(fresh)
                self.lab.peer([programs.PYTHON, ECHO, "talk", STACK4, fresh, 10000, 2])

    def test_last_words(self):
        """A program that is killed right after its write: what it wrote arrives, then an orderly end."""
        reader = self.lab.spawn("peer", [programs.PYTHON, "-c", READ_ALL, PEER4, self.port])
        programs.wait_listening(self.lab, "peer", self.port)
        self.assertEqual(self.lab.app([programs.PYTHON, "-c", LAST_WORDS, PEER4, self.port], check=False).returncode, -9)
        reader.wait(60)
        self.assertEqual(reader.output().split(), ["256000", "True"])


class Again(TransferCase):
    """Many deaths in one transfer: the line is slow, by configuration so that a new nicio is slow again."""

    LAB = {"interfaces": ["name: hs0, kind: kernel, device: hs0, impairment: {rx: {rate-bps: 400M}, tx: {rate-bps: 400M}}"]}
    KILLS = 8

    def test_again_and_again(self):
        for server, client in BOTH:
            with self.subTest(server=server):
                transfer = self.transfer(server, client, 0.05)
                for number in range(self.KILLS):
                    if not transfer.reaches(0.05 + 0.9 * number / self.KILLS):
                        break  # what is left of it came while a service was coming back
                    name = ("engine", "nicio")[number % 2]
                    self.lab.wait_service(name, self.lab.kill_service(name))
                transfer.finish(self.sha)
                self.assertGreater(number, 0)


class Away(TransferCase):
    """Services without a supervisor, so that one can stay away for a while."""

    START = False
    SIZE = SIZE
    port = 9300

    def away(self, name):
        pid = self.lab.kill_service(name)
        self.lab.services[name].wait(60)
        return pid

    def back(self, name, pid):
        self.lab.start_service(name)
        self.lab.wait_service(name, pid)

    def test_data_path_needs_neither_broker_nor_api(self):
        """With both away transfers and new connections to old listeners go on."""
        pids = {name: self.away(name) for name in ("api", "broker")}
        for server, client in BOTH:
            if client == "peer":  # a new program on the stack would have to attach
                programs.fetch(self.lab, server, client, "file", SIZE, self.sha)
        for name, pid in pids.items():
            self.lab.start_service(name)
        for name, pid in pids.items():
            self.lab.wait_service(name, pid)
        programs.fetch(self.lab, "peer", "app", "file", SIZE, self.sha)

    def test_away_for_a_while(self):
        """Engine or nicio stay away for a second: the transfer stands still and then goes on."""
        for name in ("engine", "nicio"):
            for server, client in BOTH:
                with self.subTest(name, server=server):
                    for _ in range(10):
                        transfer = self.transfer(server, client, 0.2)
                        pid = self.away(name)
                        if transfer.got() < SIZE:
                            break
                        self.back(name, pid)  # it was over before the service was
                    self.assertTrue(hold(1, transfer.curl.alive))
                    self.assertLess(transfer.got(), SIZE)
                    self.back(name, pid)
                    transfer.finish(self.sha)


if __name__ == "__main__":
    netcase.main()

#!/usr/bin/env python3
"""Memory of received bytes: it comes as bytes wait to be read, goes back to the system when they are (all but
segment-size), also by an engine that did not fill it, and stays within a limit while sessions run; no byte is lost by
any of it."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
from memfds import memfd_bytes  # noqa: E402
from memorycase import LIMIT, LIMITED, MEGABYTES, MI, N, SIZE, MemoryCase  # noqa: E402
from stack import STACK4  # noqa: E402
from wait import wait_for  # noqa: E402

PORT = 7400


class Case(MemoryCase):
    def pss_of(self, name, pids):
        """Proportional share of those processes in the segments of that name."""
        total = 0
        for pid in pids:
            inside = False
            with open(f"/proc/{pid}/smaps", encoding="ascii") as f:
                for line in f:
                    if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                        inside = "/memfd:" + name + " " in line
                    elif inside and line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
        return total

    def fill(self, conf=None):
        """N connections that bring SIZE bytes each, unread so far: (server, client)."""
        server, client = self.listener("app", PORT, 4 << 20, conf), self.puppet("peer")
        self.base = self.received()
        client(f"c = [socket.create_connection(('{STACK4}', {PORT})) for k in range({N})]")
        server(f"c = [s.accept()[0] for k in range({N})]")
        client(f"t = [threading.Thread(target=x.sendall, args=(bytes([k, 1, 2, 3]) * {SIZE // 4},)) for k, x in enumerate(c)]")
        client("[x.start() for x in t]")
        return server, client

    def drain(self, server, client):
        self.assertEqual(server(f"read(c, {SIZE})", 60), [True] * N)
        client("[x.join() for x in t]")


class Returned(Case):
    def test_returned(self):
        server, client = self.fill(MEGABYTES)
        wait_for(lambda: self.received() >= N * SIZE, 30, "all bytes wait", step=0.05)
        pids = [server.pid(), self.lab.pid_of("engine")]
        self.assertGreaterEqual(self.pss_of("hs-e", pids), N * SIZE // 2)
        self.drain(server, client)
        wait_for(lambda: self.received() < self.base + MI + 256 * 1024, 30, "memory is given back", step=0.1)
        self.assertLess(self.pss_of("hs-e", pids), self.base + 2 * MI)

        # the engine that gives it back need not be the one that filled it; what waits is let alone
        client("c = [socket.create_connection(c[0].getpeername()) for k in c]")
        server("c = [s.accept()[0] for k in c]")
        client("t = [threading.Thread(target=x.sendall, args=(bytes([k, 1, 2, 3]) * %d,)) for k, x in enumerate(c)]" % (SIZE // 4))
        client("[x.start() for x in t]")
        wait_for(lambda: self.received() >= N * SIZE, 30, "all bytes wait", step=0.05)
        half = N // 2
        self.assertEqual(server(f"read(c[:{half}], {SIZE})", 60), [True] * half)
        self.lab.wait_service("engine", self.lab.kill_service("engine"))
        wait_for(lambda: self.received() < (N - half) * SIZE + self.base + 2 * MI, 30, "memory is given back", step=0.1)
        self.assertGreaterEqual(self.received(), (N - half) * SIZE)
        self.assertEqual(server(f"read(c[{half}:], {SIZE})", 60), [True] * (N - half))
        wait_for(lambda: self.received() < self.base + MI + 256 * 1024, 30, "memory is given back", step=0.1)

    def test_no_more(self):
        """add-segment-size 0: the first segment is all there is."""
        server, client = self.fill("vcl {\n segment-size 0x200000\n add-segment-size 0\n}\n")
        wait_for(lambda: self.received() >= self.base + 2 * MI, 30, "the segment is full", step=0.05)
        self.drain(server, client)
        # with each session's first 2 KB and its record
        wait_for(lambda: self.received() < self.base + 2 * MI + 128 * 1024, 30, "no more than the segment", step=0.1)


class Limited(Case):
    LAB = LIMITED

    def test_limit(self):
        server, client = self.fill()
        pid = self.lab.pid_of("engine")
        most = 0

        def near():
            nonlocal most
            most = max(most, memfd_bytes("hs-e", pid) + memfd_bytes("hs-a", pid))
            return most > LIMIT * 3 // 4
        wait_for(near, 30, "most of the limit is used", step=0.02)
        print(f"{most} of {LIMIT} bytes", flush=True)
        self.assertLess(most, LIMIT + MI // 2)
        self.drain(server, client)


if __name__ == "__main__":
    netcase.main()

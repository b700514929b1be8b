#!/usr/bin/env python3
"""Memory of written bytes: it comes in parts as a program writes what nobody reads yet, goes back when all was read,
also over the death of any service in the middle; within a limit a program waits, and others go on; a child whose parent
is killed writes with the memory that came at the fork. Every byte arrives."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
from memorycase import LIMIT, LIMITED, MEGABYTES, MI, N, SIZE, MemoryCase  # noqa: E402
from stack import PEER4  # noqa: E402
from wait import wait_for  # noqa: E402

PORT = 7450
WRITE = """def writer(c, k, size):
    def run():
        c.sendall(bytes([k, 1, 2, 3]) * (size // 4))
        done.append(k)
    t = threading.Thread(target=run)
    t.start()
    return t
"""
HEIR = """def heir(size):
    r, w = os.pipe()
    if os.fork() == 0:
        os.close(w)
        os.read(r, 1)
        for t in [writer(x, k, size) for k, x in enumerate(c)]: t.join()
        os._exit(0)
    os.close(r)
"""


class Case(MemoryCase):
    def parts(self, pid):
        apps = self.lab.show("app")["apps"]["app"]
        return sum(w.get("tx_parts", 0) for a in apps for w in a["worker"] if w["pid"] == pid)

    def writer(self):
        app = self.puppet(conf=MEGABYTES)
        app(f"exec({WRITE!r}, globals())")
        app("done = []")
        return app

    def reader(self, port=PORT):
        return self.listener("peer", port, 32768)

    def connect(self, app, peer, n, port=PORT):
        """n connections from the one to the other, c in both."""
        app(f"c = [socket.create_connection(('{PEER4}', {port})) for k in range({n})]")
        peer(f"c = [s.accept()[0] for k in range({n})]")
        app("[x.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20) for x in c]")

    def write(self, app, size, n):
        app("done.clear()")
        app(f"t = [writer(x, k, {size}) for k, x in enumerate(c)]")

    def read(self, app, peer, n):
        self.assertEqual(peer(f"read(c, {SIZE})", 60), [True] * n)
        app("[x.join() for x in t]", 60)


class Comes(Case):
    def test_comes_and_goes(self):
        app, peer = self.writer(), self.reader()
        pid = app.pid()
        self.connect(app, peer, N)
        base = self.written()
        for kills in ((), ("engine", "nicio", "broker")):
            self.write(app, SIZE, N)
            for kill in kills:
                wait_for(lambda: self.parts(pid) >= 1, 30, "a part has come", step=0.02)
                self.lab.wait_service(kill, self.lab.kill_service(kill))
            wait_for(lambda: self.written() >= base + N * SIZE * 3 // 4, 30, "bytes wait to be sent", step=0.05)
            self.assertGreaterEqual(self.parts(pid), N * SIZE * 3 // 4 // (2 * MI))
            self.read(app, peer, N)
            # a program that sleeps outside the library gives nothing back: this one looks at its sockets now and then
            wait_for(lambda: app("select.select(c, [], [], 0.02)[0]") == [] and self.parts(pid) == 0, 30, f"parts are given back, after {kills}", step=0.1)
            self.assertLess(self.written(), base + MI + 512 * 1024)


class Family(Case):
    def test_heir(self):
        app, peer = self.writer(), self.reader()
        pid = app.pid()
        before = self.written()
        self.connect(app, peer, N)
        app(f"exec({HEIR!r}, globals())")
        app(f"heir({SIZE})")
        self.assertEqual(self.parts(pid), 1)  # all of it at once
        os.kill(pid, signal.SIGKILL)  # which the child waits for
        for kill in ("engine", "nicio", "broker"):
            self.lab.wait_service(kill, self.lab.kill_service(kill))
        wait_for(lambda: self.written() >= before + N * SIZE * 3 // 4, 30, "bytes wait to be sent", step=0.05)
        self.assertEqual(self.parts(pid), 1)
        self.assertEqual(peer(f"read(c, {SIZE})", 60), [True] * N)
        peer("[x.close() for x in c]")
        wait_for(lambda: self.parts(pid) == 0 and self.written() <= before, 30, "all goes with the child")


class Limited(Case):
    LAB = LIMITED

    def test_limit(self):
        app, peer = self.writer(), self.reader()
        self.connect(app, peer, N)
        self.write(app, SIZE, N)
        wait_for(lambda: "add part: the app has broker.app-limit.memory" in self.lab.log_text(), 30, "the limit is reached", step=0.05)
        self.assertLess(self.written(), LIMIT)
        # a connection of the same program has its say still, and so has another program
        app(f"x = socket.create_connection(('{PEER4}', {PORT}))")
        peer("y = s.accept()[0]")
        for _ in range(5):
            self.assertEqual(app("x.send(b'hello')"), 5)
            self.assertEqual(peer("y.recv(5)"), b"hello")
        other, its = self.writer(), self.reader(PORT + 1)
        self.connect(other, its, 1, PORT + 1)
        self.write(other, SIZE, 1)
        self.read(other, its, 1)
        self.read(app, peer, N)
        self.assertEqual(sorted(app("done")), list(range(N)))


if __name__ == "__main__":
    netcase.main()

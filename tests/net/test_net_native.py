#!/usr/bin/env python3
"""A program that is written against libvppcom, on the real stack: an event loop on vppcom_mq_epoll_fd, edge-triggered
session epoll, blocking calls; the kernel's TCP as the other host."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from stack import PEER4, PEER6, STACK4  # noqa: E402
from wait import wait_for  # noqa: E402

ECHO = os.path.join(sys.path[0], "echo.py")


class Native(netcase.NativeCase):
    PROGRAM = "native"
    port = 7400

    def test_server(self):
        port = self.next_port()
        server = self.lab.spawn("app", self.native("serve", port))
        programs.wait_listening(self.lab, "app", port)
        for size, count in ((1, 20), (1000, 50), (5_000_000, 3)):
            done = self.lab.run("peer", [programs.PYTHON, ECHO, "talk", STACK4, port, size, count], 150)
            self.assertIn(b"equal", done.stdout)
        self.assertTrue(server.alive())
        server.stop()

    def test_client(self):
        for address in (PEER4, PEER6):
            port = self.next_port()
            self.lab.spawn("peer", [programs.PYTHON, "-u", ECHO, "serve", address, port])
            programs.wait_listening(self.lab, "peer", port)
            for size, count in ((1, 20), (1000, 50), (5_000_000, 3)):
                done = self.lab.run("app", self.native("talk", address, port, size, count), 60)
                self.assertIn(b"equal", done.stdout)

    def test_datagrams(self):
        tool = os.path.join(self.lab.world.app_dir, "udp_tool.py")
        shutil.copy(os.path.join(sys.path[0], "udp_tool.py"), tool)
        for address in (PEER4, PEER6):
            port = self.next_port()
            echo = self.lab.spawn("peer", [programs.PYTHON, "-u", tool, "echo", address, port])
            wait_for(lambda e=echo: "up" in e.output(), 20, "the echo")
            done = self.lab.run("app", self.native("udp", address, port), 60)
            self.assertIn(b"equal", done.stdout)

    def test_refused(self):
        done = self.lab.run("app", self.native("talk", PEER4, 9, 1, 1), 20, check=False)
        self.assertIn(b"VPPCOM_ECONNREFUSED", done.stderr + done.stdout)


if __name__ == "__main__":
    netcase.main()

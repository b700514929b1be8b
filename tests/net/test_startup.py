#!/usr/bin/env python3
"""From `hsctl up` to the first byte served; the time is printed, that it works is asserted. Also: a second supervisor is
refused, services that run already are adopted, and services without a supervisor find each other in any order."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from stack import SERVICES, STACK4  # noqa: E402
from wait import wait_for  # noqa: E402

ECHO = os.path.join(sys.path[0], "echo.py")


class Startup(netcase.NetCase):
    START = False

    def setUp(self):
        super().setUp()
        self.addCleanup(self.lab.stop)

    def served(self):
        done = self.lab.peer([programs.PYTHON, ECHO, "talk", STACK4, 7000, 5, 1], check=False)
        return done.returncode == 0

    def test_first_byte(self):
        start = time.monotonic()
        self.lab.start()
        up = time.monotonic()
        server = self.lab.spawn("app", [programs.PYTHON, "-u", ECHO, "serve", STACK4, 7000])
        self.addCleanup(server.stop)
        wait_for(self.served, 30, "an echo server on the stack that answers")
        end = time.monotonic()
        print(f"\nall four serve after {(up - start) * 1e3:.0f} ms, first byte after {(end - start) * 1e3:.0f} ms "
              "(two starts of python3 included)")

    def test_any_order(self):
        for order in (SERVICES, tuple(reversed(SERVICES))):
            with self.subTest(order):
                for name in order:
                    self.lab.start_service(name)
                    wait_for(lambda n=name: self.lab.pid_of(n), 20, f"{name} runs")
                wait_for(self.lab._serving, 30, "four services that serve")
                self.assertTrue(self.ping())
                self.lab.stop()

    def ping(self):
        return self.lab.peer([programs.PYTHON, os.path.join(sys.path[0], "ping.py"), STACK4, 3, 56])

    def test_second_is_refused(self):
        self.lab.start()
        pids = {name: self.lab.pid_of(name) for name in SERVICES}
        for how in (("up", "--foreground"), ("up",)):
            done = self.lab.hsctl(*how, check=False)
            self.assertEqual((done.returncode, done.stderr.count(b"\n")), (1, 1), done.stderr)
            self.assertIn(b"runs there already", done.stderr)
        self.assertEqual({name: self.lab.pid_of(name) for name in SERVICES}, pids)

    def test_supervisor_dies_and_is_replaced(self):
        """kill -9 of hsctl up harms nobody; a new one adopts the four and starts again what dies then."""
        self.lab.start()
        pids = {name: self.lab.pid_of(name) for name in SERVICES}
        self.lab.supervisor.kill()
        self.lab.supervisor.wait(60)
        self.assertTrue(self.ping())
        self.lab.start()
        self.assertEqual({name: self.lab.pid_of(name) for name in SERVICES}, pids)
        old = self.lab.kill_service("engine")
        self.lab.wait_service("engine", old)
        self.assertTrue(self.ping())


if __name__ == "__main__":
    netcase.main()

#!/usr/bin/env python3
"""Socket semantics under the shim are the kernel's, line by line; each group of checks is one test."""
import difflib
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
from netns import run  # noqa: E402
from stack import KERNEL4, KERNEL_PEER4, PEER4, PEER6, STACK4, STACK6  # noqa: E402
from wait import wait_for  # noqa: E402

KERNEL6, KERNEL_PEER6 = "fd00:78::1", "fd00:78::2"


class Conformance(netcase.NetCase):
    compared = 0

    @classmethod
    def tearDownClass(cls):
        print(f"{cls.compared} lines compared")
        super().tearDownClass()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.program = os.path.join(cls.lab.world.app_dir, "conform")
        shutil.copy(os.path.join(netcase.BUILD, "tests/conformance/conform"), cls.program)
        os.chmod(cls.program, 0o755)

    def lines(self, group, where, addresses, armed=False):
        path = os.path.join(self.lab.world.app_dir, f"{group}.{where}")
        peer = self.lab.spawn("peer", [self.program, "peer", path, *addresses])
        wait_for(lambda: "ready" in peer.output(), 20, "the peer")  # its socket is there before it listens
        os.chmod(path, 0o777)
        env = ["env", "CONFORM_ARMED=1"] if armed else []
        done = self.lab.run(where, [*env, self.program, "subject", path, *addresses, group], timeout=100, check=False)
        peer.stop()
        text = done.stdout.decode(errors="replace")
        self.assertEqual(done.returncode, 0, f"{where}: {text[-400:]}{done.stderr.decode(errors='replace')[-400:]}")
        return text.splitlines()

    def group(self, name):
        kernel = self.lines(name, "kernel", [KERNEL_PEER4, KERNEL4, KERNEL_PEER6, KERNEL6])
        stack = self.lines(name, "app", [PEER4, STACK4, PEER6, STACK6])
        self.assertGreater(len(kernel), 12)
        type(self).compared += len(kernel)
        differ = [d for d in difflib.unified_diff(kernel, stack, "kernel", "stack", n=1, lineterm="")]
        self.assertFalse(differ, "\n" + "\n".join(differ))
        return kernel

    def left_to_children(self, name):
        """The same if whoever makes a listener polls it once, before it forks: what comes is for those who accept."""
        kernel = self.group(name)
        stack = self.lines(name, "app", [PEER4, STACK4, PEER6, STACK6], armed=True)
        differ = [d for d in difflib.unified_diff(kernel, stack, "kernel", "polled", n=1, lineterm="")]
        self.assertFalse(differ, "\n" + "\n".join(differ))

    def test_options(self):
        self.group("options")

    def test_life(self):
        self.group("life")

    def test_connect(self):
        self.group("connect")

    def test_data(self):
        self.group("data")

    def test_calls(self):
        self.group("calls")

    def test_dgram(self):
        self.group("dgram")

    def test_poll(self):
        self.group("poll")

    def test_epoll(self):
        self.group("epoll")

    def test_process(self):
        self.left_to_children("process")

    def test_urgent(self):
        self.group("urgent")

    def test_six(self):
        self.group("six")

    def test_waits(self):
        self.group("waits")

    def test_spawns(self):
        self.group("spawns")

    def test_corks(self):
        self.group("corks")

    def test_kin(self):
        self.group("kin")

    def test_heirs(self):
        self.left_to_children("heirs")

    def test_passed(self):
        self.group("passed")

    def test_mixes(self):
        self.left_to_children("mixes")

    def test_beside(self):
        self.group("beside")
        alone = self.lines("arrived", "app", [PEER4, STACK4, PEER6, STACK6])
        self.assertIn("the time of its arrival, not of the reading: 1", alone)
        self.assertIn("a train that is joined: 1", alone)

    def test_no_group_is_left_out(self):
        """Each has its test above; check_arrived says why it is of the stack alone."""
        groups = set(run([self.program, "groups"]).stdout.decode().split())
        self.assertEqual(groups, {name.removeprefix("test_") for name in dir(self) if name.startswith("test_")}
                         - {"no_group_is_left_out"} | {"arrived"})

    def test_unanswered(self):
        """Whatever is sent to 192.0.2.1 the peer's host drops without a word."""
        on = ["ip", "-n"]
        run([*on, self.lab.P, "route", "add", "blackhole", "192.0.2.0/24"])
        self.lab.world.sysctl(self.lab.P, "net.ipv4.ip_forward=1")
        run([*on, self.lab.K, "route", "add", "192.0.2.0/24", "via", KERNEL_PEER4])
        self.lab.hsctl("route", "add", "192.0.2.0/24", "via", PEER4)
        self.group("unanswered")


if __name__ == "__main__":
    netcase.main()

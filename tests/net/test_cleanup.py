#!/usr/bin/env python3
"""Nothing is left behind: not when a test ends, not when it is killed, and services leave none of their memory."""
import glob
import os
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import netns  # noqa: E402
from stack import Lab  # noqa: E402
from wait import wait_for  # noqa: E402

CHILD = """
import sys
sys.path.insert(0, {support!r})
from stack import Lab
lab = Lab({build!r})
lab.start()
print(lab.world.tag, lab.dir, lab.world.data_dir, *[lab.pid_of(n) for n in ("broker", "nicio", "engine", "api")], flush=True)
sys.stdin.read()
"""


class Cleanup(unittest.TestCase):
    def left(self, tag, *folders):
        return [p for p in (*glob.glob(f"/run/netns/{tag}*"), *folders) if os.path.exists(p)]

    def running(self, pids):
        return [p for p in pids if os.path.exists(f"/proc/{p}/exe") and "/hs-" in os.readlink(f"/proc/{p}/exe")]

    def test_end(self):
        with Lab(netcase.BUILD) as lab:
            lab.start()
            tag, folders = lab.world.tag, (lab.dir, lab.world.data_dir)
            pids = [lab.pid_of(name) for name in ("broker", "nicio", "engine", "api")]
            self.assertTrue(all(pids))
            self.assertEqual(len(self.left(tag, *folders)), 3 + len(folders))
        self.assertEqual(self.left(tag, *folders), [])
        self.assertEqual(self.running(pids), [])
        self.assertEqual([n for n in os.listdir("/dev/shm") if n.startswith(tag)], [])  # others' tests may run beside

    def test_down_leaves_no_process(self):
        with Lab(netcase.BUILD) as lab:
            lab.hsctl("up", timeout=150)
            pids = [lab.pid_of(name) for name in ("broker", "nicio", "engine", "api")]
            self.assertTrue(all(pids))
            self.assertIn(b"stopped", lab.hsctl("down", timeout=150).stdout)
            self.assertEqual(self.running(pids), [])
            self.assertIn(b"nothing ran", lab.hsctl("down").stdout)
            self.assertFalse(os.path.exists(lab.attach))  # a program that starts now does not wait for a broker

    def check_killed(self, number):
        code = CHILD.format(support=sys.path[0], build=os.path.abspath(netcase.BUILD))
        child = subprocess.Popen([sys.executable, "-B", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL)
        tag, folder, data, *pids = child.stdout.readline().decode().split()
        self.assertEqual(len(self.running(pids)), 4)
        child.send_signal(number)
        child.wait(120)
        child.stdout.close()
        child.stdin.close()
        wait_for(lambda: not self.left(tag, folder, data), 30, "namespaces and folders are gone")
        self.assertEqual(self.running(pids), [])

    def test_killed(self):
        self.check_killed(signal.SIGKILL)

    def test_interrupted(self):
        self.check_killed(signal.SIGINT)

    def test_failing_start_leaves_nothing(self):
        lab = Lab(netcase.BUILD, extra="no-such-key: 1\n")
        tag, folders = lab.world.tag, (lab.dir, lab.world.data_dir)
        with self.assertRaises(netns.ProgramFailed):
            lab.start()
        lab.stop(check=False)
        lab.world.close()
        self.assertEqual(self.left(tag, *folders), [])


if __name__ == "__main__":
    netcase.main()

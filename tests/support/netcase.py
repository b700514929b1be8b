"""Frame of the tests in tests/net: unittest, one Lab per class, an inner deadline, cleaning up on every way out.

A test program is called by ctest as `NAME.py --build DIR [--deadline S] [unittest arguments]`. Exit 77 (skipped) when it
cannot have namespaces: not root.
"""
import os
import shutil
import signal
import sys
import unittest

import netns
from stack import Lab

BUILD = None


class OutOfTime(KeyboardInterrupt):
    """The deadline or a signal; no `except Exception` swallows it."""


class NetCase(unittest.TestCase):
    """self.lab: services up, fresh for the class. Subclasses set LAB = dict(...) for Lab's arguments, and say in prepare()
    what else their tests find."""

    LAB = {}
    START = True
    port = 7000

    @classmethod
    def setUpClass(cls):
        cls.lab = Lab(BUILD, **cls.LAB)
        try:
            cls.prepare()
        except BaseException:
            cls.lab.world.close()
            raise

    @classmethod
    def prepare(cls):
        """Before the first test; where it fails nothing is left behind."""
        if cls.START:
            cls.lab.start()

    @classmethod
    def tearDownClass(cls):
        try:
            cls.lab.stop()
        finally:
            cls.lab.world.close()

    def tearDown(self):
        """Programs that the test started end with it; those of setUpClass stay."""
        for program in self.lab.world.programs[self.kept:]:
            program.stop()
            if program.popen.stdin:
                program.popen.stdin.close()

    def setUp(self):
        self.kept = len(self.lab.world.programs)

    def next_port(self, count=1):
        """The first of `count` ports above the class's `port` that no other test of it has."""
        first = self.port + 1
        type(self).port += count
        return first

    def run(self, result=None):
        """Shows what programs and services said when a test fails."""
        bad = len(result.errors) + len(result.failures) if result else 0
        super().run(result)
        if result and len(result.errors) + len(result.failures) > bad and hasattr(self, "lab"):
            print(f"--- services, at the end of {self.id()}\n{self.lab.log_tail(40)}{self.lab.programs_tail()}",
                  file=sys.stderr, flush=True)


class NativeCase(NetCase):
    """Tests of PROGRAM (of tests/net in the build folder), which is written against libvppcom."""

    PROGRAM = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.program = os.path.join(cls.lab.dir, cls.PROGRAM)  # readable for any user
        shutil.copy(os.path.join(BUILD, "tests/net", cls.PROGRAM), cls.program)
        os.chmod(cls.program, 0o755)

    def native(self, *args):
        """Without the shim: the library alone."""
        return ["env", "-u", "LD_PRELOAD", f"VCL_VPP_SAPI_SOCKET={self.lab.attach}", "VCL_DEBUG=1", self.program,
                *map(str, args)]


def _out_of_time(number, _frame):
    raise OutOfTime(f"signal {signal.Signals(number).name}")


def main():
    global BUILD
    args = sys.argv[1:]
    build, deadline = None, 150
    while args and args[0] in ("--build", "--deadline"):
        if args[0] == "--build":
            build = args[1]
        else:
            deadline = int(args[1])
        args = args[2:]
    if not build:
        sys.exit("usage: NAME.py --build DIR [--deadline S] [unittest arguments]")
    if os.geteuid() != 0:
        print("needs root for network namespaces")
        sys.exit(77)
    sys.modules["netcase"].BUILD = build
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(sig, _out_of_time)
    signal.alarm(deadline)
    try:
        program = unittest.main(module="__main__", argv=[sys.argv[0], "-v", *args], exit=False)
        status = 0 if program.result.wasSuccessful() and program.result.testsRun else 1
    finally:
        signal.alarm(0)
        netns.close_all()
    sys.exit(status)

#!/usr/bin/env python3
"""The shim without a stack: its symbols, what it drags in, and that programs behave as if it were not there."""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import unittest

ARGS = None
TCP = "import socket; socket.socket()"


def shim():
    return os.path.join(ARGS.build, "vcl/ldp/libvcl_ldpreload.so")


def out(*cmd):
    return subprocess.run(cmd, check=True, capture_output=True, text=True, timeout=120).stdout


def preloaded(cmd, timeout=120, **env):
    """Under the shim, with a broker's socket that does not exist."""
    full = {**os.environ, "LD_PRELOAD": shim(), "VCL_VPP_SAPI_SOCKET": "/nonexistent/attach",
            "VCL_CONFIG": "/nonexistent/vcl.conf", **env}
    return subprocess.run(cmd, capture_output=True, text=True, timeout=timeout, env=full)


class Library(unittest.TestCase):
    def test_symbols(self):
        """Exactly the calls of export.h are visible, without a version: the program asks for GLIBC_x."""
        with open(os.path.join(ARGS.source, "vcl/ldp/export.h"), encoding="utf-8") as f:
            want = set(re.findall(r"^LDP_API\([^,]+, (\w+),", f.read(), re.M))
        want |= {"vfork", "__vfork"}  # in assembly (spawn.c), so without a declaration
        got = {line.split()[-1] for line in out("nm", "-D", "--defined-only", shim()).splitlines()}
        self.assertEqual(got, want)

    def test_every_call_exists_in_libc(self):
        """A name that libc lacks would be a spelling mistake: nothing would ever call it."""
        libc = next(l.split()[2] for l in out("ldd", shim()).splitlines() if "libc.so" in l)
        theirs = {line.split()[-1].split("@")[0] for line in out("nm", "-D", "--defined-only", libc).splitlines()}
        ours = {line.split()[-1] for line in out("nm", "-D", "--defined-only", shim()).splitlines()}
        self.assertFalse(ours - theirs)

    def test_needs_only_libc(self):
        needed = re.findall(r"NEEDED.*\[(.*)\]", out("readelf", "-d", shim()))
        self.assertFalse([n for n in needed if not re.match(r"(libc|libpthread|libdl|ld-linux.*)\.so", n)], needed)


class Alone(unittest.TestCase):
    def test_programs_without_sockets_say_nothing(self):
        done = preloaded(["sh", "-c", "echo a | cat; env true; exec echo b"], LDP_DEBUG="2")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "a\nb\n", ""))

    def test_opportunistic(self):
        done = preloaded([sys.executable, "-c", TCP], LDP_DEBUG="1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(re.findall("no stack .* stay with the kernel", done.stderr)), 1, done.stderr)
        self.assertEqual(preloaded([sys.executable, "-c", TCP]).stderr, "")

    def test_required(self):
        done = preloaded([sys.executable, "-c", TCP], LDP_REQUIRE="1")
        self.assertIn("Network is down", done.stderr)
        self.assertIn("LDP_REQUIRE", done.stderr)
        done = preloaded([sys.executable, "-c", "import socket; socket.socket(type=socket.SOCK_DGRAM)"],
                         LDP_REQUIRE="1")
        self.assertIn("Network is down", done.stderr)

    def test_required_words(self):
        """The words of vcl.conf that say no are no here, too; anything else is yes."""
        for word in ("", "0", "off", "no", "False"):
            self.assertEqual(preloaded([sys.executable, "-c", TCP], LDP_REQUIRE=word).returncode, 0, word)
        for word in ("on", "yes", "2"):
            self.assertIn("Network is down", preloaded([sys.executable, "-c", TCP], LDP_REQUIRE=word).stderr, word)

    def test_closes_everything(self):
        code = "import os,socket; s=socket.socket(); os.closerange(3, 20000); s=socket.socket(); print(s.fileno())"
        self.assertEqual(preloaded([sys.executable, "-c", code], LDP_DEBUG="1").stdout, "3\n")

    def conform(self, where, run):
        program = os.path.join(ARGS.build, "tests/conformance/conform")
        with tempfile.TemporaryDirectory(prefix=f"hs-alone-{os.getpid()}-") as tmp:
            args = [os.path.join(tmp, "socket"), *["127.0.0.1"] * 2, *["::1"] * 2]
            with subprocess.Popen([program, "peer", *args], stdout=subprocess.PIPE, text=True) as peer:
                try:
                    self.assertEqual(peer.stdout.readline(), "ready\n")
                    done = run([program, "subject", *args, *where])
                finally:
                    peer.kill()
        self.assertEqual(done.returncode, 0, done.stdout[-500:] + done.stderr[-500:])
        return done.stdout.splitlines()

    def test_kernel_sockets_are_unchanged(self):
        """Every interposed call passes kernel descriptors through: all conformance checks, with and without."""
        for group in ("life", "connect", "calls", "poll", "epoll", "process"):
            plain = self.conform([group], lambda cmd: subprocess.run(cmd, capture_output=True, text=True, timeout=120))
            self.assertEqual(self.conform([group], preloaded), plain)
            self.assertGreater(len(plain), 12)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--source", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], "-v", *rest])

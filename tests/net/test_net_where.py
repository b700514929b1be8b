#!/usr/bin/env python3
"""Which sockets are where: `hsctl show app` counts them, the broker's log tells of them when the program ends, and a
program that found no stack says so to the system's log. Nobody runs on the kernel without a trace."""
import os
import re
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from stack import STACK4  # noqa: E402
from wait import wait_for  # noqa: E402

PORT = 7400
# one listener on the stack, two connections accepted there, two sockets that are moved to the kernel
SERVER = """
import socket, sys, time
stack = socket.create_server((sys.argv[1], int(sys.argv[2])))
kernel = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]
kernel[1].bind(("127.0.0.1", 0))
kept = [stack.accept() for _ in range(2)]
print("kept", flush=True)
sys.stdin.read()
"""
CLIENT = "import socket, sys; c = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(2)]; sys.stdin.read()"
SOCKET = """
import errno, socket
try:
    socket.socket()
    print("a socket")
except OSError as e:
    print(errno.errorcode[e.errno])
socket.socket(socket.AF_UNIX)
print("unix")
"""
ALONE = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1])"


class Where(netcase.NetCase):
    def app_row(self, name):
        return next(a for a in self.lab.show("app")["apps"]["app"] if a["name"] == name)

    def test_counts(self):
        app = self.lab.spawn("app", [programs.PYTHON, "-c", SERVER, STACK4, PORT], stdin=-1, env={"LDP_APP_NAME": "where"})
        self.lab.wait_listening(PORT)
        self.lab.spawn("peer", [programs.PYTHON, "-c", CLIENT, STACK4, PORT], stdin=-1)
        wait_for(lambda: "kept" in app.output(), 20, "two connections")
        rows = self.app_row("where")["worker"]
        self.assertEqual([(w["sockets_stack"], w["sockets_kernel"], w["late_wakeups"]) for w in rows], [(3, 2, 0)])
        text = self.lab.hsctl("show", "app").stdout.decode()
        self.assertRegex(text, r"app \d+ where, .*sockets so far: 3 on the stack, 2 on the kernel")
        app.kill()
        wait_for(lambda: "broker.sockets app where " in self.lab.log_text(), 20, "the broker's line")
        self.assertEqual(re.findall(r"broker\.sockets app where \(.*?\): (.*)", self.lab.log_text()),
                         ["3 sockets on the stack, 2 on the kernel"])

    def test_fork(self):
        """A child counts its own."""
        code = SERVER.replace("print(", "import os\nif os.fork() == 0:\n    more = socket.create_server((sys.argv[1], int(sys.argv[2]) + 9))\nprint(")
        app = self.lab.spawn("app", [programs.PYTHON, "-c", code, STACK4, PORT + 1], stdin=-1, env={"LDP_APP_NAME": "family"})
        self.lab.wait_listening(PORT + 1)
        self.lab.spawn("peer", [programs.PYTHON, "-c", CLIENT, STACK4, PORT + 1], stdin=-1)
        wait_for(lambda: app.output().count("kept") == 2, 20, "parent and child")
        rows = self.app_row("family")["worker"]
        self.assertEqual(sorted((w["sockets_stack"], w["sockets_kernel"]) for w in rows), [(1, 0), (3, 2)])

    def test_no_stack(self):
        path = os.path.join(self.lab.world.app_dir, "log")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.bind(path)
            os.chmod(path, 0o777)
            log.settimeout(20)
            env = {"LDP_REQUIRE": "0", "LDP_SYSLOG": path, "VCL_VPP_SAPI_SOCKET": self.lab.dir + "/nobody"}
            done = self.lab.app([programs.PYTHON, "-c", ALONE], env=env)
            self.assertEqual(done.stderr, b"")
            self.assertRegex(log.recv(1000).decode(),
                             r"^<28>ldp\[\d+\]: python\S*: no stack \(.+\): all sockets of this process stay with the kernel$")
            log.setblocking(False)
            with self.assertRaises(BlockingIOError):
                log.recv(1000)

    def test_required(self):
        """No stack, but LDP_REQUIRE: no socket, and a word on standard error."""
        env = {"LDP_REQUIRE": "1", "VCL_VPP_SAPI_SOCKET": self.lab.dir + "/nobody"}
        done = self.lab.app([programs.PYTHON, "-c", SOCKET], env=env)
        self.assertEqual(done.stdout.decode().split(), ["ENETDOWN", "unix"])
        self.assertRegex(done.stderr.decode(), r"^ldp\[\d+\]: no stack \(.+\) and LDP_REQUIRE is set: socket\(\) fails \(.+\)\n$")

    def test_transparent_tls(self):
        """Who asks for TLS does not get plain text instead."""
        done = self.lab.app([programs.PYTHON, "-c", SOCKET], env={"LDP_TRANSPARENT_TLS": "1"})
        self.assertEqual(done.stdout.decode().split(), ["EPROTONOSUPPORT", "unix"])
        self.assertIn("LDP_TRANSPARENT_TLS", done.stderr.decode())


if __name__ == "__main__":
    netcase.main()

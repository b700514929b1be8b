#!/usr/bin/env python3
"""abi_client.py, a client in Python that knows the attach page and the ABI's numbers and nothing else, against the real
stack and an echo server on the kernel's TCP: a byte, megabytes, an engine killed in the middle, a refused connection."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from stack import PEER4, TOP  # noqa: E402
from wait import wait_for  # noqa: E402

LIE = """wide = memoryview(A.map).cast("Q")
at = (N["abi_seg_hdr.geom"] + N["abi_worker_geom.arena_size"]) // 8
wide[at] = wide[at] {}
"""
ECHO = os.path.join(sys.path[0], "echo.py")
PORT = 7600


class AbiClient(netcase.NetCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.files = [os.path.join(cls.lab.world.app_dir, name) for name in ("abi_client.py", "golden.txt")]
        shutil.copy(os.path.join(TOP, "tests/net/abi_client.py"), cls.files[0])
        shutil.copy(os.path.join(TOP, "tests/abi/golden.txt"), cls.files[1])
        for name in cls.files:
            os.chmod(name, 0o644)
        cls.lab.spawn("peer", [programs.PYTHON, "-u", ECHO, "serve", PEER4, PORT])
        programs.wait_listening(cls.lab, "peer", PORT)

    def command(self, size, port=PORT):
        return ["env", "-u", "LD_PRELOAD", programs.PYTHON, *self.files, self.lab.attach, PEER4, str(port), str(size)]

    def test_sizes(self):
        for size in (1, 70_000, 5_000_000):
            with self.subTest(size):
                self.assertIn(b"equal", self.lab.run("app", self.command(size), 60).stdout)
        wait_for(lambda: all(s["state"] == "TIME_WAIT" for s in self.lab.sessions()), 20, "no session is left behind")

    def tearDown(self):
        super().tearDown()
        self.assertNotIn("app.lied", self.lab.log_text())

    def test_engine_killed(self):
        client = self.lab.spawn("app", self.command(60_000_000))
        wait_for(self.lab.sessions, 20, "the session")
        self.lab.wait_service("engine", self.lab.kill_service("engine"))
        self.assertEqual(client.wait(120), 0, client.output())
        self.assertIn("equal", client.output())

    def test_arena_lie(self):
        """A client with parts that says another size of its arena than the broker gave: no one serves it."""
        with open(self.files[0], encoding="utf-8") as f:
            text = f.read()
        asked, said = "fd_e, fd_a = ask(2, {})", "ask(3, {1:"
        self.assertTrue(asked in text and said in text)
        text = text.replace(asked, f"fd_e, fd_a = ask(2, {{7: 1, 8: {1 << 20}, 9: {1 << 20}}})")
        liar = os.path.join(self.lab.world.app_dir, "liar.py")
        for number, lie in enumerate(("+ (1 << 20)", "- (1 << 20)", "+ (1 << 50)"), 1):
            with open(liar, "w", encoding="utf-8") as f:
                f.write(text.replace(said, LIE.format(lie) + said))
            os.chmod(liar, 0o644)
            command = self.command(1)
            command[command.index(self.files[0])] = liar
            done = self.lab.run("app", command, 60, check=False)
            self.assertIn(b"refused: ", done.stderr + done.stdout)
            wait_for(lambda n=number: self.lab.log_text().count("engine.app.refused") == n, 20, "the engine said no")
        self.assertIn("A's arena is not as it was made", self.lab.log_text())
        self.assertIn(b"equal", self.lab.run("app", self.command(70_000), 60).stdout)

    def test_refused(self):
        done = self.lab.run("app", self.command(1, 9), 30, check=False)
        self.assertIn(b"Connection refused", done.stderr + done.stdout)


if __name__ == "__main__":
    netcase.main()

#!/usr/bin/env python3
"""A bad configuration is refused with file:line, key, what was found and what is allowed, before anything starts."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
from netns import run  # noqa: E402

GOOD = """run-dir: {run}
nicio:
  interfaces:
    - name: hs0
      kind: kernel
      device: hs0
engine:
  addresses:
    - interface: hs0
      address: 10.77.0.1/24
"""
# (text to be replaced, its replacement, line of the complaint, words it must hold)
CASES = [
    ("kind: kernel", "kind: magic", 5, ("kind", "magic", "ethdev", "kernel")),
    ("      device: hs0\n", "", 4, ("device",)),
    ("device: hs0", "device: hs0\n      mtu: 99999", 7, ("mtu", "99999", "9216")),
    ("device: hs0", "device: hs0\n      queues: many", 7, ("queues", "many")),
    ("device: hs0", "device: hs0\n      colour: red", 7, ("colour",)),
    ("interface: hs0", "interface: hs7", 9, ("hs7",)),
    ("10.77.0.1/24", "10.77.0.256/24", 10, ("address", "10.77.0.256/24")),
    ("10.77.0.1/24", "10.77.0.1/33", 10, ("address", "10.77.0.1/33")),
    ("engine:\n", "engine:\n  workers: 9\n", 8, ("engine.workers", "9", "1 to 8")),
    ("engine:\n", "engine:\n  fifo: {{ rx-max: 17x }}\n", 8, ("rx-max", "17x")),
    ("nicio:\n", "nicio:\n  rx-slots: 1000\n", 3, ("rx-slots", "1000")),
    ("run-dir: {run}", "run-dir: relative/path", 1, ("run-dir", "relative/path")),
    ("run-dir: {run}", "run-dir: {run}\nfloor-colour: red", 2, ("floor-colour",)),
    ("engine:\n", "engine: 5\nengines:\n", 7, ("engine",)),
    ("engine:\n", "engine:\n\t- broken\n", 8, ()),
]


class ConfigErrors(netcase.NetCase):
    START = False

    def refused(self, path):
        done = self.lab.hsctl("up", "--foreground", check=False)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr.decode()

    def test_cases(self):
        for number, (old, new, line, words) in enumerate(CASES):
            with self.subTest(new):
                text = GOOD.replace(old, new)
                self.assertNotEqual(text, GOOD)
                path = self.lab.write_config(f"bad{number}.yaml", text.format(run=self.lab.run_dir))
                self.lab.config = path
                said = self.refused(path)
                self.assertIn(f"{path}:{line}", said)
                for word in words:
                    self.assertIn(word, said)
                self.assertNotIn("svc.start", said)
                self.assertFalse(os.path.exists(self.lab.run_dir), "something was started")

    def test_each_service_refuses_too(self):
        path = self.lab.write_config("bad.yaml", GOOD.format(run=self.lab.run_dir).replace("kernel", "magic"))
        for name in ("broker", "nicio", "engine", "api"):
            with self.subTest(name):
                binary = os.path.join(self.lab.build, f"services/{name}/hs-{name}")
                done = run(self.lab.world.command(self.lab.S, [binary, "-c", path]), 20, check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(f"{path}:5", done.stderr.decode())
                self.assertFalse(os.path.exists(self.lab.run_dir))

    def test_missing_file(self):
        self.lab.config = os.path.join(self.lab.dir, "none.yaml")
        self.assertIn(self.lab.config, self.refused(self.lab.config))

    def test_missing_interface(self):
        """Syntactically right, but the machine has no such interface: says so, and hsctl up reports failure."""
        text = GOOD.format(run=self.lab.run_dir).replace("device: hs0", "device: hs9")
        path = self.lab.write_config("absent.yaml", text)
        binary = os.path.join(self.lab.build, "services/nicio/hs-nicio")
        broker = os.path.join(self.lab.build, "services/broker/hs-broker")
        engine = os.path.join(self.lab.build, "services/engine/hs-engine")
        beside = [self.lab.world.start(self.lab.world.command(self.lab.S, [b, "-c", path]), "service")
                  for b in (broker, engine)]
        try:
            done = run(self.lab.world.command(self.lab.S, [binary, "-c", path]), 20, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("hs9", done.stderr.decode())
        finally:
            for program in beside:
                program.stop()


if __name__ == "__main__":
    netcase.main()

#!/usr/bin/env python3
"""Transfers over a line that loses, reorders, duplicates, corrupts and delays, by nicio's impairment stage: every byte
arrives once and in order, both ways."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402

SIZE = 10_000_000
BOTH = (("app", "peer"), ("peer", "app"))
CASES = [
    ("loss=1",), ("reorder=2",), ("duplicate=2",), ("corrupt=0.5",), ("delay=2000", "jitter=1000"),
    ("loss=1", "reorder=1", "duplicate=1", "corrupt=0.2", "delay=500"), ("rate=200000000",),
]


class Impaired(netcase.NetCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.sha = programs.random_file(os.path.join(cls.lab.world.data_dir, "file"), SIZE)
        for where in ("app", "peer"):
            programs.nginx(cls.lab, where, cls.lab.world.data_dir)

    def tearDown(self):
        self.lab.hsctl("impair", "hs0", "both")
        super().tearDown()

    def counters(self):
        return {c["name"]: c["value"] for c in self.lab.show("interface")["interfaces"]["interface"][0]["counter"]}

    def test_matrix(self):
        for number, settings in enumerate(CASES):
            for server, client in BOTH:
                for direction in ("rx", "tx", "both"):
                    with self.subTest(settings=settings, server=server, direction=direction):
                        self.lab.hsctl("impair", "hs0", "both")
                        self.lab.hsctl("impair", "hs0", direction, f"seed={number + 1}", *settings)
                        before = self.counters().get("impair.drop", 0)
                        rate = programs.fetch(self.lab, server, client, "file", SIZE, self.sha)
                        data = direction in ("both", "tx" if server == "app" else "rx")  # not only acknowledgements
                        if settings[0].startswith("loss") and data:
                            self.assertGreater(self.counters()["impair.drop"], before, "the stage lost nothing")
                        print(f"{'to' if server == 'app' else 'from'} the kernel, {direction} {' '.join(settings)}: "
                              f"{rate * 8e-6:.0f} Mbit/s", flush=True)

    def test_clean_again(self):
        self.lab.hsctl("impair", "hs0", "both", "loss=100")
        self.lab.hsctl("impair", "hs0", "both")
        for server, client in BOTH:
            programs.fetch(self.lab, server, client, "file", SIZE, self.sha)

    def test_total_loss_for_a_while(self):
        """Nothing passes in the middle of a transfer, then everything again: the connection goes on."""
        for server, client in BOTH:
            with self.subTest(server=server):
                self.lab.hsctl("impair", "hs0", "both", "rate=20000000")  # 4 s at least
                transfer = programs.begun(self.lab, server, client, "file", SIZE, 0.1)
                self.lab.hsctl("impair", "hs0", "both", "loss=100")
                got = transfer.got()
                self.assertTrue(transfer.curl.alive())
                self.assertLess(got, SIZE)
                self.lab.hsctl("impair", "hs0", "both")
                transfer.finish(self.sha)


if __name__ == "__main__":
    netcase.main()

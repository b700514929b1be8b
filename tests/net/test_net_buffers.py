#!/usr/bin/env python3
"""Buffers grow with the path: over 100 ms of round trip, made by nicio, a transfer with nothing set reaches the path's
rate in both directions; a receive buffer that is fixed stays so."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402

RTT = 0.1
RATE = 60e6  # bit/s; three times what 256 KB per round trip carry
SECONDS = 7


class Buffers(netcase.NetCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        half = int(RTT / 2 * 1e6)
        for direction in ("rx", "tx"):
            cls.lab.hsctl("impair", "hs0", direction, f"delay={half}", f"rate={int(RATE)}")

    def rate(self, server, client, at_most=None):
        """bit/s of the second half: slow start is over."""
        for attempt in range(3):  # a machine that was busy elsewhere says nothing
            report = programs.iperf3_report(self.lab, server, client, SECONDS)
            took = [i["sum"]["bits_per_second"] for i in report["intervals"][SECONDS // 2:SECONDS]]
            rate = sum(took) / len(took)
            print(f"{client} to {server}: {rate / 1e6:.0f} Mbit/s of {RATE / 1e6:.0f}", flush=True)
            if rate < at_most if at_most else rate > 0.75 * RATE:
                return
        self.fail(f"{rate / 1e6:.1f} Mbit/s")

    def test_receive(self):
        self.rate("app", "peer")
        self.assertGreater(self.grown(), 0)

    def test_send(self):
        self.rate("peer", "app")

    def test_receive_without_growing(self):
        """The same path with buffers that stay at 256 KB: the window is what limits."""
        self.lab.hsctl("set", "tcp", "receive-buffer-auto", "false")
        try:
            before = self.grown()
            self.rate("app", "peer", at_most=0.5 * RATE)
            self.assertEqual(self.grown(), before)
        finally:
            self.lab.hsctl("set", "tcp", "receive-buffer-auto", "default")

    def grown(self):
        return {c["name"]: c["value"] for c in self.lab.show("tcp")["tcp"]["counter"]}["tcp.rcv_buf_grown"]


if __name__ == "__main__":
    netcase.main()

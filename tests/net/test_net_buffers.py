#!/usr/bin/env python3
"""Buffers grow with the path: over 100 ms of round trip, made by nicio, a transfer with nothing set reaches the path's
rate in both directions; buffers that may not grow do not. And large segments pass whole both ways."""
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


class Segments(netcase.NetCase):
    """Nothing is cut or merged in the wrong place: towards a kernel with default offloads segments of many times the MTU
    leave whole, and what comes merged, or above the interface's MTU, is taken whole."""

    def per_frame(self, direction, server, client):
        """Bytes per frame of a transfer."""
        before = self.counters()
        programs.iperf3(self.lab, server, client, 1)
        after = self.counters()
        frames = after[direction + ".frames"] - before[direction + ".frames"]
        return (after[direction + ".bytes"] - before[direction + ".bytes"]) / frames

    def counters(self):
        one, = self.lab.show("interface")["interfaces"]["interface"]
        return {c["name"]: c["value"] for c in one["counter"]}

    def test_large_segments(self):
        out, come = self.per_frame("tx", "peer", "app"), self.per_frame("rx", "app", "peer")
        print(f"bytes per frame: out {out:.0f}, in {come:.0f}", flush=True)
        self.assertGreater(out, 4 * 1514)
        self.assertGreater(come, 2 * 1514)
        drops = {c["name"]: c["value"] for c in self.lab.show("drops")["stats"]["counter"]}
        for name in ("ip.rx.bad_length", "engine.rx.bad_l4_cksum", "hs0.rx.error", "hs0.tx.error", "hs0.tx.bad_desc"):
            self.assertEqual(drops[name], 0, name)


if __name__ == "__main__":
    netcase.main()

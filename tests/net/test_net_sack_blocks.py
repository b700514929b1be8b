#!/usr/bin/env python3
"""hsctl show session verbose prints what lies beyond a hole: the peer's kernel tells its numbers (TCP_REPAIR), and a raw
socket sends segments of that connection out of order."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
from puppet import Puppet  # noqa: E402
from stack import PEER4, STACK4  # noqa: E402
from wait import wait_for  # noqa: E402

PORT = 7320
SEGMENT = f"""
def total(b): return sum(struct.unpack('!%dH' % (len(b) // 2), b))
def fold(n): return fold((n & 65535) + (n >> 16)) if n >> 16 else n
def segment(seq, ack, data, sport=0): head = struct.pack('!HHIIBBHHH', sport, {PORT}, seq & 0xffffffff, ack & 0xffffffff, 80, 16, 1000, 0, 0); \
ps = socket.inet_aton({PEER4!r}) + socket.inet_aton({STACK4!r}) + struct.pack('!HH', 6, len(head) + len(data)); \
sum_ = 65535 - fold(total(ps + head + data)); return head[:16] + struct.pack('!H', sum_) + head[18:] + data
def number(s, queue): s.setsockopt(6, 20, queue); return s.getsockopt(6, 21) & 0xffffffff
def numbers(s): s.setsockopt(6, 19, 1); n = (number(s, 2), number(s, 1)); s.setsockopt(6, 19, -1); return n
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
""".strip().splitlines()


class SackBlocks(netcase.NetCase):
    def session(self):
        row, = [s for s in self.lab.show("session", "verbose")["sessions"]["session"]
                if s["local"] == f"{STACK4}:{PORT}" and s["state"] == "ESTABLISHED"]
        return row

    def blocks(self):
        return sorted(self.session().get("sack_block", []))

    def test_beyond_a_hole(self):
        self.lab.hsctl("set", "tcp", "timestamps", "false")  # or each segment would have to carry one
        app, peer = Puppet(self.lab), Puppet(self.lab, "peer")
        app(f"l = socket.create_server(({STACK4!r}, {PORT}))")
        for line in SEGMENT:
            peer(line)
        peer(f"c = socket.create_connection(({STACK4!r}, {PORT}), 20); c.sendall(b'first')")
        self.assertEqual(app("s = l.accept()[0]; got = s.recv(5)"), None)
        self.assertEqual(self.blocks(), [])
        self.assertIn("sack blocks none", self.lab.hsctl("show", "session", "verbose").stdout.decode())
        peer("seq, ack = numbers(c)")
        for at in (100, 300):
            peer(f"raw.sendto(segment(seq + {at}, ack, b'x' * 50, c.getsockname()[1]), ({STACK4!r}, 0))")
        wait_for(lambda: self.blocks() == ["100-150", "300-350"], 20, "two ranges, counted from what is acknowledged")
        shown = self.lab.hsctl("show", "session", "verbose").stdout.decode().partition("sack blocks ")[2].splitlines()[0]
        self.assertEqual(sorted(shown.split()), ["100-150", "300-350"])
        peer("c.sendall(b'x' * 100)")  # the hole is filled
        wait_for(lambda: self.blocks() == ["150-200"], 20, "one range")
        self.assertEqual(app("s.setblocking(True); n = len(s.recv(150, socket.MSG_WAITALL))"), None)
        self.assertEqual(app("n"), 150)
        self.lab.hsctl("set", "tcp", "timestamps", "default")


if __name__ == "__main__":
    netcase.main()

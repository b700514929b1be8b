#!/usr/bin/env python3
"""TCP_INFO over a path that loses and delays: every classic figure is plausible, seen by a program under the shim while it
sends, while it receives, when nothing passes, and when all is quiet; and so is hsctl's view of the same connection."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from stack import PEER4  # noqa: E402
from wait import wait_for  # noqa: E402

PORT = 7300
SIZE = 2_500_000
# takes SIZE bytes, sends as many back when told to, stays
SINK = """
import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
c, _ = s.accept()
n = int(sys.argv[3])
while n > 0:
    n -= len(c.recv(1 << 16))
c.recv(1)
c.sendall(bytes(int(sys.argv[3])))
while c.recv(1 << 16):
    pass
"""
# commands on stdin: send, receive, write N, info; each answered by one JSON line: greatest value of each field, and last
APP = """
import fcntl, json, select, socket, struct, sys, time
BYTES = "state ca_state retransmits probes backoff options wscale".split()
WORDS = ("rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent last_data_recv "
         "last_ack_recv pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space "
         "total_retrans").split()
c = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
c.setblocking(False)
def info():
    raw = c.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    v = dict(zip(BYTES, raw[:7]))
    v.update(zip(WORDS, struct.unpack("=24I", raw[8:104])))
    return v
def answer(most):
    print(json.dumps({"most": most, "last": info()}), flush=True)
def note(most):
    for k, v in info().items():
        most[k] = max(v, most.get(k, 0))
for line in sys.stdin:
    word, *arg = line.split()
    most, size = {}, int(sys.argv[3])
    if word == "send":
        left = memoryview(bytes(size))
        while left:
            select.select([], [c], [], 0.005)
            try:
                left = left[c.send(left[:65536]):]
            except BlockingIOError:
                pass
            note(most)
        while info()["unacked"]:
            select.select([], [], [], 0.005)
            note(most)
    elif word == "receive":
        c.send(b"x")
        while size:
            select.select([c], [], [], 0.005)
            try:
                size -= len(c.recv(1 << 16))
            except BlockingIOError:
                pass
            note(most)
    elif word == "write":
        c.send(bytes(int(arg[0])))
    elif word == "keepalive":
        for level, name in ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
                            (socket.SOL_SOCKET, socket.SO_KEEPALIVE)):
            c.setsockopt(level, name, 1)
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 100)
    note(most)
    answer(most)
"""


class Info(netcase.NetCase):
    def ask(self, *words):
        seen = len(self.app.output())
        self.app.popen.stdin.write((" ".join(words) + "\n").encode())
        self.app.popen.stdin.flush()
        text = wait_for(lambda: self.app.output()[seen:].endswith("\n") and self.app.output()[seen:], 60, words[0])
        answer = json.loads(text)
        return answer["most"], answer["last"]

    def impair(self, **kw):
        for direction in ("rx", "tx"):
            self.lab.hsctl("impair", "hs0", direction, *(f"{k}={v}" for k, v in kw.items()))

    def session(self):
        row, = [s for s in self.lab.show("session", "verbose")["sessions"]["session"]
                if s["remote"] == f"{PEER4}:{PORT}" and s["state"] == "ESTABLISHED"]
        return row

    def test_all(self):
        self.lab.spawn("peer", [programs.PYTHON, "-u", "-c", SINK, PEER4, PORT, SIZE])
        self.lab.wait_listening_kernel(self.lab.P, PORT)
        self.impair(delay=20000, loss=2, seed=5, rate=100_000_000)
        self.app = self.lab.spawn("app", [programs.PYTHON, "-u", "-c", APP, PEER4, PORT, SIZE], stdin=-1)
        for stage in (self.sending, self.receiving, self.nothing_passes, self.quiet, self.probes):
            with self.subTest(stage.__name__):
                stage()

    def sending(self):
        most, last = self.ask("send")
        self.assertEqual((last["state"], last["options"] & 7), (1, 7))
        self.assertTrue(last["wscale"] & 15 and last["wscale"] >> 4)
        self.assertEqual((last["snd_mss"], last["pmtu"], last["advmss"], last["ato"]), (1448, 1500, 1460, 40000))
        self.assertTrue(40000 <= last["rtt"] < 500000 and 0 < last["rttvar"] < 500000, last)
        self.assertTrue(last["rtt"] <= last["rto"] < 3_000_000 and last["rto"] >= 200000, last)
        self.assertTrue(most["unacked"] > 10 and most["snd_cwnd"] > 10, most)
        self.assertTrue(0 < most["sacked"] <= most["unacked"], most)
        self.assertTrue(most["ca_state"] in (1, 3, 4) and most["lost"] + most["retrans"] > 0, most)
        self.assertTrue(SIZE / 1448 * 0.005 < last["total_retrans"] < SIZE / 1448 * 0.2, last)
        self.assertLess(last["snd_ssthresh"], 10000)  # a loss has set it
        self.assertEqual((last["unacked"], last["sacked"], last["retrans"], last["backoff"]), (0, 0, 0, 0))
        self.assertTrue(last["last_ack_recv"] < 2000 and last["reordering"] >= 3)

    def receiving(self):
        most, last = self.ask("receive")
        self.assertTrue(35000 <= last["rcv_rtt"] < 1_000_000, last)
        self.assertTrue(10000 < last["rcv_space"] <= 4 << 20 and last["rcv_ssthresh"] > 65535, last)
        self.assertEqual(last["rcv_mss"], 1448)
        self.assertLess(last["last_data_recv"], 2000)
        self.assertGreater(last["last_data_sent"], last["last_data_recv"])
        self.assertLess(most["rto"], 3_000_000)

    def nothing_passes(self):
        self.impair(loss=100)
        self.ask("write", "3000")
        most = wait_for(lambda: (lambda v: v["retransmits"] >= 2 and v)(self.ask("info")[1]), 20, "two timeouts")
        self.assertEqual((most["ca_state"], most["backoff"]), (4, most["retransmits"]))
        self.assertTrue(most["unacked"] >= 1 and most["rto"] >= 400000, most)
        row = self.session()
        self.assertEqual(row["recovery"], "loss")
        self.assertTrue(row["backoff"] >= 2 and 0 < row["unacked"] <= 3000 == row["tx_queue"], row)  # as cwnd was left

    def quiet(self):
        self.impair(delay=20000)
        last = wait_for(lambda: (lambda v: not v["unacked"] and v)(self.ask("info")[1]), 40, "an acknowledgement")
        self.assertEqual((last["ca_state"], last["backoff"], last["retransmits"], last["lost"]), (0, 0, 0, 0))
        then = wait_for(lambda: (lambda v: v["last_data_sent"] > last["last_data_sent"] + 300 and v)(self.ask("info")[1]),
                        20, "ages that grow")
        self.assertGreater(then["last_data_recv"], last["last_data_recv"])
        row, now = self.session(), self.ask("info")[1]
        self.assertEqual((row["srtt_us"], row["rto_us"], row["retransmits"], row["ssthresh"] // 1448),
                         (now["rtt"], now["rto"], now["total_retrans"], now["snd_ssthresh"]))
        self.assertEqual((row["cc"], row["recovery"], row["accept"], row["tx_queue"]), ("cubic", "open", "active", 0))

    def probes(self):
        """Keep-alive probes that nobody answers, and one that somebody does."""
        self.assertEqual(self.ask("info")[1]["probes"], 0)
        self.impair(loss=100)
        self.ask("keepalive")
        wait_for(lambda: self.ask("info")[1]["probes"] >= 1, 20, "a probe")
        self.assertGreaterEqual(self.session()["probes"], 1)
        self.impair(delay=20000)
        wait_for(lambda: self.ask("info")[1]["probes"] == 0, 20, "the answer to a probe")


if __name__ == "__main__":
    netcase.main()

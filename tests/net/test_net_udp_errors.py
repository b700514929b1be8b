#!/usr/bin/env python3
"""What ICMP means to a connected UDP socket: the same program on the kernel and on the stack sends to a peer that answers
each datagram with one ICMP error and then with a datagram; both programs are told the same, code by code, IPv4 and IPv6.
Errors that quote what nobody sent, and errors for a socket that is not connected, are told to nobody."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from stack import KERNEL_PEER4, PEER4, PEER6  # noqa: E402
from wait import wait_for  # noqa: E402

PORT = 8800
UNREACH4 = [[4, 3, code, 0] for code in range(17) if code != 4]
# family, type, code, second word; the path MTUs last, as they are remembered
CASES = (UNREACH4 + [[4, 11, 0, 0], [4, 11, 1, 0], [4, 12, 0, 0], [4, 4, 0, 0]] +
         [[6, 1, code, 0] for code in range(8)] + [[6, 3, 0, 0], [6, 3, 1, 0], [6, 4, 0, 40], [6, 4, 1, 6], [6, 4, 2, 40]] +
         [[4, 3, 4, 1400], [6, 2, 0, 1400]])
FORGED = len(CASES)  # a port unreachable that quotes another port of ours
LOOSE = len(CASES) + 1  # a port unreachable for a socket that is not connected

# Answers datagrams "number": the error that CASES says, then b"done". One cpu: the two leave in this order.
ROUTER = f"""
import json, os, select, socket, struct, sys
CASES = json.loads(sys.argv[1]) + [[4, 3, 3, 0], [4, 3, 3, 0]]
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
def sum16(b):
    n = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    while n >> 16: n = (n & 65535) + (n >> 16)
    return ~n & 65535
def quote(family, src, sport, dst, dport, data):
    udp = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
    if family == 6:
        return struct.pack("!IHBB", 6 << 28, len(udp), 17, 60) + socket.inet_pton(socket.AF_INET6, src) + \\
            socket.inet_pton(socket.AF_INET6, dst) + udp
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 7, 0x4000, 60, 17, 0) + socket.inet_aton(src) + socket.inet_aton(dst)
    return head[:10] + struct.pack("!H", sum16(head)) + head[12:] + udp
raw = {{4: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        6: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)}}
ears = {{}}
for address in sys.argv[2:]:
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, {PORT}))
    ears[s] = address
print("up", flush=True)
while True:
    for s in select.select(list(ears), [], [])[0]:
        data, peer = s.recvfrom(100)
        number = struct.unpack_from("!H", data)[0]
        family, kind, code, word = CASES[number]
        data = data + bytes(len(data) % 2)
        about = quote(family, peer[0], peer[1] ^ (number == {FORGED}), ears[s], {PORT}, data)
        message = struct.pack("!BBHI", kind, code, 0, word) + about
        if family == 4:
            message = message[:2] + struct.pack("!H", sum16(message)) + message[4:]
        raw[family].sendto(message, (peer[0], 0))
        s.sendto(b"done", peer)
"""
# For each case: what SO_ERROR says once the datagram behind the ICMP error is here, and that the datagram is the next thing.
ASK = f"""
import errno, json, select, socket, struct, sys
four, six, cases = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
told = []
for number in range(len(cases) + 2):
    family = cases[number][0] if number < len(cases) else 4
    s = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    to = (six if family == 6 else four, {PORT})
    if number != {LOOSE}:
        s.connect(to)
    s.sendto(struct.pack("!H", number) + b"data", to) if number == {LOOSE} else s.send(struct.pack("!H", number) + b"data")
    poll = select.poll()
    poll.register(s, select.POLLIN)
    while True:
        if not poll.poll(20000): sys.exit("case %d: no answer" % number)
        try:
            got = s.recv(100, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            err = 0
            break
        except BlockingIOError:
            continue
        except OSError as e:
            err = e.errno
            break
    if err:  # told once: by this, and never again
        while True:
            if not poll.poll(20000): sys.exit("case %d: no answer behind the error" % number)
            try:
                s.recv(100, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                break
            except BlockingIOError:
                pass
    told.append([errno.errorcode.get(err, err), s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), s.recv(100).decode()])
print(json.dumps(told))
"""


class UdpErrors(netcase.NetCase):
    maxDiff = None

    def test_same_as_the_kernel(self):
        cases = json.dumps(CASES)
        router = self.lab.spawn("peer", [programs.PYTHON, "-u", "-c", ROUTER, cases, PEER4, PEER6, KERNEL_PEER4, "fd00:78::2"])
        wait_for(lambda: "up" in router.output() or not router.alive(), 20, "the peer")
        told = {}
        for where, four, six in (("kernel", KERNEL_PEER4, "fd00:78::2"), ("app", PEER4, PEER6)):
            done = self.lab.run(where, [programs.PYTHON, "-c", ASK, four, six, cases], 150)
            told[where] = json.loads(done.stdout)
        names = [f"IPv{c[0]} type {c[1]} code {c[2]}" for c in CASES] + ["forged", "not connected"]
        self.assertEqual(dict(zip(names, told["app"])), dict(zip(names, told["kernel"])))
        heard = dict(zip(names, (t[0] for t in told["app"])))
        self.assertEqual({t[2] for t in told["app"]}, {"done"})
        self.assertEqual((heard["IPv4 type 3 code 3"], heard["IPv6 type 1 code 4"]), ("ECONNREFUSED", "ECONNREFUSED"))
        self.assertEqual((heard["IPv4 type 3 code 13"], heard["IPv6 type 1 code 1"]), ("EHOSTUNREACH", "EACCES"))
        self.assertEqual((heard["forged"], heard["not connected"]), (0, 0))


if __name__ == "__main__":
    netcase.main()

#!/usr/bin/env python3
"""A client of the stack without any of its code: common/ctl/ATTACH.md says what is done here, step by step, the numbers
come from tests/abi/golden.txt. Attaches, connects, sends random bytes while it reads them back from an echo server, ends.
Stores need release order: x86 gives it to every store; elsewhere a language needs its own atomics here.

abi_client.py GOLDEN ATTACH-SOCKET IPv4-ADDRESS PORT BYTES
"""
import fcntl
import mmap
import os
import re
import select
import socket
import sys
import threading

CHUNK, CHUNKS = 65536, 16  # our tx fifo: a ring of chunks at the start of A's arena


def numbers(path):
    """golden.txt: {"ABI_NAME": value, "struct.field": offset}."""
    found, struct = {}, ""
    for line in open(path, encoding="ascii"):
        if m := re.match(r"define (\w+) (\w+?)u*l*l*$", line):
            found[m[1]] = int(m[2], 0)
        elif m := re.match(r"(struct|enum) (\w+)", line):
            struct = m[2] + "." if m[1] == "struct" else ""
        elif m := re.match(r"  (\d+) +(?:\d+ +)?(\w+)$", line):
            found[struct + m[2]] = int(m[1])
    return found


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def message(**fields):
    """protobuf; f3=7 is field 3, an integer or bytes."""
    return b"".join(varint(int(k[1:]) << 3) + varint(v) if isinstance(v, int) else
                    varint(int(k[1:]) << 3 | 2) + varint(len(v)) + v for k, v in fields.items())


def parse(data):
    found, at = {}, 0

    def number():
        nonlocal at
        n = shift = 0
        while True:
            at, n, shift, byte = at + 1, n | (data[at] & 127) << shift, shift + 7, data[at]
            if byte < 128:
                return n
    while at < len(data):
        key, value = number(), number()
        if key & 7 == 2:
            at, value = at + value, data[at:at + value]
        found[key >> 3] = value
    return found


class Segment:
    def __init__(self, fd, kind, writable):
        assert fcntl.fcntl(fd, 1034) & 6 == 6, "F_GET_SEALS: it could shrink"
        prot = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self.map = mmap.mmap(fd, os.fstat(fd).st_size, mmap.MAP_SHARED, prot)
        self.word, h = memoryview(self.map).cast("I"), "abi_seg_hdr."
        assert self.wide(N[h + "magic"]) == N["ABI_MAGIC"] and self.word[N[h + "kind"] // 4] == kind
        assert self.word[N[h + "state"] // 4] == N["ABI_SEG_READY"]
        self.geom = {k.split(".")[1]: self.wide(N[h + "geom"] + v) for k, v in N.items()
                     if k.startswith("abi_worker_geom.") and not k.endswith("reserved")}

    def wide(self, at):
        return int.from_bytes(self.map[at:at + 8], "little")

    def at(self, path, base):
        """Index in `word` of a field path: struct.field, then further offsets are in `base`."""
        return (base + N[path]) // 4


class Client:
    def __init__(self, attach):
        self.sock, self.seq = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), 0
        self.sock.connect(attach)
        _, (bell, self.doorbell) = self.ask(f2=message(f1=N["ABI_MAJOR"], f2=N["ABI_MINOR"], f3=b"abi_client"))
        self.bell, self.lock = socket.socket(fileno=bell), threading.Lock()
        reply, (fd_e, fd_a) = self.ask(f3=b"")
        self.E, self.A = Segment(fd_e, N["ABI_SEG_ENGINE"], False), Segment(fd_a, N["ABI_SEG_APP"], True)
        self.ask(f4=message(f1=parse(reply[5])[1]))
        self.a, self.e = self.A.geom["slots_off"], self.E.geom["slots_off"]  # slot 0
        self.blocks = self.A.geom["block_off"], self.E.geom["block_off"]
        for lane in range(self.A.geom["n_lanes"]):  # armed for ever: every hint rings
            self.A.word[self.lane(0, lane) + 16 + N["abi_ring_cons.armed"] // 4] = 1

    def ask(self, **body):
        self.seq += 1
        self.sock.send(message(f1=self.seq, **body))
        data, fds, _, _ = socket.recv_fds(self.sock, 65536, 8, socket.MSG_CMSG_CLOEXEC)
        reply = parse(data)
        assert reply.get(1) == self.seq and reply.get(2, 0) == 0, reply
        return reply, fds

    def lane(self, side, n):
        """Word index of a lane's producer line; its consumer line is 16 words on."""
        return (self.blocks[side] + N["abi_worker_app.lane"] + 128 * n) // 4

    def get(self, field):
        return self.E.word[(self.e + N["abi_sess_engine." + field]) // 4]

    def put(self, field, value):
        self.A.word[(self.a + N["abi_sess_app." + field]) // 4] = value & 0xffffffff

    def fence(self):
        with self.lock:  # an atomic exchange: a full fence on x86
            pass

    def hint(self):
        """The fact was stored before. Our slot is in the ring once; the doorbell may always be rung."""
        self.fence()
        tail = self.A.word[self.lane(0, 0)]
        if tail == self.E.word[self.lane(1, 0) + 16]:
            self.A.word[self.A.geom["rings_off"] // 4 + tail % self.A.geom["ring_cap"]] = 0  # the slot
            self.put("hint_pos", tail)
            self.A.word[self.lane(0, 0)] = (tail + 1) & 0xffffffff
        os.write(self.doorbell, (1).to_bytes(8, "little"))

    def wait(self, done):
        """Until done(); takes the hints (there is but one session to look at), sleeps on the bell."""
        while True:
            for lane in range(self.A.geom["n_lanes"]):
                self.A.word[self.lane(0, lane) + 16] = self.E.word[self.lane(1, lane)]
            self.fence()
            epoch = self.E.word[self.blocks[1] // 4]
            if epoch != self.A.word[self.blocks[0] // 4]:  # a new engine: all is said again
                self.A.word[self.blocks[0] // 4] = epoch
                self.hint()
            if result := done():
                return result
            if any(self.A.word[self.lane(0, n) + 16] != self.E.word[self.lane(1, n)] for n in range(self.A.geom["n_lanes"])):
                continue
            if not select.select([self.bell], [], [], 30)[0]:
                sys.exit("nothing happened for 30 s")
            if not self.bell.recv(4096):
                sys.exit("the stack is gone")

    def connect(self, address, port):
        self.gen = self.A.word[self.a // 4] + 1
        self.put("gen", self.gen)
        self.A.word[(self.blocks[0] + N["abi_worker_app.slots_high"]) // 4] = 1
        at = self.a + N["abi_sess_app.req"] + N["abi_request.remote"]
        self.A.map[at:at + 19] = bytes(10) + b"\xff\xff" + socket.inet_aton(address) + port.to_bytes(2, "big") + b"\4"
        self.put("req", 1)  # its first word: the id
        self.put("op", N["ABI_OP_CONNECT"])
        self.hint()
        self.wait(lambda: self.get("gen") == self.gen and self.get("state") > N["ABI_SESS_CONNECTING"])
        if self.get("error"):
            sys.exit(os.strerror(self.get("error")))
        self.sent = self.got = 0

    def send(self, data):
        """As much as there is room for; returns how much. Positions stay below 2^32 here."""
        head, start = self.get("tx_head"), self.sent
        data = data[:max(0, self.get("tx_limit") - (start - head))]
        while data:
            n, within = divmod(self.sent, CHUNK)
            if n >= CHUNKS and head < (n - CHUNKS + 1) * CHUNK:
                break  # its predecessor in the table still lives
            unit = self.A.geom["arena_off"] + n % CHUNKS * CHUNK
            if within == 0:
                at = (self.a + N["abi_sess_app.tx_chunk"]) // 4 + n % CHUNKS * 4
                for i, word in enumerate((self.sent, CHUNK, unit // N["ABI_CHUNK_UNIT"], 0)):
                    self.A.word[at + i] = word
                self.A.word[(self.a + N["abi_sess_app.tx"] + N["abi_fifo_prod.chunk_tail"]) // 4] = n + 1
            part, data = data[:CHUNK - within], data[CHUNK - within:]
            self.A.map[unit + within:unit + within + len(part)] = part
            self.sent += len(part)
        if self.sent != start:
            self.put("tx", self.sent)  # its first word: the tail
            self.hint()
        self.put("tx_wake", self.get("tx_head") + 1)
        self.put("tx_armed", 1)
        return self.sent - start

    def receive(self):
        """What has arrived."""
        rx, parts = (self.e + N["abi_sess_engine.rx"]) // 4, b""
        tail, newest = self.E.word[rx], self.E.word[rx + 1]
        table = (self.e + N["abi_sess_engine.rx_chunk"]) // 4
        while self.got != tail:
            for n in range(newest - 1, newest - 17, -1):
                start, length, unit = self.E.word[table + n % 16 * 4:table + n % 16 * 4 + 3]
                if start <= self.got < start + length:
                    break
            else:
                sys.exit("no chunk holds what was published")
            at, end = unit * N["ABI_CHUNK_UNIT"] + self.got - start, min(tail, start + length)
            parts += self.E.map[at:at + end - self.got]
            self.got = end
        if parts:
            self.put("rx_head", self.got)
            self.hint()
        return parts

    def end(self):
        """Our FIN, the peer's, then the slot is given back."""
        self.put("want", N["ABI_WANT_SHUT_WR"])
        self.hint()
        self.wait(lambda: self.get("flags") & N["ABI_SE_PEER_FIN"] and self.get("fin_pos") == self.got)
        self.put("want", N["ABI_WANT_SHUT_WR"] | N["ABI_WANT_CLOSE"])
        self.hint()
        self.wait(lambda: self.get("state") == N["ABI_SESS_CLOSED"])
        self.put("op", N["ABI_OP_NONE"])  # first: under a new generation it would be a new request
        self.put("gen", self.gen + 1)
        keep = N["abi_sess_app.hint_pos"] // 4
        for i in range(1, N["abi_sess_app.tx_chunk"] // 4):
            self.A.word[self.a // 4 + i] = self.A.word[self.a // 4 + i] if i == keep else 0
        self.hint()


def main():
    data = os.urandom(int(sys.argv[5]))
    back = b""
    client = Client(sys.argv[2])
    client.connect(sys.argv[3], int(sys.argv[4]))
    while len(back) < len(data):
        moved = [client.send(data[client.sent:]), client.receive()]
        back += moved[1]
        if not any(moved):
            sent, got = client.get("tx_head"), client.got
            client.wait(lambda: client.get("tx_head") != sent or client.E.word[(client.e + N["abi_sess_engine.rx"]) // 4]
                        != got or client.get("state") == N["ABI_SESS_CLOSED"])
    client.end()
    print("equal" if back == data else "what came back is not what was sent")


N = numbers(sys.argv[1])
main()

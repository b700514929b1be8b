#!/usr/bin/env python3
"""A client of the stack without any of its code: common/ctl/ATTACH.md says what is done here, step by step, the numbers
come from tests/abi/golden.txt. Attaches, connects, sends random bytes while it reads them back from an echo server, ends.
Stores need release order: x86 gives it to every store; elsewhere a language needs its own atomics here.

abi_client.py GOLDEN ATTACH-SOCKET IPv4-ADDRESS PORT BYTES
"""
import mmap, os, re, select, socket, sys, threading

CHUNK, CHUNKS = 65536, 16  # our tx fifo: a ring of chunks at the start of A's arena
N, struct = {}, ""  # golden.txt: N["ABI_NAME"] is a value, N["struct.field"] an offset
for line in open(sys.argv[1], encoding="ascii"):
    if m := re.match(r"define (\w+) (\w+?)u*l*l*$", line):
        N[m[1]] = int(m[2], 0)
    elif m := re.match(r"(struct|enum) (\w+)", line):
        struct = m[2] + "." if m[1] == "struct" else ""
    elif m := re.match(r"  (\d+) +(?:\d+ +)?(\w+)$", line):
        N[struct + m[2]] = int(m[1])


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def message(fields):
    """protobuf: {number: integer or bytes}."""
    return b"".join(varint(k << 3) + varint(v) if isinstance(v, int) else varint(k << 3 | 2) + varint(len(v)) + v
                    for k, v in fields.items())


def parse(data):
    found = {}
    while data:
        numbers = []
        while len(numbers) < 2:  # the key, then the value or its length
            n = next(i for i, byte in enumerate(data) if byte < 128) + 1
            numbers.append(sum((byte & 127) << 7 * i for i, byte in enumerate(data[:n])))
            data = data[n:]
        key, value = numbers
        if key & 7 == 2:
            value, data = data[:value], data[value:]
        found[key >> 3] = value
    return found


class Segment:
    """Its memory: bytes and 32-bit words; its geometry; a block or slot whose fields get and put name."""
    def __init__(self, fd, kind, writable, half):
        self.map = mmap.mmap(fd, os.fstat(fd).st_size, prot=mmap.PROT_READ | mmap.PROT_WRITE * writable)
        self.word, self.half = memoryview(self.map).cast("I"), half
        assert self.map[:8] == N["ABI_MAGIC"].to_bytes(8, "little") and self.word[N["abi_seg_hdr.kind"] // 4] == kind
        wide, first = memoryview(self.map).cast("Q"), N["abi_seg_hdr.geom"]
        self.geom = {k[16:]: wide[(first + v) // 8] for k, v in N.items() if k.startswith("abi_worker_geom.")}

    def at(self, field):
        """Index in `word` of a field of slot 0, or (block.field) of the worker's block."""
        block, _, name = field.rpartition(".")
        return (self.geom["block_off"] + N[f"abi_worker_{self.half}.{name}"] if block else
                self.geom["slots_off"] + N[f"abi_sess_{self.half}.{name}"]) // 4


class Client:
    def __init__(self, attach):
        self.sock, self.seq, self.lock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), 0, threading.Lock()
        self.sock.connect(attach)
        hello = message({1: N["ABI_MAJOR"], 2: N["ABI_MINOR"], 3: b"abi_client"})
        _, (bell, self.doorbell) = self.ask({2: hello})
        self.bell = socket.socket(fileno=bell)
        reply, (fd_e, fd_a) = self.ask({3: b""})
        self.E, self.A = Segment(fd_e, N["ABI_SEG_ENGINE"], 0, "engine"), Segment(fd_a, N["ABI_SEG_APP"], 1, "app")
        self.ask({4: message({1: parse(reply[5])[1]})})  # mapped: the engine serves us from here on
        self.lanes = [self.A.at("block.lane") + 32 * n for n in range(self.A.geom["n_lanes"])]  # the same in A and E
        for lane in self.lanes:  # producer's words, 16 on the consumer's; armed for ever: every hint rings
            self.A.word[lane + 16 + N["abi_ring_cons.armed"] // 4] = 1

    def ask(self, body):
        self.seq += 1
        self.sock.send(message({1: self.seq, **body}))
        data, fds, _, _ = socket.recv_fds(self.sock, 65536, 8, socket.MSG_CMSG_CLOEXEC)
        reply = parse(data)
        assert reply.get(1) == self.seq and reply.get(2, 0) == 0, reply
        return reply, fds

    def get(self, field):
        return self.E.word[self.E.at(field)]

    def put(self, field, value):
        self.A.word[self.A.at(field)] = value & 0xffffffff

    def hint(self):
        """Look at slot 0. The fact was stored before; the slot is in the ring once; the doorbell may always be rung."""
        self.lock.acquire(), self.lock.release()  # atomic exchanges: full fences on x86
        tail = self.A.word[self.lanes[0]]
        if tail == self.E.word[self.lanes[0] + 16]:
            self.A.word[self.A.geom["rings_off"] // 4 + tail % self.A.geom["ring_cap"]] = 0
            self.put("hint_pos", tail)
            self.A.word[self.lanes[0]] = (tail + 1) & 0xffffffff
        os.write(self.doorbell, (1).to_bytes(8, "little"))

    def wait(self, done):
        """Until done(): takes the hints (there is but one session to look at), sleeps on the bell."""
        while True:
            for lane in self.lanes:
                self.A.word[lane + 16] = self.E.word[lane]
            self.lock.acquire(), self.lock.release()
            if self.get("block.epoch") != self.A.word[self.A.at("block.epoch_seen")]:  # a new engine: all is said again
                self.put("block.epoch_seen", self.get("block.epoch"))
                self.hint()
            if done():
                return
            if not select.select([self.bell], [], [], 30)[0] or not self.bell.recv(4096):
                sys.exit("nothing happened for 30 s, or the stack is gone")

    def connect(self, address, port):
        self.sent = self.got = 0
        self.put("gen", 1)
        self.put("block.slots_high", 1)
        remote = self.A.at("req") * 4 + N["abi_request.remote"]
        self.A.map[remote:remote + 19] = bytes(10) + b"\xff\xff" + socket.inet_aton(address) + port.to_bytes(2, "big") + b"\4"
        self.put("req", 1)  # its first word: the id
        self.put("op", N["ABI_OP_CONNECT"])
        self.hint()
        self.wait(lambda: self.get("gen") == 1 and self.get("state") > N["ABI_SESS_CONNECTING"])
        if self.get("error"):
            sys.exit(os.strerror(self.get("error")))

    def send(self, data):
        """As much as there is room for. Positions stay below 2^32 here."""
        head, start = self.get("tx_head"), self.sent
        data = data[:max(0, self.get("tx_limit") - (start - head))]
        while data and self.sent // CHUNK - head // CHUNK < CHUNKS:  # else its predecessor in the table still lives
            n, within = divmod(self.sent, CHUNK)
            offset, entry = self.A.geom["arena_off"] + n % CHUNKS * CHUNK, self.A.at("tx_chunk") + n % CHUNKS * 4
            if within == 0:
                for i, word in enumerate((self.sent, CHUNK, offset // N["ABI_CHUNK_UNIT"], 0)):
                    self.A.word[entry + i] = word
                self.A.word[self.A.at("tx") + 1] = n + 1  # chunk_tail
            part, data = data[:CHUNK - within], data[CHUNK - within:]
            self.A.map[offset + within:offset + within + len(part)] = part
            self.sent += len(part)
        self.put("tx_wake", head + 1)
        self.put("tx_armed", 1)
        self.put("tx", self.sent)  # the tail, last
        self.hint()

    def receive(self):
        tail, newest, parts = self.get("rx"), self.E.word[self.E.at("rx") + 1], b""
        while self.got != tail:
            entries = [self.E.at("rx_chunk") + n % 16 * 4 for n in range(max(newest - 16, 0), newest)]
            chunks = [self.E.word[at:at + 3] for at in entries]  # start, length, unit
            start, length, unit = next(c for c in chunks if c[0] <= self.got < c[0] + c[1])
            at, end = unit * N["ABI_CHUNK_UNIT"] + self.got - start, min(tail, start + length)
            parts, self.got = parts + self.E.map[at:at + end - self.got], end
        if parts:
            self.put("rx_head", self.got)
            self.hint()
        return parts

    def end(self):
        """Our FIN, the peer's; then we let go of it."""
        self.put("want", N["ABI_WANT_SHUT_WR"])
        self.hint()
        self.wait(lambda: self.get("flags") & N["ABI_SE_PEER_FIN"] and self.get("fin_pos") == self.got)
        self.put("want", N["ABI_WANT_SHUT_WR"] | N["ABI_WANT_CLOSE"])
        self.hint()
        self.wait(lambda: self.get("state") == N["ABI_SESS_CLOSED"])


data, back = os.urandom(int(sys.argv[5])), b""
client = Client(sys.argv[2])
client.connect(sys.argv[3], int(sys.argv[4]))
while len(back) < len(data):
    before = client.get("tx_head")
    client.send(data[client.sent:])
    back += client.receive()
    client.wait(lambda: client.get("tx_head") != before or client.get("rx") != client.got or len(back) == len(data) or
                client.get("state") == N["ABI_SESS_CLOSED"])
client.end()
print("equal" if back == data else "what came back is not what was sent")

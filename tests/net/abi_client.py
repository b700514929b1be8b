#!/usr/bin/env python3
"""A client of the stack without any of its code: common/ctl/ATTACH.md says what is done here, step by step, the numbers
come from tests/abi/golden.txt. Attaches, connects, sends random bytes while it reads them back from an echo server, ends.
Stores need release order: x86 gives it to every store; elsewhere a language needs its own atomics here.

abi_client.py GOLDEN ATTACH-SOCKET IPv4-ADDRESS PORT BYTES
"""
import mmap, os, re, select, socket, sys, threading

N, struct = {}, ""  # golden.txt: N["ABI_NAME"] is a value, N["struct.field"] an offset
for line in open(sys.argv[1], encoding="ascii"):
    if m := re.match(r"define (\w+) (\w+?)u*l*l*$", line):
        N[m[1]] = int(m[2], 0)
    elif m := re.match(r"(struct|enum) (\w+)", line):
        struct = m[2] + "." if m[1] == "struct" else ""
    elif m := re.match(r"  (\d+) +(?:\d+ +)?(\w+)$", line):
        N[struct + m[2]] = int(m[1])
attach, fence = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), threading.Lock()
attach.connect(sys.argv[2])


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def message(fields):
    """protobuf: {number: integer or bytes}."""
    return b"".join(varint(k << 3) + varint(v) if isinstance(v, int) else varint(k << 3 | 2) + varint(len(v)) + v
                    for k, v in fields.items())


def ask(number, body):
    """The number-th request; its kind's field is number + 1 here. The descriptors that the answer brings."""
    attach.send(message({1: number, number + 1: message(body)}))
    reply, fds, _, _ = socket.recv_fds(attach, 65536, 8, socket.MSG_CMSG_CLOEXEC)
    if reply[2:3] == b"\x10":  # behind seq comes rc: only if it is not 0
        sys.exit(f"refused: {reply[4:]}")
    return fds


class Half:
    """One side's segment: its memory, its geometry; 32-bit words of its block ("block.field") and of its half of slot 0."""
    def __init__(self, fd, name, writable):
        self.map = mmap.mmap(fd, os.fstat(fd).st_size, prot=mmap.PROT_READ | mmap.PROT_WRITE * writable)
        assert self.map[:8] == N["ABI_MAGIC"].to_bytes(8, "little")
        self.word, wide = memoryview(self.map).cast("I"), memoryview(self.map).cast("Q")
        self.geom = {k[16:]: wide[(N["abi_seg_hdr.geom"] + v) // 8] for k, v in N.items() if k.startswith("abi_worker_geom.")}
        self.place = {**{"block." + k[12 + len(name):]: self.geom["block_off"] + v for k, v in N.items()
                         if k.startswith(f"abi_worker_{name}.")},
                      **{k[10 + len(name):]: self.geom["slots_off"] + v for k, v in N.items()
                         if k.startswith(f"abi_sess_{name}.")}}

    def __getitem__(self, field):
        return self.word[self.place[field] // 4]

    def __setitem__(self, field, value):
        self.word[self.place[field] // 4] = value & 0xffffffff


def hint():
    """Look at slot 0. The fact was stored before; the slot is in the ring once; the doorbell may always be rung."""
    fence.acquire(), fence.release()  # atomic exchanges: full fences on x86
    tail = A.word[lanes[0]]
    if tail == E.word[lanes[0] + 16]:
        A.word[A.geom["rings_off"] // 4 + tail % A.geom["ring_cap"]] = 0
        A["hint_pos"] = tail
        A.word[lanes[0]] = (tail + 1) & 0xffffffff
    os.write(doorbell, (1).to_bytes(8, "little"))


def wait(done):
    """Until done(): takes the hints (there is but one session to look at), sleeps on the bell."""
    while True:
        for lane in lanes:
            A.word[lane + 16] = E.word[lane]
        fence.acquire(), fence.release()
        if E["block.epoch"] != A["block.epoch_seen"]:  # a new engine: all is said again
            A["block.epoch_seen"] = E["block.epoch"]
            hint()
        if done():
            return
        if not select.select([bell], [], [], 30)[0] or not os.read(bell, 4096):
            sys.exit("nothing happened for 30 s, or the stack is gone")


def send(data):
    """As much as there is room for; how much. Byte p of the stream lies at p of our arena, in chunks of the largest size,
    side by side: no more of them live at once than the table has entries."""
    start, size = A["tx"], N["ABI_CHUNK_UNIT"] * 512
    data = data[:max(0, E["tx_limit"] - (start - E["tx_head"]))]
    for n in range(-(-start // size), -(-(start + len(data)) // size)):  # those that begin in it
        entry = A.place["tx_chunk"] // 4 + n % 16 * 4
        A.word[entry:entry + 4] = memoryview(bytes(16)).cast("I")
        A.word[entry], A.word[entry + 1] = n * size, size
        A.word[entry + 2] = (A.geom["arena_off"] + n * size) // N["ABI_CHUNK_UNIT"]
        A.word[A.place["tx"] // 4 + 1] = n + 1  # chunk_tail
    A.map[A.geom["arena_off"] + start:A.geom["arena_off"] + start + len(data)] = data
    A["tx_wake"], A["tx_armed"] = E["tx_head"] + 1, 1
    A["tx"] = start + len(data)  # the tail, last
    hint()
    return len(data)


def receive():
    """All that has come."""
    got, tail, newest, data = A["rx_head"], E["rx"], E.word[E.place["rx"] // 4 + 1], b""
    for n in range(max(newest - 16, 0), newest):
        entry = E.place["rx_chunk"] // 4 + n % 16 * 4
        start, length, unit = E.word[entry:entry + 3]
        end, at = min(tail, start + length), unit * N["ABI_CHUNK_UNIT"] - start
        if start <= got < end:
            data, got = data + E.map[at + got:at + end], end
    A["rx_head"] = got
    hint()
    return data


bell, doorbell = ask(1, {1: N["ABI_MAJOR"], 2: N["ABI_MINOR"], 3: b"abi_client"})  # Hello
fd_e, fd_a = ask(2, {})  # AddWorker
E, A = Half(fd_e, "engine", 0), Half(fd_a, "app", 1)
ask(3, {1: A.geom["worker_id"]})  # WorkerMapped: the engine serves us from here on
lanes = [A.place["block.lane"] // 4 + 32 * n for n in range(A.geom["n_lanes"])]  # the same in A and E
for lane in lanes:  # the producer's words, 16 further the consumer's; armed for ever: every hint rings
    A.word[lane + 16 + N["abi_ring_cons.armed"] // 4] = 1

remote = A.place["req"] + N["abi_request.remote"]
ip, port = socket.inet_aton(sys.argv[3]), int(sys.argv[4]).to_bytes(2, "big")
A.map[remote:remote + 19] = bytes(10) + b"\xff\xff" + ip + port + b"\4"
A["gen"], A["block.slots_high"], A["req"], A["op"] = 1, 1, 1, N["ABI_OP_CONNECT"]  # in this order; req: its id
hint()
wait(lambda: E["gen"] == 1 and E["state"] > N["ABI_SESS_CONNECTING"])
if E["error"]:
    sys.exit(os.strerror(E["error"]))

data, back, sent = os.urandom(int(sys.argv[5])), b"", 0
while len(back) < len(data) and E["state"] != N["ABI_SESS_CLOSED"]:
    head = E["tx_head"]
    sent += send(data[sent:])
    back += receive()
    wait(lambda: E["tx_head"] != head or E["rx"] != A["rx_head"] or len(back) == len(data) or E["state"] == N["ABI_SESS_CLOSED"])
A["want"] = N["ABI_WANT_SHUT_WR"]  # our FIN, and the peer's; then we let go of it
hint()
wait(lambda: E["flags"] & N["ABI_SE_PEER_FIN"] and E["fin_pos"] == A["rx_head"])
A["want"] = N["ABI_WANT_SHUT_WR"] | N["ABI_WANT_CLOSE"]
hint()
wait(lambda: E["state"] == N["ABI_SESS_CLOSED"])
print("equal" if back == data else "what came back is not what was sent")

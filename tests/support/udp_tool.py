"""One end of a UDP conversation, run under the shim or natively: `udp_tool.py ROLE ...`. Prints JSON lines; says "up" on
standard output once it is bound.

echo ADDRESS PORT            answers every datagram from where it was sent to, for ever
echoes ADDRESS PORT COUNT    the same on COUNT ports from PORT on, a socket for each
ask ADDRESS PORT SIZE...     sends random datagrams, connected and not, and says which came back as they went
asks ADDRESS PORT COUNT SIZE...  the same for COUNT ports, a line for each
count ADDRESS PORT           numbered datagrams: how many came, until "end" (three times in vain is the end, too)
flow ADDRESS PORT            says "up" once a datagram came back, sends numbered ones and waits for each to come back; after
                             the end of stdin FLOW_AFTER more must: how long the first of them took, the longest gap in all
refused ADDRESS PORT         what a connected and an unconnected socket hear of a port that nobody has
refusals ADDRESS PORT COUNT  whether each of COUNT connected sockets hears that nobody has the port
forms ADDRESS PORT           ancillary data, MSG_PEEK, MSG_TRUNC, recvmsg into many buffers, UDP_SEGMENT
group GROUP PORT INTERFACE   joins and prints the first datagram and who sent it; the interface is an address of it (IPv4), or
                             its name, "" for any (IPv6)
tell GROUP PORT INTERFACE    sends to a group from an interface, until it is ended
"""
import json
import os
import select
import socket
import struct
import sys
import time

UDP_SEGMENT = 103
FLOW_AFTER = 20
IP_PKTINFO, IP_RECVTTL = 8, 12


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def say(**words):
    print(json.dumps(words), flush=True)


def make(address, port=None):
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    if port is not None:
        s.bind((address, port))
        print("up", flush=True)
    return s


def echo(address, port):
    s = make(address, int(port))
    while True:
        data, peer = s.recvfrom(65536)
        s.sendto(data, peer)


def echoes(address, port, count):
    poll = select.poll()
    mine = {s.fileno(): s for s in (socket.socket(family(address), socket.SOCK_DGRAM) for _ in range(int(count)))}
    for number, s in enumerate(mine.values()):
        s.bind((address, int(port) + number))
        poll.register(s, select.POLLIN)
    print("up", flush=True)
    while True:
        for fd, _ in poll.poll():
            data, peer = mine[fd].recvfrom(65536)
            mine[fd].sendto(data, peer)


def ask(address, port, *sizes):
    good = []
    for connected in (False, True):
        s = make(address)
        s.settimeout(20)
        if connected:
            s.connect((address, int(port)))
        for size in map(int, sizes):
            data = os.urandom(size)
            if connected:
                s.send(data)
            else:
                s.sendto(data, (address, int(port)))
            back, peer = s.recvfrom(65536)
            good.append(back == data and peer[:2] == (address, int(port)))
    say(good=all(good), n=len(good))


def asks(address, port, count, *sizes):
    for number in range(int(count)):
        ask(address, int(port) + number, *sizes)


def flow(address, port):
    s = make(address)
    s.connect((address, int(port)))
    s.settimeout(0.05)
    sent, back, longest, last = 0, 0, 0.0, time.monotonic()
    seen, twice, told, after = set(), 0, 0, 0
    while after < FLOW_AFTER and time.monotonic() - last < 60:
        if back and not sent % 8 and not told and select.select([sys.stdin], [], [], 0)[0]:
            told = time.monotonic()
        s.send(struct.pack("!I", sent))
        sent += 1
        try:
            while True:
                number = struct.unpack("!I", s.recv(64))[0]
                twice += number in seen
                seen.add(number)
                if number == sent - 1:
                    break
        except TimeoutError:
            continue
        except ConnectionRefusedError:
            select.select([], [], [], 0.01)
            continue
        back += 1
        if back == 1:
            print("up", flush=True)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
        after += told != 0
    say(sent=sent, back=back, after=after, longest=longest, twice=twice)


def refused(address, port):
    heard = []
    s = make(address)
    s.settimeout(20)
    s.connect((address, int(port)))
    s.send(b"x")
    for call in (lambda: s.recv(10), lambda: s.recv(10)):
        s.settimeout(20 if not heard else 0.2)
        try:
            call()
            heard.append("data")
        except OSError as e:
            heard.append(type(e).__name__)
    u = make(address)
    u.settimeout(0.3)
    u.sendto(b"x", (address, int(port)))
    try:
        u.recv(10)
        heard.append("data")
    except OSError as e:
        heard.append(type(e).__name__)
    say(heard=heard)


def refusals(address, port, count):
    heard = []
    mine = [make(address) for _ in range(int(count))]
    for s in mine:
        s.settimeout(20)
        s.connect((address, int(port)))
        s.send(b"x")
    for s in mine:
        try:
            s.recv(10)
            heard.append("data")
        except OSError as e:
            heard.append(type(e).__name__)
    say(heard=heard)


def forms(address, port):
    to, out = (address, int(port)), {}
    s = make(address)
    s.settimeout(20)
    s.sendto(b"0123456789", to)
    out["peek"] = [s.recv(4, socket.MSG_PEEK).decode(), s.recv(100).decode()]
    s.sendto(b"0123456789", to)
    parts = [bytearray(3), bytearray(4)]
    n, _, flags, _ = s.recvmsg_into(parts)
    out["cut"] = [n, bytes(parts[0]).decode() + bytes(parts[1]).decode(), bool(flags & socket.MSG_TRUNC)]
    s.sendto(b"0123456789", to)
    out["trunc"] = len(s.recv(2, socket.MSG_TRUNC))
    s.settimeout(None)
    try:
        s.recv(1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        out["dontwait"] = "EAGAIN"
    s.settimeout(20)
    s.sendmsg([b"ab", b"", b"cd"], [], 0, to)
    out["gather"] = s.recv(100).decode()
    if family(address) == socket.AF_INET:
        s.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        s.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        s.sendto(b"info", to)
        _, control, _, _ = s.recvmsg(100, 256)
        out["info"] = sorted(t for _, t, _ in control)
        out["ttl"] = [struct.unpack("i", d)[0] for _, t, d in control if t == 2]
    s.sendmsg([b"A" * 250], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", 100))], 0, to)
    out["segments"] = [len(s.recv(1000)) for _ in range(3)]
    out["empty"] = [s.sendto(b"", to), len(s.recv(10))]
    try:
        s.sendto(b"x" * 65536, to)
    except OSError as e:
        out["long"] = e.errno
    say(**out)


def membership(s, group, address, level_op):
    if family(group) == socket.AF_INET:
        s.setsockopt(socket.IPPROTO_IP, level_op, socket.inet_aton(group) + socket.inet_aton(address))
    else:
        index = socket.if_nametoindex(address) if address else 0
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                     socket.inet_pton(socket.AF_INET6, group) + struct.pack("I", index))


def group(where, port, address):
    s = make("::" if family(where) == socket.AF_INET6 else "0.0.0.0", int(port))
    membership(s, where, address, socket.IP_ADD_MEMBERSHIP)
    print("joined", flush=True)
    s.settimeout(20)
    data, peer = s.recvfrom(100)
    say(data=data.decode(), peer=peer[0])


def tell(where, port, address):
    s = make(where)
    if family(where) == socket.AF_INET:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    elif address:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(address))
    while True:
        s.sendto(b"to all", (where, int(port)))
        select.select([], [], [], 0.1)


if __name__ == "__main__":
    {f.__name__: f for f in (echo, echoes, ask, asks, flow, refused, refusals, forms, group, tell)}[sys.argv[1]](*sys.argv[2:])

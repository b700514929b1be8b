#!/usr/bin/env python3
"""A DHCP server that does what a test tells it: dhcpd.py INTERFACE OWN-ADDRESS. Each line on stdin is a JSON object that
replaces its settings: offer (addresses, the next one after each NAK), lease, t1, t2 (seconds), renew (by address: "NAK", or ""
for silence, when it is to be prolonged). Until the first it says nothing. Each message that came is a JSON line on stdout,
with what was answered. Python standard library only (RFC 2131, 2132)."""
import json
import os
import select
import socket
import struct
import sys

TYPES = {1: "DISCOVER", 2: "OFFER", 3: "REQUEST", 4: "DECLINE", 5: "ACK", 6: "NAK", 7: "RELEASE"}
IP_PKTINFO, SO_BINDTODEVICE = 8, 25


def options(data):
    found, at = {}, 240
    while at < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        found[data[at]] = data[at + 2:at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return found


def answer(request, kind, own, settings, address):
    """The whole message: RFC 2131 table 3."""
    out = bytearray(request[:240])
    out[0] = 2
    out[12:28] = bytes(16)
    if kind != "NAK":
        out[16:20] = socket.inet_aton(address)
    word = {"OFFER": 2, "ACK": 5, "NAK": 6}[kind]
    more = [(53, bytes([word])), (54, socket.inet_aton(own))]
    if kind != "NAK":
        more += [(51, struct.pack("!I", settings["lease"])), (58, struct.pack("!I", settings["t1"])),
                 (59, struct.pack("!I", settings["t2"])), (1, socket.inet_aton("255.255.255.0")), (3, socket.inet_aton(own))]
    for code, value in more:
        out += bytes([code, len(value)]) + value
    return bytes(out) + b"\xff"


def told(data, destination, said, lease):
    o = options(data)
    text = {"type": TYPES.get(o[53][0]), "ciaddr": socket.inet_ntoa(data[12:16]), "to": destination, "answer": said,
            "lease": lease}
    text.update({name: socket.inet_ntoa(o[code]) for code, name in ((50, "requested"), (54, "server")) if code in o})
    print(json.dumps(text), flush=True)


def serve(interface, own):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, interface.encode())
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    s.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    s.bind(("", 67))
    settings, text, naks = {}, b"", 0
    print("up", flush=True)
    while True:
        ready = select.select([s, 0], [], [])[0]
        if 0 in ready:
            more = os.read(0, 4096)
            if not more:
                return
            *lines, text = (text + more).split(b"\n")
            settings = json.loads(lines[-1]) if lines else settings
        if s in ready:
            data, control, _, _ = s.recvmsg(2000, 256)
            destination = socket.inet_ntoa(control[0][2][8:12])
            kind = TYPES.get(options(data)[53][0])
            has = socket.inet_ntoa(data[12:16])
            said = {"DISCOVER": "OFFER", "REQUEST": settings.get("renew", {}).get(has, "ACK")}.get(kind) if settings else ""
            told(data, destination, said, settings.get("lease"))
            address = has
            if has == "0.0.0.0":
                address = socket.inet_ntoa(options(data)[50]) if kind == "REQUEST" else settings.get("offer", [None])[naks]
            naks += said == "NAK"
            if said:
                to = has if has != "0.0.0.0" and said == "ACK" else "255.255.255.255"  # RFC 2131 4.1
                s.sendto(answer(data, said, own, settings, address), (to, 68))


if __name__ == "__main__":
    serve(*sys.argv[1:])

#!/usr/bin/env python3
"""A VLAN interface for kernels that have none (8021q): vlan.py PARENT TAP ID. Makes the tap, puts the tag into what the
kernel sends on it and takes it out of what comes for it on PARENT. Segmentation and checksum requests (virtio headers)
pass both ways. Prints "ready"; runs until SIGTERM."""
import fcntl
import os
import select
import socket
import struct
import sys

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TAP_NO_PI_VNET = 0x0002 | 0x1000 | 0x4000
TUN_F_CSUM_TSO4_TSO6 = 0x01 | 0x02 | 0x04
SOL_PACKET, PACKET_AUXDATA, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 8, 15, 23
TP_STATUS_VLAN_VALID = 0x10
VNET = struct.Struct("=BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
ROOM = 70000


def tap_open(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP_NO_PI_VNET))
    fcntl.ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM_TSO4_TSO6)
    return fd


def packet_open(name):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    for option in (PACKET_VNET_HDR, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING):
        s.setsockopt(SOL_PACKET, option, 1)
    s.bind((name, 3))
    return s


def tagged_id(control):
    """The VLAN number that the kernel took out of a frame, None if there was none."""
    for level, kind, data in control:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, _ = struct.unpack("=IIIHHHH", data[:20])
            return tci & 0xFFF if status & TP_STATUS_VLAN_VALID else None
    return None


def with_tag(frame, number):
    flags, gso, hdr_len, size, start, offset = VNET.unpack_from(frame)
    head = VNET.pack(flags, gso, hdr_len + 4 if hdr_len else 0, size, start + 4 if flags else 0, offset)
    at = VNET.size + 12
    return head + frame[VNET.size:at] + struct.pack("!HH", 0x8100, number) + frame[at:]


def main(parent, name, number):
    wire, tap = packet_open(parent), tap_open(name)
    print("ready", flush=True)
    while True:
        ready = select.select([wire, tap], [], [])[0]
        if wire in ready:
            frame, control, _, _ = wire.recvmsg(ROOM, 256)
            if tagged_id(control) == number:
                try:
                    os.write(tap, frame)
                except OSError:
                    pass  # the tap is down
        if tap in ready:
            wire.send(with_tag(os.read(tap, ROOM), number))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

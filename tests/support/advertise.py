#!/usr/bin/env python3
"""One router advertisement (RFC 4861 4.2): advertise.py INTERFACE LIFETIME [PREFIX/VALID/PREFERRED ...]. The prefixes have
64 bits and both flags, on-link and for autoconfiguration; times are seconds. Needs root."""
import socket
import struct
import sys


def prefix_option(text):
    prefix, valid, preferred = text.split("/")
    return struct.pack("!BBBBIII", 3, 4, 64, 0xC0, int(valid), int(preferred), 0) + socket.inet_pton(socket.AF_INET6, prefix)


def main(interface, lifetime, *prefixes):
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    index = socket.if_nametoindex(interface)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    with open(f"/sys/class/net/{interface}/address", encoding="ascii") as f:
        mac = bytes.fromhex(f.read().strip().replace(":", ""))
    head = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, int(lifetime), 0, 0)
    message = head + struct.pack("!BB", 1, 1) + mac + b"".join(map(prefix_option, prefixes))
    s.sendto(message, ("ff02::1", 0, 0, index))


if __name__ == "__main__":
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""One TCP connection that does as it is told, for tests: hold.py serve|connect ADDRESS PORT. Says "open" once it is;
then a word a line on stdin: close, shut (SHUT_WR), reset (close with linger 0); each is answered with "did WORD"."""
import socket
import struct
import sys


def opened(mode, address, port):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    if mode == "connect":
        print("connecting", flush=True)
        s.connect((address, port))
        return s
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    s.listen(5)
    return s.accept()[0]


def main(mode, address, port):
    s = opened(mode, address, port)
    print("open", flush=True)
    for line in sys.stdin:
        word = line.strip()
        if word == "shut":
            s.shutdown(socket.SHUT_WR)
        elif word == "reset":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
        elif word == "close":
            s.close()
        print(f"did {word}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

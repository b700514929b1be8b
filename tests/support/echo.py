#!/usr/bin/env python3
"""Echo over TCP for tests, run as a program of its own on either side.

echo.py serve ADDRESS PORT           echoes on every connection, a thread each, until SIGTERM
echo.py forks ADDRESS PORT           likewise, a process each; prints its process id, then "served" for each child
echo.py talk ADDRESS PORT BYTES N    N connections in turn, each sends BYTES and expects them back, then an end of file
echo.py churn ADDRESS PORT SECONDS   connects, says a little and closes, over and over; prints how often. A connection
                                     that failed is an error, time that the stack needed is not. SECONDS 0: prints
                                     "begun" after the first one, goes on until the end of stdin
echo.py idle ADDRESS PORT N          N connections held open; a line on stdin makes each say something and check
"""
import hashlib
import os
import socket
import socketserver
import sys
import threading
import time

TIMEOUT = 30


def address_family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def echo(conn):
    with conn:
        try:
            while data := conn.recv(65536):
                conn.sendall(data)
        except OSError as e:
            print(f"echo: {e}", flush=True)


def serve(address, port):
    s = socket.socket(address_family(address), socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    s.listen(128)
    print("listening", flush=True)
    while True:
        conn, _ = s.accept()
        threading.Thread(target=echo, args=(conn,), daemon=True).start()


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Forks(socketserver.ForkingTCPServer):
    allow_reuse_address = True
    request_queue_size = 64

    def process_request(self, request, client_address):
        super().process_request(request, client_address)
        print("served", flush=True)


def forks(address, port):
    print("pid", os.getpid(), flush=True)
    Forks((address, port), Echo).serve_forever()


def open_to(address, port):
    s = socket.socket(address_family(address), socket.SOCK_STREAM)
    s.settimeout(TIMEOUT)
    s.connect((address, port))
    return s


def receive(s, n):
    parts = []
    while n:
        data = s.recv(min(n, 65536))
        if not data:
            raise EOFError(f"end of file, {n} bytes are missing")
        parts.append(data)
        n -= len(data)
    return b"".join(parts)


def talk(address, port, size, count):
    for _ in range(count):
        data = os.urandom(size)
        with open_to(address, port) as s:
            local, remote = s.getsockname()[0], s.getpeername()[0]
            sender = threading.Thread(target=s.sendall, args=(data,))
            sender.start()
            back = receive(s, size)
            sender.join()
            s.shutdown(socket.SHUT_WR)
            if hashlib.sha256(back).digest() != hashlib.sha256(data).digest():
                sys.exit("what came back is not what was sent")
            if s.recv(1):
                sys.exit("more came back than was sent")
    print(f"equal {local} {remote}")


def churn(address, port, seconds):
    count, deadline, longest = 0, time.monotonic() + seconds, 0.0
    told = threading.Event()
    if seconds == 0:
        threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
    while not told.is_set() if seconds == 0 else time.monotonic() < deadline:
        start = time.monotonic()
        with open_to(address, port) as s:
            word = os.urandom(100)
            s.sendall(word)
            if receive(s, 100) != word:
                sys.exit("what came back is not what was sent")
        longest = max(longest, time.monotonic() - start)
        count += 1
        if seconds == 0 and count == 1:
            print("begun", flush=True)
    print(f"{count} connections, longest {longest * 1000:.0f} ms")


def idle(address, port, count):
    held = [open_to(address, port) for _ in range(count)]
    print("open", flush=True)
    for _ in sys.stdin:
        for s in held:
            word = os.urandom(1000)
            s.sendall(word)
            if receive(s, 1000) != word:
                sys.exit("what came back is not what was sent")
        print("alive", flush=True)


if __name__ == "__main__":
    what, where, number, *more = sys.argv[1:]
    {"serve": serve, "forks": forks, "talk": talk, "churn": churn, "idle": idle}[what](where, int(number), *[int(m) for m in more])

"""Clients of tests/net/peers.c on the kernel: `peers_tool.py ADDRESS PORT PEERS ROUNDS PATIENCE`. PEERS sockets at once, each
sends its next line when the answer to the last one is there; after PATIENCE seconds of silence it is sent again. Prints
"half" when half of the rounds are over, and goes on when it is told to; at the end a JSON line: the counts that the answers
to the last round had, how many answers were to somebody else, how often a count fell."""
import json
import select
import socket
import sys

address, port, peers, rounds, patience = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
socks = [socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) for _ in range(peers)]
count, wrong, fell = [0] * peers, 0, 0
for s in socks:
    s.connect((address, port))
    s.setblocking(False)


def ask(number, turn):
    try:
        socks[number].send(f"{number}.{turn}".encode())
    except ConnectionRefusedError:
        pass  # of an earlier one; sent again


for turn in range(rounds):
    if turn == rounds // 2:
        print("half", flush=True)
        sys.stdin.readline()
    waiting = set(range(peers))
    for number in waiting:
        ask(number, turn)
    while waiting:
        ready, _, _ = select.select([socks[n] for n in waiting], [], [], patience)
        for s in ready:
            number = socks.index(s)
            try:
                n, text = s.recv(2000).decode().split(" ")
            except ConnectionRefusedError:
                continue
            wrong += text.split(".")[0] != str(number)
            fell += int(n) <= count[number]
            count[number] = int(n)
            if text == f"{number}.{turn}":
                waiting.discard(number)
        if not ready:
            for number in waiting:
                ask(number, turn)
for s in socks:
    try:
        s.send(b"bye")
    except ConnectionRefusedError:
        s.send(b"bye")  # that was of an earlier one, and told once
print(json.dumps({"count": count, "wrong": wrong, "fell": fell}), flush=True)

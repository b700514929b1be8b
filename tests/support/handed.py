"""A server whose connections go from thread to thread, and the load on it: `handed.py ROLE ADDRESS PORT COUNT`.

serve  one thread accepts and greets; COUNT threads serve, each with an epoll set of its own; after each piece a
       connection moves to the next one's set, with whatever is unread and unsent. Says how much each has served
       whenever it accepts.
load   COUNT connections with up to 64 KB on their way in each, every byte compared; "go" on standard input: says
       "advanced" once each has moved on by 20 KB. Ends with standard input.
"""
import json
import select
import socket
import sys
import threading

GREETING = b"hello "
PIECE, FLIGHT, STEP = 1000, 65536, 20000
CYCLE = bytes(range(251)) * 40


def serve(address, port, count):
    sets = [select.epoll() for _ in range(count)]
    conns, served = {}, [0] * count

    def work(me):
        while True:
            for fd, _ in sets[me].poll():
                sets[me].unregister(fd)
                try:
                    data = conns[fd].recv(PIECE)
                    conns[fd].sendall(data)
                except OSError as e:  # the load's end, with bytes on their way both ways
                    data = print(f"ended: {e}\n", end="", flush=True)  # one write: a thread's line stays whole
                if not data:
                    conns.pop(fd).close()
                    continue
                served[me] += 1
                sets[(me + 1) % count].register(fd, select.EPOLLIN)

    for me in range(count):
        threading.Thread(target=work, args=(me,), daemon=True).start()
    listener = socket.create_server((address, port), backlog=64)
    print("up", flush=True)
    while True:
        conn = listener.accept()[0]
        conn.sendall(GREETING)
        print(f"{json.dumps(served)}\n", end="", flush=True)
        conns[conn.fileno()] = conn
        sets[conn.fileno() % count].register(conn.fileno(), select.EPOLLIN)


class Load:
    def __init__(self, address, port, number):
        self.sock = socket.create_connection((address, port))
        self.sock.setblocking(False)
        self.sent = self.got = self.mark = number
        self.greeting = GREETING

    def wants(self):
        return select.POLLIN | (select.POLLOUT if self.sent - self.got < FLIGHT else 0)

    def step(self, events):
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            data = self.sock.recv(65536)
            hello, self.greeting = self.greeting[:len(data)], self.greeting[len(data):]
            assert data and data.startswith(hello), "ended, or no greeting"
            data = data[len(hello):]
            while data:
                at = self.got % 251
                part = data[:len(CYCLE) - at]
                assert part == CYCLE[at:at + len(part)], f"wrong byte near {self.got}"
                self.got += len(part)
                data = data[len(part):]
        elif events & select.POLLOUT:
            at = self.sent % 251
            self.sent += self.sock.send(CYCLE[at:at + 8000])


def load(address, port, count):
    loads = {one.sock.fileno(): one for one in (Load(address, port, n) for n in range(count))}
    asked = 0
    print("open", flush=True)
    while True:
        poll = select.poll()
        poll.register(0, select.POLLIN)
        for fd, one in loads.items():
            poll.register(fd, one.wants())
        for fd, events in poll.poll():
            if fd != 0:
                loads[fd].step(events)
            elif not sys.stdin.buffer.raw.read(100):
                for one in loads.values():
                    one.sock.close()
                return socket.create_connection((address, port)).close()  # after which the server says what it has done
            else:
                asked = 1
                for one in loads.values():
                    one.mark = one.got + STEP
        if asked and all(one.got >= one.mark for one in loads.values()):
            asked = 0
            print("advanced", flush=True)


if __name__ == "__main__":
    {"serve": serve, "load": load}[sys.argv[1]](sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

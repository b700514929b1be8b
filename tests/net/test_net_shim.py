#!/usr/bin/env python3
"""The table of programs: servers with threads and forks, TLS, measuring tools, programs that end in the middle, and
those that the shim cannot hold. Servers and clients against the kernel's, and both on the stack (cut-through)."""
import base64
import hashlib
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from filecase import FileCase  # noqa: E402
from netns import run  # noqa: E402
from table import row  # noqa: E402
from wait import wait_for  # noqa: E402

PAIRS = (("app", "peer"), ("peer", "app"), ("app", "app"))
ECHO = os.path.join(os.path.dirname(sys.path[0]), "support", "echo.py")
HANDED = """
import queue, socket, sys, threading
waiting = queue.Queue()
def serve():
    while True:
        conn = waiting.get()
        while data := conn.recv(65536):
            conn.sendall(data)
        conn.close()
for _ in range(3):
    threading.Thread(target=serve, daemon=True).start()
s = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=64)
while True:
    waiting.put(s.accept()[0])
"""
KEEPER = """
import hashlib, socket, sys, threading
wrong = []
def keep(me):
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 60) as s, s.makefile("rwb") as f:
        for i in range(40):
            value = hashlib.sha256(b"%d %d" % (me, i)).digest() * (1 << i % 12)
            key = b"%d-%d" % (me, i % 7)
            f.write(b"set %s 0 0 %d\\r\\n%s\\r\\nget %s\\r\\n" % (key, len(value), value, key))
            f.flush()
            want = b"STORED\\r\\nVALUE %s 0 %d\\r\\n%s\\r\\nEND\\r\\n" % (key, len(value), value)
            if f.read(len(want)) != want:
                wrong.append((me, i))
        done.append(me)
done = []
threads = [threading.Thread(target=keep, args=(me,)) for me in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("wrong", wrong, "done", len(done), flush=True)
"""
SPAWNING = """
import socket, subprocess, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=64)
running = []
while True:
    conn = s.accept()[0]
    running.append(subprocess.Popen(["cat"], stdin=conn, stdout=conn))
    conn.close()
    running = [r for r in running if r.poll() is None]
"""
# A child for each connection, which makes a set of its own, as PostgreSQL's do; the library takes no low number meanwhile.
FORKS_EPOLL = """
import os, select, signal, socket, sys
def free():
    number = os.dup(0)
    os.close(number)
    return number
def serve(conn, edge):
    conn.setblocking(False)
    out, ended, events = b"", False, None
    with select.epoll() as ep:
        ep.register(conn, select.EPOLLOUT)
        ep.modify(conn, select.EPOLLIN | select.EPOLLOUT | edge if edge else select.EPOLLIN)
        low = free()
        while not ended or out:
            ep.poll(maxevents=1)
            assert free() == low, (free(), low)
            try:
                while data := conn.recv(65536):
                    out += data
                ended = True
            except BlockingIOError:
                pass
            try:
                while out:
                    out = out[conn.send(out):]
            except BlockingIOError:
                pass
            if not edge:
                ep.modify(conn, (0 if ended else select.EPOLLIN) | (select.EPOLLOUT if out else 0))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
s, n = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=64), 0
while True:
    conn, n = s.accept()[0], n + 1
    if os.fork() == 0:
        s.close()
        serve(conn, select.EPOLLET if n % 2 else 0)
        os._exit(0)
    conn.close()
"""
WAITS = """
import select, socket, subprocess, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
print("bound", flush=True)
while True:
    select.select([s], [], [])
    subprocess.run([sys.executable, "-c", sys.argv[3]], stdin=s, check=True)
"""
SERVES = """
import select, socket
s = socket.socket(fileno=0)
assert (s.family, s.type) == (socket.AF_INET, socket.SOCK_DGRAM)
while select.select([s], [], [], 0.1)[0]:
    data, who = s.recvfrom(65536)
    s.sendto(data[::-1], who)
"""
ASKS = """
import os, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], int(sys.argv[2])))
s.settimeout(1)
for i in range(30):
    data = i.to_bytes(4, "big") + os.urandom(1 + i * 40)
    for _ in range(20):  # a datagram may be lost while a service is away, as over any network
        try:
            s.send(data)
            while (got := s.recv(65536))[::-1][:4] != data[:4]:
                pass
            break
        except TimeoutError:
            continue
    assert got[::-1] == data
print("answered")
"""
WHO = """
import socket, sys
s = socket.socket(fileno=0)
s.sendall(f"{s.getpeername()[0]} {s.getpeername()[1]} {s.getsockname()[0]} {s.getsockname()[1]}".encode())
"""
ASK_WHO = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
want = " ".join(str(w) for w in (*s.getsockname(), *s.getpeername()))
got = b""
while data := s.recv(1000):
    got += data
print("right" if got.decode() == want else f"{want}, not {got}")
"""
MEET = """
import hashlib, socket, sys
def meet():
    to = (sys.argv[2], int(sys.argv[3]))
    return socket.create_server(to).accept()[0] if sys.argv[1] == "accept" else socket.create_connection(to)
"""
LEAVER = MEET + """
s = meet()
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
s.setblocking(False)
data, at = open(sys.argv[4], "rb").read(), 0
try:
    while at < len(data):
        at += s.send(data[at:])
except BlockingIOError:
    pass
s.close()
print(at)
"""
SLOW_READER = MEET + """
conn = meet()
sys.stdin.readline()
digest, n = hashlib.sha256(), 0
while data := conn.recv(65536):
    digest.update(data)
    n += len(data)
print(n, digest.hexdigest(), flush=True)
"""
LOOPBACK_C = """
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof(a);
  char got[6] = "";
  int s = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(s, (void *)&a, len) || listen(s, 1) || getsockname(s, (void *)&a, &len) || connect(c, (void *)&a, len))
    return 1;
  int p = accept(s, 0, 0);
  return write(c, "hello", 5) != 5 || read(p, got, 5) != 5 || strcmp(got, "hello") != 0;
}
"""
GO_NOTE_C = r"""
__asm__(".section .note.go.buildid, \"a\", @note\n.long 4, 4, 4\n.asciz \"Go\\0\"\n.long 0\n.text\n");
int main(void) { return 0; }
"""


class Shim(FileCase):
    port = 10400

    def serve(self, where, client, *argv, port=None, address=None):
        """Starts a server; argv holds ADDRESS and PORT as words to be replaced. Returns program, address, port."""
        port, address = port or self.next_port(), address or programs.address_of(where, client)
        words = [str(a).replace("ADDRESS", address).replace("PORT", str(port)) for a in argv]
        program = self.lab.spawn(where, words)
        programs.wait_listening(self.lab, where, port)
        return program, address, port

    def pairs(self, *argv):
        for server, client in PAIRS:
            yield (client, *self.serve(server, client, *argv))

    def echo_checked(self, client, address, port):
        """Five connections one after the other and three at once, every byte compared."""
        argv = [programs.PYTHON, ECHO, "talk", address, port, 300000, 5]
        talks = [self.lab.spawn(client, argv) for _ in range(3)]
        for talk in talks:
            self.assertEqual(talk.wait(120), 0, talk.output())
            self.assertIn("equal", talk.output())

    # --- servers with threads and children ---

    @row("memcached -t 4", "both",
         "memccapable's protocol checks; beside memcslap with 8 threads 320 values of up to 64 kB over 8 connections, compared")
    def test_memcached(self):
        for client, _, address, port in self.pairs("memcached", "-u", "nobody", "-t", 4, "-l", "ADDRESS", "-p", "PORT"):
            done = self.lab.run(client, ["memccapable", "-h", address, "-p", port], 150)
            self.assertNotIn(b"[FAIL]", done.stdout + done.stderr)
            slap = self.lab.spawn(client, ["memcslap", f"--servers={address}:{port}", "--concurrency=8", "--execute-number=100"])
            kept = self.lab.run(client, [programs.PYTHON, "-c", KEEPER, address, port], 150)
            self.assertEqual(kept.stdout, b"wrong [] done 8\n")
            self.assertEqual(slap.wait(150), 0, slap.output())

    @row("redis-server with io-threads, redis-benchmark --threads", "both",
         "20 connections, pipelined too; a value of 64 kB back")
    def test_redis_threads(self):
        for client, _, address, port in self.pairs(
                "redis-server", "--port", "PORT", "--save", "", "--appendonly", "no", "--protected-mode", "no", "--io-threads",
                3, "--io-threads-do-reads", "yes", "--dir", self.lab.world.app_dir, "--bind", "ADDRESS"):
            cli = ["redis-cli", "-h", address, "-p", port]
            value = hashlib.sha256(str(port).encode()).hexdigest() * 1000
            self.assertEqual(self.lab.run(client, cli + ["set", "key", value]).stdout, b"OK\n")
            self.assertEqual(self.lab.run(client, cli + ["get", "key"]).stdout.decode().strip(), value)
            for more in ([], ["-P", 16]):
                done = self.lab.run(client, ["redis-benchmark", "-h", address, "-p", port, "-t", "set,get", "-n", 2000, "-c", 20,
                                             "--threads", 2, "-q", *more], 150)
                self.assertIn(b"requests per second", done.stdout)

    @row("python3 ForkingTCPServer", "server", "a child for each connection, 15 connections, 300 kB each echoed and compared")
    def test_forking(self):
        for client in ("peer", "app"):
            _, address, port = self.serve("app", client, programs.PYTHON, ECHO, "forks", "ADDRESS", "PORT")
            self.echo_checked(client, address, port)

    @row("a child for each connection, with an epoll set of its own", "server",
         "level and edge triggered, 15 connections, 300 kB each echoed and compared")
    def test_forking_epoll(self):
        for client in ("peer", "app"):
            _, address, port = self.serve("app", client, programs.PYTHON, "-c", FORKS_EPOLL, "ADDRESS", "PORT")
            self.echo_checked(client, address, port)

    @row("accept in one thread, serve in another", "server", "three serving threads, 15 connections echoed and compared")
    def test_handed(self):
        for client in ("peer", "app"):
            _, address, port = self.serve("app", client, programs.PYTHON, "-c", HANDED, "ADDRESS", "PORT")
            self.echo_checked(client, address, port)

    @row("inetd style: a server that accepts, forks and executes", "server",
         "cat for each of 20 connections, echoed and compared; a program that asks for both addresses")
    def test_inetd(self):
        for client in ("peer", "app"):
            _, address, port = self.serve("app", client, programs.PYTHON, "-c", programs.INETD, "ADDRESS", "PORT", "cat")
            self.echo_checked(client, address, port)
            _, address, port = self.serve("app", client, programs.PYTHON, "-c", programs.INETD, "ADDRESS", "PORT",
                                           programs.PYTHON, "-c", WHO)
            done = self.lab.run(client, [programs.PYTHON, "-c", ASK_WHO, address, port])
            self.assertIn(b"right", done.stdout)
        _, address, port = self.serve("app", "peer", "socat", "TCP4-LISTEN:PORT,bind=ADDRESS,fork,reuseaddr", "EXEC:cat,nofork")
        self.echo_checked("peer", address, port)

    @row("inetd style, datagrams, wait: a server that executes who reads and answers", "server",
         "30 datagrams, answers compared, by a program that ends when nothing comes; again after the engine's death")
    def test_inetd_wait(self):
        address, port = programs.address_of("app", "peer"), self.next_port()
        server = self.lab.spawn("app", [programs.PYTHON, "-c", WAITS, address, port, SERVES])
        wait_for(lambda: "bound" in server.output(), 20, "the server")
        for _ in range(2):
            done = self.lab.peer([programs.PYTHON, "-c", ASKS, address, port], timeout=150)
            self.assertIn(b"answered", done.stdout)
            self.lab.wait_service("engine", self.lab.kill_service("engine"))

    @row("python3 subprocess, which is vfork", "server", "cat for each of 15 connections, echoed and compared")
    def test_subprocess(self):
        _, address, port = self.serve("app", "peer", programs.PYTHON, "-c", SPAWNING, "ADDRESS", "PORT")
        self.echo_checked("peer", address, port)

    @row("socat with fork", "both",
         "a child and a cat for each connection, echoed and compared; as client 5 MB, and four at once that get theirs back, sha256")
    def test_socat(self):
        for client in ("peer", "app"):
            _, address, port = self.serve("app", client, "socat", "TCP4-LISTEN:PORT,bind=ADDRESS,fork,reuseaddr", "EXEC:cat")
            self.echo_checked(client, address, port)
        got = os.path.join(self.lab.world.app_dir, "socat-got")
        for server in ("peer", "app"):
            receiver, address, port = self.serve(server, "app", "socat", "-u", "TCP4-LISTEN:PORT,bind=ADDRESS", f"CREATE:{got}")
            self.lab.app(["socat", "-u", f"OPEN:{self.big}", f"TCP4:{address}:{port}"])
            receiver.wait(60)
            self.assertEqual(programs.sha256(got), self.sha)
            os.unlink(got)
            _, address, port = self.serve(server, "app", programs.PYTHON, ECHO, "serve", "ADDRESS", "PORT")
            asks = [self.lab.spawn("app", ["sh", "-c", f"exec socat -t 60 - TCP4:{address}:{port} <{self.big} | sha256sum"])
                    for _ in range(4)]
            for ask in asks:
                self.assertEqual((ask.wait(150), ask.output().split()[:1]), (0, [self.sha]))

    @row("netcat", "both", "5 MB, sha256")
    def test_netcat(self):
        for client, server, address, port in self.pairs("nc", "-l", "ADDRESS", "PORT"):
            self.lab.run(client, ["sh", "-c", f"exec nc -N {address} {port} <{self.big}"])
            server.wait(60)
            self.assertEqual(programs.sha256(server.log), self.sha)

    # --- TLS ---

    @row("openssl s_server, s_client", "both", "a file of 5 MB by HTTP over TLS to each of four clients at once, sha256")
    def test_openssl(self):
        key = os.path.join(self.root, "key.pem")
        run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", key, "-out", key + ".crt"])
        os.chmod(key, 0o644)
        with open(os.path.join(self.lab.world.app_dir, "tls-big"), "wb") as f, open(self.big, "rb") as big:
            f.write(base64.encodebytes(big.read()))
        want = programs.sha256(f.name)
        for client, _, address, port in self.pairs("openssl", "s_server", "-quiet", "-key", key, "-cert", key + ".crt", "-WWW",
                                                   "-accept", "ADDRESS:PORT"):
            asks = [self.lab.spawn(client, ["sh", "-c", f"printf 'GET /tls-big HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet "
                                            f"-connect {address}:{port} 2>/dev/null | sed '1,/^\\r$/d' | sha256sum"])
                    for _ in range(4)]
            for ask in asks:
                self.assertEqual((ask.wait(150), ask.output().split()[:1]), (0, [want]))

    # --- measuring tools ---

    @row("iperf3, also -R, --bidir, -P 16, -Z, -u", "both", "a second of each; bytes have to arrive")
    def test_iperf3(self):
        for more in (["-R"], ["--bidir"], ["-P", 16], ["-Z"], ["-u", "-b", "20M"]):
            for client, server, address, port in self.pairs("iperf3", "-s", "-1", "-p", "PORT"):
                with self.subTest(more=more):
                    done = self.lab.run(client, ["iperf3", "-J", "-c", address, "-p", port, "-t", 1, *more], 150)
                    server.wait(60)
                    end = json.loads(done.stdout)["end"]
                    for name in ("sum_received", "sum_received_bidir_reverse") if "--bidir" in more else ("sum_received",):
                        self.assertGreater(end[name]["bytes"], 100000)

    @row("sockperf", "both", "ping-pong over TCP and UDP: every message is answered, its bytes compared")
    def test_sockperf(self):
        for more in (["--tcp"], []):
            for server, client in PAIRS:
                with self.subTest(server=server, client=client, more=more):
                    port, address = self.next_port(), programs.address_of(server, client)
                    self.lab.spawn(server, ["sockperf", "server", "-i", address, "-p", port, *more])
                    if server == "app":
                        self.lab.wait_listening(port)
                    else:
                        ports = ["cat", "/proc/net/tcp", "/proc/net/udp"]
                        wait_for(lambda p=port: f":{p:04X} " in self.lab.peer(ports).stdout.decode(), 20, "sockperf")
                    for _ in range(3):  # what comes after its own time-out, on a busy machine, it calls dropped
                        done = self.lab.run(client, ["sockperf", "ping-pong", "-i", address, "-p", port, "-t", 1,
                                                     "--data-integrity", "-m", 200, "--mps", 10000, *more], 150)  # its table
                        # ends at 600 000 a second
                        if b"# dropped messages = 0;" in done.stdout:
                            break
                    self.assertIn(b"Summary: Latency", done.stdout)
                    self.assertIn(b"# dropped messages = 0; # duplicated messages = 0; # out-of-order messages = 0", done.stdout)

    # --- programs that end in the middle ---

    @row("one that writes, closes and exits", "both", "megabytes unsent at exit; all of them arrive, sha256")
    def test_leaver(self):
        path = os.path.join(self.root, "leave")
        programs.random_file(path, 8_000_000)
        for leaves, server, client in (("client", "peer", "app"), ("client", "app", "app"), ("server", "app", "peer"),
                                       ("server", "app", "app")):
            with self.subTest(leaves=leaves, server=server, client=client):
                port, address = self.next_port(), programs.address_of(server, client)
                leaver = [programs.PYTHON, "-c", LEAVER, "accept" if leaves == "server" else "connect", address, port, path]
                reader = [programs.PYTHON, "-c", SLOW_READER, "accept" if leaves == "client" else "connect", address, port]
                there = self.lab.spawn(server, leaver if leaves == "server" else reader, stdin=subprocess.PIPE)
                programs.wait_listening(self.lab, server, port)
                here = self.lab.spawn(client, leaver if leaves == "client" else reader, stdin=subprocess.PIPE)
                gone, left = (there, here) if leaves == "server" else (here, there)
                self.assertEqual(gone.wait(120), 0, gone.output())
                sent = int(gone.output())
                self.assertGreater(sent, 100000)
                left.popen.stdin.write(b"go\n")
                left.popen.stdin.flush()
                left.wait(120)
                with open(path, "rb") as f:
                    want = hashlib.sha256(f.read(sent)).hexdigest()
                print(f"the {leaves} left with {sent} bytes, {server} to {client}")
                self.assertEqual(left.output().split(), [str(sent), want])

    # --- those that the shim cannot hold ---

    def build(self, name, text, *more):
        path = os.path.join(self.lab.world.app_dir, name)
        with open(path + ".c", "w", encoding="ascii") as f:
            f.write(text)
        run(["gcc", "-O1", *more, "-o", path, path + ".c"], 150)
        return path

    @row("a static program, as Go's are", "kernel", "runs on the kernel as without the shim; the broker never hears of it; with "
         "LDP_DEBUG the program that executes it says so")
    def test_static(self):
        path = self.build("loop", LOOPBACK_C, "-static")
        script = self.lab.write_config("loop.sh", f"#!{path}\n")
        os.chmod(script, 0o755)
        debug = {"env": {"LDP_DEBUG": "1"}}
        self.lab.app([path], **debug)
        spawn = f"import subprocess; subprocess.run(['{path}'], check=True)"
        for argv in (["sh", "-c", f"{path}; true"], ["sh", "-c", f"cd {os.path.dirname(path)}; PATH=:$PATH; exec loop"],
                     ["sh", "-c", f"exec {script}"], [programs.PYTHON, "-c", spawn]):
            said = self.lab.app(argv, **debug).stderr.decode()
            self.assertRegex(said, r"ldp\[\d+\]: \S*loop\S*: it is static, .*: all its sockets are the kernel's\n", argv)
        said = self.lab.app(["sh", "-c", "env -u LD_PRELOAD true; exec true"], **debug).stderr.decode()
        self.assertNotIn("static", said)
        said = self.lab.app([programs.PYTHON, "-c", "import os; os.execve('/bin/true', ['true'], {})"], **debug).stderr.decode()
        self.assertRegex(said, "/bin/true: its environment has no LD_PRELOAD: all its sockets are the kernel's\n")
        self.assertNotIn("loop", [app["name"] for app in self.lab.show("app")["apps"]["app"]])

    def test_go(self):
        """A program with cgo is loaded with us, but makes system calls of its own. What tells it is its build id."""
        said = self.lab.app([self.build("gopher", GO_NOTE_C)], env={"LDP_DEBUG": "1"}).stderr.decode()
        self.assertRegex(said, r"ldp\[\d+\]: gopher is a Go program, .*: all its sockets are the kernel's\n")


if __name__ == "__main__":
    netcase.main()

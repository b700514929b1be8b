#!/usr/bin/env python3
"""Unmodified programs under the preload shim, as server and as client, against the same programs on the kernel's TCP:
iperf3, nginx and curl, redis, Python's http.server and urllib. What they carry is checked, not only that they run."""
import hashlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from filecase import FileCase  # noqa: E402
from netns import ProgramFailed  # noqa: E402
from stack import PEER4, PEER6, STACK4, STACK6  # noqa: E402
from table import row  # noqa: E402
from wait import wait_for  # noqa: E402

BOTH = (("app", "peer"), ("peer", "app"))
URLLIB = """
import hashlib, sys, urllib.request
for url in sys.argv[1:]:
    with urllib.request.urlopen(url, timeout=20) as r:
        print(r.status, hashlib.sha256(r.read()).hexdigest())
"""
# as requests with a pool: threads, each asks again and again over one kept connection
KEPT = """
import hashlib, http.client, os, sys, threading
good = []
def ask():
    conn = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=20)
    for n in (0, 1, 1460, 70000, 400000) * 3:
        body = os.urandom(n)
        conn.request("PUT", "/x", body, {"Content-Length": str(n)})
        answer = conn.getresponse()
        if answer.status != 200 or answer.read().decode() != hashlib.sha256(body).hexdigest():
            return
        port.setdefault(conn.sock.getsockname()[1], []).append(n)
    good.append(1)
port = {}
threads = [threading.Thread(target=ask) for _ in range(6)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(len(good), len(port))
"""
UPLOAD = """
import hashlib, http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_PUT(self):
        left, digest = int(self.headers["Content-Length"]), hashlib.sha256()
        while left:
            data = self.rfile.read(min(left, 1 << 16))
            digest.update(data)
            left -= len(data)
        body = digest.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""


class Programs(FileCase):
    SIZE = 20_000_000
    port = 9000

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.small = {f"small{n}": programs.random_file(os.path.join(cls.root, f"small{n}"), n) for n in (0, 1, 1460, 70000)}

    # --- iperf3 ---

    def test_iperf3(self):
        for server, client in BOTH:
            for reverse, streams in ((False, 1), (True, 1), (False, 4)):
                with self.subTest(server=server, reverse=reverse, streams=streams):
                    rate = programs.iperf3(self.lab, server, client, 1, self.next_port(), reverse, streams)
                    print(f"iperf3 server {server} reverse {reverse} streams {streams}: {rate:.2f} Gbit/s")
                    self.assertGreater(rate, 0.001)

    def test_iperf3_refused(self):
        done = self.lab.app(["iperf3", "-c", PEER4, "-p", self.next_port(), "-t", 1], check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"refused", done.stdout + done.stderr)

    # --- nginx and curl ---

    def test_nginx_curl(self):
        for server, client in BOTH:
            port = self.next_port()
            programs.nginx(self.lab, server, self.root, port)
            with self.subTest(server=server):
                for _ in range(3):
                    self.fetch(server, client, port)

    def test_nginx_keepalive(self):
        """Four files and a constant over one connection, in turn."""
        for server, client in BOTH:
            port = self.next_port()
            programs.nginx(self.lab, server, self.root, port)
            with self.subTest(server=server):
                argv = ["curl", "-sS", "--max-time", 30, "-w", "%{num_connects}\\n"]
                for name in self.small:
                    argv += ["-o", os.path.join(self.root, f"{server}-{name}"), programs.url(server, client, name, port)]
                argv += ["-o", "/dev/null", programs.url(server, client, "hello", port)]
                done = self.lab.run(client, argv)
                self.assertEqual(done.stdout.decode().split(), ["1", "0", "0", "0", "0"])
                for name, sha in self.small.items():
                    self.assertEqual(programs.sha256(os.path.join(self.root, f"{server}-{name}")), sha)

    @row("nginx, curl -Z", "server", "32 connections at once to one worker, sha256")
    def test_nginx_parallel(self):
        """32 connections at once to one worker."""
        port = self.next_port()
        programs.nginx(self.lab, "app", self.root, port)
        argv = ["curl", "-sS", "--max-time", 60, "-Z", "--parallel-max", 32, "--parallel-immediate"]
        paths = [os.path.join(self.root, f"par{n}") for n in range(32)]
        for path in paths:
            argv += ["-o", path, programs.url("app", "peer", "small70000", port)]
        self.lab.peer(argv, 90)
        for path in paths:
            self.assertEqual(programs.sha256(path), self.small["small70000"])

    def test_nginx_as_root(self):
        """The master is root, the worker another user: the listener is inherited over fork and setuid."""
        port = self.next_port()
        programs.nginx(self.lab, "app", self.root, port, uid=0)
        self.fetch("app", "peer", port)

    def test_nginx_stops(self):
        """SIGQUIT ends master and worker; the listener goes and a new nginx can take its place."""
        port = self.next_port()
        for _ in range(2):
            server = programs.nginx(self.lab, "app", self.root, port)
            self.fetch("app", "peer", port)
            server.popen.send_signal(3)
            self.assertEqual(server.wait(60), 0)
            wait_for(lambda: not any(l.endswith(f":{port}") for l, _ in self.lab.listeners()), 20, "the listener is gone")
            os.rename(server.home, f"{server.home}-{server.pid}")

    @row("curl", "client", "20 MB put to python3 http.server, sha256")
    def test_curl_upload(self):
        for server, client in BOTH:
            port = self.next_port()
            address = programs.address_of(server, client)
            self.lab.spawn(server, [programs.PYTHON, "-u", "-c", UPLOAD, address, port])
            programs.wait_listening(self.lab, server, port)
            with self.subTest(server=server):
                done = self.lab.run(client, ["curl", "-sS", "--max-time", 60, "-T", self.big,
                                             f"http://{address}:{port}/up"], 150)
                self.assertEqual(done.stdout.decode(), self.sha)

    def test_curl_refused(self):
        for client, address in (("app", PEER4), ("app", f"[{PEER6}]"), ("peer", STACK4), ("peer", f"[{STACK6}]")):
            done = self.lab.run(client, ["curl", "-sS", "--max-time", 20, f"http://{address}:9/"], check=False)
            self.assertEqual((client, address, done.returncode), (client, address, 7))

    # --- redis ---

    def redis(self, where, port):
        server = self.lab.spawn(where, ["redis-server", "--port", port, "--save", "", "--appendonly", "no",
                                        "--protected-mode", "no", "--dir", self.lab.world.app_dir,
                                        "--bind", STACK4 if where == "app" else "0.0.0.0"])
        programs.wait_listening(self.lab, where, port)
        return server

    @row("redis-server, redis-cli, redis-benchmark", "both", "20 connections, pipelined too; a value of 64 kB back")
    def test_redis(self):
        for server, client in BOTH:
            port, address = self.next_port(), programs.address_of(server, client)
            running = self.redis(server, port)
            cli = ["redis-cli", "-h", address, "-p", port]
            with self.subTest(server=server):
                self.assertEqual(self.lab.run(client, cli + ["ping"]).stdout, b"PONG\n")
                value = hashlib.sha256(str(port).encode()).hexdigest() * 1000
                self.assertEqual(self.lab.run(client, cli + ["set", "key", value]).stdout, b"OK\n")
                self.assertEqual(self.lab.run(client, cli + ["get", "key"]).stdout.decode().strip(), value)
                self.assertEqual(self.lab.run(client, cli + ["strlen", "key"]).stdout, b"64000\n")
                bench = self.lab.run(client, ["redis-benchmark", "-h", address, "-p", port, "-t", "set,get,lpush,lrange_100",
                                              "-n", 2000, "-c", 20, "-d", 100, "--csv"], 150)
                rows = [line.split(",")[0] for line in bench.stdout.decode().splitlines()[1:]]
                self.assertIn('"SET"', rows)
                self.assertIn('"GET"', rows)
                self.assertGreaterEqual(len(rows), 4)
                piped = self.lab.run(client, ["redis-benchmark", "-h", address, "-p", port, "-t", "set,get", "-n", 20000,
                                              "-P", 16, "-q"], 150)
                self.assertIn(b"requests per second", piped.stdout)
                self.lab.run(client, cli + ["shutdown", "nosave"], check=False)
                self.assertEqual(running.wait(60), 0)

    # --- python ---

    @row("python3 http.server, urllib", "both", "five files up to 20 MB, sha256")
    def test_python_http(self):
        for server, client in BOTH:
            port, address = self.next_port(), programs.address_of(server, client)
            self.lab.spawn(server, [programs.PYTHON, "-u", "-m", "http.server", "--bind", address, "--directory", self.root,
                                    port])
            programs.wait_listening(self.lab, server, port)
            with self.subTest(server=server):
                names = ["big", *self.small]
                done = self.lab.run(client, [programs.PYTHON, "-c", URLLIB,
                                             *[f"http://{address}:{port}/{name}" for name in names]], 150)
                want = [f"200 {self.sha if name == 'big' else self.small[name]}" for name in names]
                self.assertEqual(done.stdout.decode().splitlines(), want)

    @row("python3 http.client, kept connections", "both", "six threads, 15 puts each over one connection, sha256")
    def test_python_kept(self):
        for server, client in (*BOTH, ("app", "app")):
            port, address = self.next_port(), programs.address_of(server, client)
            self.lab.spawn(server, [programs.PYTHON, "-u", "-c", UPLOAD, address, port])
            programs.wait_listening(self.lab, server, port)
            with self.subTest(server=server, client=client):
                done = self.lab.run(client, [programs.PYTHON, "-c", KEPT, address, port], 150)
                self.assertEqual(done.stdout.split(), [b"6", b"6"])

    def test_nothing_runs_on_the_kernel(self):
        """No socket of these programs was the kernel's: the stack's interface has no kernel address to use."""
        with self.assertRaises(ProgramFailed):
            self.lab.peer(["ip", "netns", "exec", self.lab.S, "curl", "-sS", "--max-time", 2, f"http://{PEER4}/"])


if __name__ == "__main__":
    netcase.main()

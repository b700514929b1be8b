#!/usr/bin/env python3
"""The table of programs, web part: nginx reloaded under load, haproxy, wrk, ab, wget, asyncio, node. Servers and clients
under the shim against the kernel's, and both on the stack (cut-through). @row: the README's rows."""
import json
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from filecase import FileCase  # noqa: E402
from loads import Load  # noqa: E402
from stack import KERNEL4, STACK4  # noqa: E402
from table import row  # noqa: E402
from wait import hold, wait_for  # noqa: E402

PAIRS = (("app", "peer"), ("peer", "app"), ("app", "app"))
KEPT = 8     # connections of ab and wrk while nginx is reloaded
WORKERS = 3  # of nginx
RELOAD_S = float(os.environ.get("HS_RELOAD_S", "1"))  # of each of 20 loads; `make soak`: 60
RELOAD_OUT = os.environ.get("HS_RELOAD_OUT")  # a file that gets a line of JSON for each of them
ASYNC_SERVER = """
import asyncio, sys
async def serve(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(serve, sys.argv[1], int(sys.argv[2]))
    await server.serve_forever()
asyncio.run(main())
"""
ASYNC_CLIENT = """
import asyncio, os, sys
async def one():
    reader, writer = await asyncio.open_connection(sys.argv[1], int(sys.argv[2]))
    data = os.urandom(200000)
    async def send():
        writer.write(data)
        await writer.drain()
        writer.write_eof()
    _, back = await asyncio.gather(send(), reader.read(-1))
    assert back == data
    writer.close()
async def main():
    for _ in range(3):
        await asyncio.gather(*[one() for _ in range(30)])
    print("good")
asyncio.run(main())
"""
NODE_SERVER = """
const http = require('http'), crypto = require('crypto');
http.createServer((q, r) => { const h = crypto.createHash('sha256'); q.on('data', d => h.update(d));
  q.on('end', () => r.end(h.digest('hex'))); }).listen(+process.argv[2], process.argv[1]);
"""
NODE_CLIENT = """
const http = require('http'), crypto = require('crypto');
const agent = new http.Agent({keepAlive: true, maxSockets: 8}); let left = 60;
for (let i = left; i > 0; i--) {
  const body = crypto.randomBytes(i * 2000), want = crypto.createHash('sha256').update(body).digest('hex');
  const q = http.request({host: process.argv[1], port: +process.argv[2], method: 'POST', agent}, r => {
    let got = ''; r.on('data', d => got += d);
    r.on('end', () => { if (got !== want) process.exit(3); if (!--left) { console.log('good'); process.exit(0); } }); });
  q.on('error', e => { console.error(e); process.exit(4); });
  q.end(body);
}
"""


class Web(FileCase):
    port = 10100

    def check_ab(self, text, _most=0):
        self.assertRegex(text, r"Failed requests: +0\n")
        self.assertNotIn("Non-2xx", text)
        self.assertGreater(int(re.search(r"Complete requests: +(\d+)", text).group(1)), 20)

    def check_wrk(self, text, _most=0):
        self.assertNotIn("Socket errors", text)
        self.assertNotIn("Non-2xx", text)
        self.assertGreater(int(re.search(r"(\d+) requests in", text).group(1)), 20)

    # --- nginx ---
    #
    # nginx closes kept connections when it is reloaded, whether or not a request is under way to it (RFC 9112, 9.5), and
    # neither ab nor wrk asks again. So with keep-alive each reload may break each of the 8 connections, on any TCP, and
    # what takes its place may come to another of the old workers: three times at the most. The same nginx on the
    # kernel's under the same load, in the same run, tells how many that is; without keep-alive nothing may fail.

    def check_kept(self, text, most):
        """Only connections broken by the server, at most so many; no refusal, no timeout, no bad answer. How many."""
        load = Load(text)
        self.assertNotIn("Non-2xx", text)
        self.assertLessEqual(load.broken, most, text)
        for count in load.refused:
            self.assertEqual(count, 0, text)
        self.assertGreater(load.requests, 20)
        return load.broken

    def note(self, **what):
        """A line for `make soak`'s page (tests/bench/reload.py)."""
        if RELOAD_OUT:
            with open(RELOAD_OUT, "a", encoding="utf-8") as f:
                f.write(json.dumps(what) + "\n")

    def reload_under(self, server, url, argv, check, client, **about):
        """Reloads, and what check returned."""
        for _ in range(5):
            load = self.lab.spawn(client, [*argv, url])
            reloads = 0
            while hold(0.3, load.alive):
                server.popen.send_signal(signal.SIGHUP)
                reloads += 1
            status, said = load.wait(120, check=False), Load(load.output())
            kept = check == self.check_kept
            self.note(load=" ".join(map(str, argv)), client=client, kept=kept, reloads=reloads, status=status,
                      requests=said.requests, failed=said.failed_but_cut() if kept else said.failed,
                      cut=said.broken if kept else 0, **about)
            self.assertEqual(status, 0, load.output())
            cut = check(load.output(), KEPT * WORKERS * (reloads + 1))
            if reloads > 1:  # on a machine that did not run us for most of its time it was no test
                return reloads, cut
        self.fail("the load is over before there were two reloads")

    def reloads(self, options):
        port, seconds = self.next_port(), max(1, int(RELOAD_S))
        servers = {where: programs.nginx(self.lab, where, self.root, port, workers=WORKERS, options=options)
                   for where in ("app", "kernel")}
        ab = ["ab", "-q", "-t", seconds, "-n", 10000000, "-c", KEPT]
        wrk = ["wrk", "-t2", f"-c{KEPT}", f"-d{seconds}s", "--timeout", "20s"]
        reloads, broken = {"app": 0, "kernel": 0}, {"app": 0, "kernel": 0}
        for argv, check in ((ab, self.check_ab), ([*ab, "-k", "-r"], self.check_kept), (wrk, self.check_kept),
                            ([*wrk, "-H", "Connection: close"], self.check_wrk)):
            for client in ("peer", "app"):
                with self.subTest(argv=argv, client=client):
                    for where, address in (("app", STACK4), ("kernel", KERNEL4)):
                        if where == "kernel" and (check != self.check_kept or client != "peer"):
                            continue
                        url = f"http://{address}:{port}/hello"
                        count, cut = self.reload_under(servers[where], url, argv, check, client, where=where,
                                                       listener=options.strip())
                        print(f"nginx{options} ({where}) {argv[0]} {argv[-1]} from {client}: {count} reloads, {cut or 0} cut")
                        if check == self.check_kept and client == "peer":
                            reloads[where] += count
                            broken[where] += cut
        rate = {where: broken[where] / reloads[where] for where in broken}
        print(f"cuts by reload: {rate}")
        most = 1.3 * rate["kernel"] + KEPT / reloads["app"]
        self.note(listener=options.strip(), rate=rate, most=most)
        if seconds >= 10:  # in a second each reload is one throw of the dice
            self.assertLessEqual(rate["app"], most, rate)
        self.fetch("app", "peer", port)

    @row("nginx, 3 workers", "server", "reloaded thrice a second under ab and wrk: with close no failed request, with keep-alive each of the old workers cuts each connection once at most, and in `make soak` no more than the same nginx on the kernel has cut")
    def test_nginx_reload(self):
        self.reloads("")

    @row("nginx, 3 workers, reuseport", "server", "the same with a listener for each worker")
    def test_nginx_reuseport(self):
        self.reloads(" reuseport")

    # --- other servers, clients ---

    @row("ab", "client", "8 connections, keep-alive and close, to nginx: no failed request")
    def test_ab(self):
        for server in ("peer", "app"):
            port = self.next_port()
            programs.nginx(self.lab, server, self.root, port, workers=2)
            for more in ([], ["-k"]):
                done = self.lab.app(["ab", "-q", "-n", 1000, "-c", 8, *more, programs.url(server, "app", "hello", port)], 150)
                self.check_ab(done.stdout.decode())

    def connections(self, port):
        return [s for s in self.lab.sessions() if s["remote"].endswith(f":{port}")]

    def test_ab_interrupted(self):
        """^C: its handler tells what it has and ends by exit(), which closes sockets, wherever the signal meets it."""
        port = self.next_port()
        programs.nginx(self.lab, "app", self.root, port, workers=2)
        for i in range(6):
            url = programs.url("app", "app", f"hello?{i}", port)
            ab = self.lab.spawn("app", ["ab", "-q", "-k", "-n", 50_000_000, "-c", 8, url])
            wait_for(lambda a=ab: len(self.connections(port)) >= 8 or not a.alive(), 20, "its connections")
            ab.popen.send_signal(signal.SIGINT)
            self.assertEqual(ab.wait(20, check=False), 1, ab.output())
            self.assertIn("Requests per second", ab.output())

    @row("wrk -t2", "client", "16 connections, keep-alive and close, to nginx: no failed request")
    def test_wrk(self):
        for server in ("peer", "app"):
            port = self.next_port()
            programs.nginx(self.lab, server, self.root, port, workers=2)
            for more in ([], ["-H", "Connection: close"]):
                done = self.lab.app(["wrk", "-t2", "-c16", "-d1s", "--timeout", "20s", *more, programs.url(server, "app", "hello", port)], 150)
                self.check_wrk(done.stdout.decode())

    @row("wget", "client", "5 MB, sha256")
    def test_wget(self):
        for server in ("peer", "app"):
            port, got = self.next_port(), os.path.join(self.lab.world.app_dir, "wgot")
            programs.nginx(self.lab, server, self.root, port)
            self.lab.app(["wget", "-q", "--tries=1", "--timeout=20", "-O", got, programs.url(server, "app", "big", port)], 150)
            self.assertEqual(programs.sha256(got), self.sha)

    @row("haproxy, nbthread 2", "both", "ab and wrk through it, 5 MB with sha256; its server on the kernel and on the stack")
    def test_haproxy(self):
        for behind, client in (("peer", "peer"), ("app", "peer"), ("app", "app")):
            with self.subTest(behind=behind, client=client):
                port, to_port = self.next_port(), self.next_port()
                programs.nginx(self.lab, behind, self.root, to_port, workers=2)
                conf = programs.haproxy_conf(self.lab, port, programs.address_of(behind, "app"), to_port)
                self.lab.spawn("app", ["/usr/sbin/haproxy", "-db", "-f", conf])
                self.lab.wait_listening(port)
                url = f"http://{STACK4}:{port}/hello"
                self.check_ab(self.lab.run(client, ["ab", "-q", "-n", 500, "-c", 8, url], 150).stdout.decode())
                self.check_wrk(self.lab.run(client, ["wrk", "-t2", "-c8", "-d1s", "--timeout", "20s", url], 150).stdout.decode())
                self.fetch("app", client, port)

    @row("nginx, its program changed while it runs (USR2, QUIT)", "server",
         "ab with close all the while: no failed request; the listener goes on in the executed program")
    def test_nginx_upgrade(self):
        home = os.path.join(self.lab.world.app_dir, "nginx-upgrade")
        os.mkdir(home)
        os.chmod(home, 0o777)
        conf, port = os.path.join(home, "nginx.conf"), self.next_port()
        with open(conf, "w", encoding="ascii") as f:  # what nginx does not name it takes from its successor's environment
            f.write("".join(f"env {name};\n" for name in self.lab.app_env()) + programs.NGINX.format(
                daemon="on", workers=2, dir=home, root=self.root, port=port, options="", address=STACK4))
        self.lab.app(["/usr/sbin/nginx", "-p", home, "-c", conf, "-e", home + "/error.log"])  # a foreground one refuses USR2
        programs.wait_listening(self.lab, "app", port)
        first = self.master(home, None)
        self.addCleanup(self.quit, first)
        load = self.lab.spawn("peer", ["ab", "-q", "-t", 5, "-n", 1000000, "-c", 4, f"http://{STACK4}:{port}/hello"])
        os.kill(first, signal.SIGUSR2)
        second = self.master(home, first)
        self.addCleanup(self.quit, second)
        self.quit(first)
        load.wait(120)
        self.check_ab(load.output())
        done = self.lab.run("peer", ["curl", "-sS", f"http://{STACK4}:{port}/hello"])
        self.assertEqual(done.stdout, b"hello\n")

    @staticmethod
    def quit(pid):
        if os.path.exists(f"/proc/{pid}"):
            os.kill(pid, signal.SIGQUIT)
            wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 20, f"the end of nginx {pid}")

    def master(self, home, other):
        """Pid of the master process, once it is another than `other`."""
        def read():
            with open(os.path.join(home, "nginx.pid"), encoding="ascii") as f:
                pid = int(f.read() or 0)
            return pid if pid not in (0, other) else None
        return wait_for(read, 20, "a master process")

    def pair(self, server_argv, client_argv):
        for server, client in PAIRS:
            with self.subTest(server=server, client=client):
                port, address = self.next_port(), programs.address_of(server, client)
                self.lab.spawn(server, [*server_argv, address, port])
                programs.wait_listening(self.lab, server, port)
                done = self.lab.run(client, [*client_argv, address, port], 150)
                self.assertEqual(done.stdout.strip(), b"good")

    @row("python3 asyncio", "both", "90 connections, 30 at once, 200 kB each echoed and compared")
    def test_asyncio(self):
        self.pair([programs.PYTHON, "-c", ASYNC_SERVER], [programs.PYTHON, "-c", ASYNC_CLIENT])

    @row("node http", "both", "60 posts over 8 kept connections, sha256")
    def test_node(self):
        self.pair(["node", "-e", NODE_SERVER], ["node", "-e", NODE_CLIENT])


if __name__ == "__main__":
    netcase.main()

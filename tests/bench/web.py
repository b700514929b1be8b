"""nginx under wrk, beside the same nginx on the kernel's TCP: sections `web` and `crowd` of bench.py.

`web`: requests per second over connections that are kept, and connections per second with one request each, for answers
of 64 bytes and of 1 MB. `crowd`: what 1000 and 50 000 idle connections to another program of the same stack (or the same
kernel) do to the first of these. wrk is the kernel's in both columns. A run with a single failed request is no figure.
"""
import math
import os
import re
import shutil
import statistics

import programs
from netns import ProgramFailed
from stack import KERNEL4, STACK4, Lab
from wait import wait_for

CONNECTIONS = 32
FILES = {"64 B": 64, "1 MB": 1 << 20}
PLACES = (("app", STACK4, "ours"), ("kernel", KERNEL4, "kernel"))
IDLE = (1000, 50000)
IDLE_PORT = 7300
PER_PROCESS = 10000  # idle connections of one process on the kernel's side; its limit of descriptors is 20 000


def lab_with_nginx(bench):
    """A stack, and an nginx of one worker on it and on the kernel; returns (lab, {where: port})."""
    lab = Lab(bench.build)
    root = lab.world.app_dir
    for name, size in FILES.items():
        programs.random_file(os.path.join(root, name.replace(" ", "")), size)
    # each connection is a port of wrk's side, that of nginx waits for a minute; the idle ones need as many again
    lab.world.sysctl(lab.P, "net.ipv4.tcp_tw_reuse=1", "net.ipv4.ip_local_port_range=1025 65000",
                     "net.core.somaxconn=65535", "net.ipv4.tcp_max_syn_backlog=65535")
    lab.world.sysctl(lab.K, "net.core.somaxconn=65535", "net.ipv4.tcp_max_syn_backlog=65535")
    lab.start()
    ports = {where: bench.next_port() for where, _, _ in PLACES}
    for where, port in ports.items():
        programs.nginx(lab, where, root, port)
    return lab, ports


def wrk(lab, address, port, name, seconds, close):
    """Requests per second."""
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *(["-H", "Connection: close"] if close else []),
            f"http://{address}:{port}/{name.replace(' ', '')}"]
    text = lab.peer(argv, seconds + 30).stdout.decode()
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", text)
    if not rate or "Socket errors" in text or "Non-2xx" in text:
        raise ProgramFailed(f"wrk: {text[-500:]}")
    return float(rate.group(1))


def web(bench):
    lab, ports = lab_with_nginx(bench)
    with lab:
        for name in FILES:
            for close, words in ((False, f"requests, nginx under wrk, {CONNECTIONS} kept connections"),
                                 (True, "connections, nginx under wrk, a request each")):
                rate = bench.figure(f"{words}, {name}", "k/s", "more")
                for _ in range(bench.rounds):
                    for where, address, column in PLACES:
                        got = wrk(lab, address, ports[where], name, bench.seconds, close)
                        getattr(rate, column).append(got / 1e3)
                bench.done(rate)


class Crowd:
    """Idle connections to a program on the stack (native) and to one on the kernel."""

    def __init__(self, bench, lab):
        self.lab, self.next_port = lab, IDLE_PORT
        self.program = os.path.join(lab.dir, "idle")  # readable for any user
        shutil.copy(os.path.join(bench.build, "tests/bench/idle"), self.program)
        os.chmod(self.program, 0o755)
        self.all = []

    def _start(self, where, *argv):
        prog = self.lab.spawn(where, [*argv], stdin=-1)
        self.all.append(prog)
        return prog

    def _said(self, prog, word):
        wait_for(lambda: word in prog.output() or not prog.alive(), 120, f"{word}: {prog.output()[-300:]}")
        if word not in prog.output():
            raise ProgramFailed(f"idle: {prog.output()[-500:]}")

    def more(self, count):
        """`count` further connections to each of the two."""
        n = math.ceil(count / PER_PROCESS)
        waiting = []
        for i in range(n):
            part, port = count // n + (i < count % n), self.next_port
            self.next_port += 1
            native = ["env", "-u", "LD_PRELOAD", f"VCL_VPP_SAPI_SOCKET={self.lab.attach}", self.program]
            for where, server, address in (("app", [*native, "serve", port, 1, part, 0], STACK4),
                                           ("kernel", [self.program, "take", port, part, 0], KERNEL4)):
                prog = self._start(where, *server)
                self._said(prog, "listening")
                waiting += [prog, self._start("peer", self.program, "open", address, port, part, 0)]
        for prog in waiting:
            self._said(prog, "open")

    def end(self):
        for prog in self.all:
            prog.popen.stdin.close()
        for prog in self.all:
            prog.wait(120)


def crowd(bench):
    lab, ports = lab_with_nginx(bench)
    with lab:
        idle, held, alone = Crowd(bench, lab), 0, {}
        for count in (0, *IDLE):
            idle.more(count - held)
            held = count
            rate = bench.figure(f"requests, nginx under wrk, 64 B, {count:,} idle connections beside", "k/s", "more")
            for _ in range(bench.rounds):
                for where, address, column in PLACES:
                    getattr(rate, column).append(wrk(lab, address, ports[where], "64 B", bench.seconds, False) / 1e3)
            now = {c: statistics.median(getattr(rate, c)) for c in ("ours", "kernel")}
            alone = alone or now
            if count:
                rate.notes.append("of the rate without them: ours {:.2f}, kernel {:.2f}".format(
                    *[now[c] / alone[c] for c in ("ours", "kernel")]))
            bench.done(rate)
        idle.end()

#!/usr/bin/env python3
"""`make bench-memory`: what an idle established connection costs, with 100 000 of them open at once.

Counted is the growth, from a stack with its program and no connection to all connections open, of
  segments   pages of every segment of the stack: packet buffers, durable records, session records, fifos. As the file
             system has them (st_blocks), which is what PSS of all processes that map them adds up to
  services   memory of the four services that is theirs alone (RssAnon)
  program    the same of the program: the library's own half of a session
divided by the number of connections. The goal is 5 KB in all. Default sizes everywhere: no key of the configuration is
set. `used`: each connection has carried SIZE bytes both ways before it fell idle.
"""
import argparse
import math
import os
import re
import shutil
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "support")]

import figures  # noqa: E402
import netns  # noqa: E402
from stack import PEER4, SERVICES, STACK4, Lab  # noqa: E402
from wait import wait_for  # noqa: E402

GOAL = 5 * 1024
PER_PROCESS = 5000   # connections of each process on the kernel's side: several of them open at once
PER_PORT = 50000     # a client has that many ports of its own towards one
PORT = 7000
# the page's further parts are other programs' (short.py, timewait.py); each begins with its heading
SHORT = "## Short connections\n"
TIME_WAITS = "## TIME_WAITs\n"
# the four ways: who opens, and how much each connection carries first
WAYS = (("accepted, never used", "serve", 0), ("accepted, 64 bytes both ways", "serve", 64),
        ("accepted, 64 KB both ways", "serve", 65536), ("opened, 64 bytes both ways", "reach", 64))


def anon_of(pid):
    """Bytes of a process that no other shares."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"RssAnon:\s+(\d+) kB", f.read()).group(1)) * 1024


def segments_of(lab, extra=()):
    """{name of segment: bytes} of all memfds that the services (and further processes) hold."""
    sizes, seen = {}, set()
    for pid in [lab.pid_of(s) for s in SERVICES] + list(extra):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{fd}"
            try:
                name, st = os.readlink(path), os.stat(path)
            except FileNotFoundError:
                continue
            if name.startswith("/memfd:") and st.st_ino not in seen:
                seen.add(st.st_ino)
                name = name[len("/memfd:"):].split(" ")[0]
                sizes[name] = sizes.get(name, 0) + st.st_blocks * 512
    return sizes


def memory(lab, program):
    """{what: bytes} now."""
    now = {"segment " + k: v for k, v in segments_of(lab).items()}
    now |= {"service " + s: anon_of(lab.pid_of(s)) for s in SERVICES}
    return now | {"program": anon_of(program)}


def settled(lab, program, quiet=3.0):
    """Memory once it has not moved by 1 % for some seconds: what is lent to busy connections has come home."""
    last, since = memory(lab, program), time.monotonic()
    deadline = since + 60

    def still():
        nonlocal last, since
        now = memory(lab, program)
        if any(abs(now.get(k, 0) - last.get(k, 0)) > 256 * 1024 + last.get(k, 0) // 100 for k in now):
            last, since = now, time.monotonic()
        return time.monotonic() - since > quiet or time.monotonic() > deadline
    wait_for(still, 90, "memory that stands still", step=0.25)
    return memory(lab, program)


class Way:
    """One way to have `count` connections open on a stack of its own."""

    def __init__(self, build, count, role, size):
        self.count, self.role, self.size = count, role, size
        self.lab = Lab(build)
        self.program = self._copy(build)
        self.peers = []

    def _copy(self, build):
        path = os.path.join(self.lab.dir, "idle")
        shutil.copy(os.path.join(build, "tests/bench/idle"), path)
        os.chmod(path, 0o755)
        return path

    def __enter__(self):
        try:
            self.lab.world.sysctl(self.lab.P, "net.ipv4.ip_local_port_range=1024 65535", "net.core.somaxconn=65535",
                                  "net.ipv4.tcp_max_syn_backlog=65535")
            self.lab.start()
        except BaseException:
            self.lab.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exc):
        self.lab.__exit__(*exc)

    def native(self, *args):
        return self.lab.spawn("app", ["env", "-u", "LD_PRELOAD", f"VCL_VPP_SAPI_SOCKET={self.lab.attach}", self.program,
                                      *args], stdin=-1)

    def said(self, program, word, seconds):
        wait_for(lambda: word in program.output() or not program.alive(), seconds, f"{word}: {program.output()[-300:]}")
        if word not in program.output():
            raise netns.ProgramFailed(f"{netns.show(program.cmd[-6:])}: {netns.tail(program.output())}\n{self.lab.log_tail(20)}")

    def spread(self):
        """[connections] of each process on the kernel's side."""
        n = math.ceil(self.count / PER_PROCESS)
        return [self.count // n + (i < self.count % n) for i in range(n)]

    def serve(self, seconds):
        """The stack accepts."""
        ports = math.ceil(self.count / PER_PORT)
        app = self.native("serve", PORT, ports, self.count, self.size)
        self.said(app, "listening", 20)
        before = memory(self.lab, app.pid)
        start = time.monotonic()
        for i, n in enumerate(self.spread()):
            self.peers.append(self.lab.spawn("peer", [self.program, "open", STACK4, PORT + i % ports, n, self.size], stdin=-1))
        return app, before, self.opened(app, start, seconds)

    def reach(self, seconds):
        """The stack connects: one program, several listeners of the kernel's."""
        for i, n in enumerate(self.spread()):
            self.peers.append(self.lab.spawn("peer", [self.program, "take", PORT + i, n, self.size], stdin=-1))
        for p in self.peers:
            self.said(p, "listening", 20)
        app = self.native("reach", PEER4, PORT, len(self.peers), self.count, self.size)
        self.said(app, "ready", 20)
        before, start = memory(self.lab, app.pid), time.monotonic()
        app.popen.stdin.write(b"g")
        app.popen.stdin.flush()
        return app, before, self.opened(app, start, seconds)

    def opened(self, app, start, seconds):
        self.said(app, "open", seconds)
        for p in self.peers:
            self.said(p, "open", 30)
        return time.monotonic() - start

    def measure(self, seconds):
        """{what: bytes per connection}, and connections per second while they were opened."""
        app, before, took = getattr(self, self.role)(seconds)
        full = settled(self.lab, app.pid)
        cost = {k: (full[k] - before.get(k, 0)) / self.count for k in full}
        app.popen.stdin.close()
        for p in self.peers:
            p.popen.stdin.close()
        for p in [app, *self.peers]:
            p.wait(300)
        return cost, self.count / took


def grouped(cost):
    parts = {"segments": 0.0, "services": 0.0, "program": 0.0}
    for k, v in cost.items():
        parts[{"s": "services", "p": "program"}[k[0]] if not k.startswith("segment ") else "segments"] += v
    return parts


TEXT = """# Memory of idle connections

Written by `make bench-memory`. {stamp}. {count:,} connections open
at once on one stack with default sizes, one program on libvppcom, the kernel's TCP at the other end. Bytes per connection, growth since
there was none: segments (pages of all shared memory), services (memory that is theirs alone), program (the same, of
the library's user). Goal: 5 KB in all; what each part counts is told on top of tests/bench/memory.py.

"""


def write(folder, about, count, rows):
    names = sorted({k for r in rows for k, v in r[3].items() if abs(v) >= 8})
    text = TEXT.format(stamp=figures.stamp(about), count=count)
    text += figures.table([("connections", "in all", "goal", *names, "opened per second"), ("---",) * (4 + len(names)),
                           *[(r[0], f"{r[1]:.0f}", "met" if r[1] <= GOAL else "**missed**",
                              *[f"{r[3].get(k, 0):.0f}" for k in names], f"{r[4]:.0f}" if r[4] else "") for r in rows]])
    replace(folder, None, text)


def replace(folder, heading, text):
    """Writes one part of the page anew: that of a heading, or the first (None)."""
    path = os.path.join(folder, "MEMORY.md")
    old = ""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            old = f.read()
    parts = {None: ""}
    for part in re.split(r"\n(?=## )", old):
        parts[part.partition("\n")[0] + "\n" if part.startswith("## ") else None] = part
    parts[heading] = text
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(parts.values()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.path.join(TOP, "build/release"))
    parser.add_argument("--count", type=int, default=100000)
    parser.add_argument("--way", type=int, nargs="*", default=range(len(WAYS)), help="which of the ways, from 0")
    parser.add_argument("--out", default=os.path.join(TOP, "docs/bench"), help="folder of MEMORY.md; - for none")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("memory: needs root, for network namespaces")
    rows, about = [], figures.machine(TOP)
    try:
        for name, role, size in [WAYS[i] for i in args.way]:
            with Way(os.path.abspath(args.build), args.count, role, size) as way:
                cost, rate = way.measure(60 + args.count / 80)
            parts = grouped(cost)
            total = sum(parts.values())
            rows.append((name, total, parts, cost, rate))
            print(f"{name}: {total:.0f} bytes; " + ", ".join(f"{k} {v:.0f}" for k, v in parts.items()), flush=True)
            for k, v in sorted(cost.items(), key=lambda kv: -kv[1]):
                if abs(v) >= 1:
                    print(f"    {k}: {v:.0f}", flush=True)
            if args.out != "-":
                write(args.out, about, args.count, rows)
    finally:
        netns.close_all()
    sys.exit(0 if all(r[1] <= GOAL for r in rows) else 1)


if __name__ == "__main__":
    main()

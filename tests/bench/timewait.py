#!/usr/bin/env python3
"""`make bench-timewait`: 600 000 connections in TIME_WAIT, made by programs.

Programs under the shim connect to as many ports of the kernel's, ask once over each connection and close first, so that
every connection ends in TIME_WAIT at the stack, for a minute. They close more of them in that minute than the table may
hold (engine.max-time-waits, 600 000), so that the rule for what goes first is at work, too. Looked at: how many there are
each second, what the engine and its segments have grown by when the table is full, and that no connection failed and
none is left a minute after the last. Exit status 0 if the table was full, never fuller, and empty in the end; writes
one JSON line, and with --out its part of MEMORY.md.
"""
import argparse
import json
import os
import shutil
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "support")]

import figures  # noqa: E402
import memory  # noqa: E402
import netns  # noqa: E402
from stack import PEER4, Lab  # noqa: E402
from wait import hold, wait_for  # noqa: E402

MOST, KEPT_S = 600000, 60
PORT, PORTS, SIZE, PARALLEL = 7200, 32, 64, 2   # 32 × 28 232 ephemeral ports: more pairs than the table has places


def counters(lab):
    return {c["name"]: c["value"] for c in lab.show("stats")["stats"]["counter"]}


def memory_of(lab):
    """Bytes of the engine and of the segments that it makes its records in."""
    now = {k: v for k, v in memory.segments_of(lab).items() if "tcb" in k}
    return sum(now.values()) + memory.anon_of(lab.pid_of("engine"))


def watch(lab, clients):
    """[(TIME_WAITs, bytes)] each second while the clients run."""
    seen = [(counters(lab)["tcp.state_time_wait"], memory_of(lab))]
    while hold(1, lambda: any(c.alive() for c in clients)):
        seen.append((counters(lab)["tcp.state_time_wait"], memory_of(lab)))
    return seen


def measure(build, seconds):
    with Lab(build) as lab:
        lab.world.sysctl(lab.P, "net.core.somaxconn=4096")
        pingpong = os.path.join(lab.dir, "pingpong")
        shutil.copy(os.path.join(build, "tests/bench/pingpong"), pingpong)
        os.chmod(pingpong, 0o755)
        lab.start()
        for i in range(PORTS):
            lab.spawn("peer", [pingpong, "serve", PEER4, PORT + i, SIZE])
        for i in range(PORTS):
            lab.wait_listening_kernel(lab.P, PORT + i)
        before, start = memory_of(lab), time.monotonic()
        clients = [lab.spawn("app", [pingpong, "connect", PEER4, PORT + i, SIZE, PARALLEL, seconds, 10 ** 9])
                   for i in range(PORTS)]
        seen = watch(lab, clients)
        took = time.monotonic() - start
        failed = sum(c.wait(60, check=False) != 0 for c in clients)
        closed = sum(json.loads(line)["requests"] for c in clients for line in c.output().splitlines() if line[:1] == "{")
        full, at = max(seen), counters(lab)
        wait_for(lambda: counters(lab)["tcp.state_time_wait"] == 0, 2 * KEPT_S, "the last TIME_WAIT is over", step=0.5)
        return {"closed": closed, "rate": closed / took, "most": full[0], "bytes": max(b for _, b in seen) - before,
                "early": at["engine.timewait.full"], "reused": at["engine.timewait.reused"], "failed": failed,
                "empty_after": time.monotonic() - start - took}


def bad(r):
    return ([f"{r['failed']} programs failed"] if r["failed"] else []) + (
        [f"{r['most']} at once"] if not MOST * 0.99 <= r["most"] <= MOST else [])


def write(folder, about, r, seconds):
    text = f"""{memory.TIME_WAITS}
Written by `make bench-timewait`. {figures.stamp(about)}. {PORTS} programs under the
shim connect to the kernel's TCP, ask once and close first, for {seconds} s. Bytes: growth of the engine and its durable
records, connections that live included. A full table ends the oldest early (engine.max-time-waits: {MOST:,}).

"""
    text += figures.table([
        ("connections closed", "per second", "most TIME_WAITs at once", "bytes for each", "ended early", "taken over (RFC 6191)",
         "failed", "none left after"), ("---",) * 8,
        (f"{r['closed']:,}", f"{r['rate']:,.0f}", f"{r['most']:,}", f"{r['bytes'] / r['most']:.0f}", f"{r['early']:,}",
         f"{r['reused']:,}", r["failed"], f"{r['empty_after']:.0f} s")])
    memory.replace(folder, memory.TIME_WAITS, text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.path.join(TOP, "build/release"))
    parser.add_argument("--seconds", type=int, default=75)
    parser.add_argument("--out", default="-", help="folder of MEMORY.md; - for none")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("timewait: needs root, for network namespaces")
    about = figures.machine(TOP)
    try:
        result = measure(os.path.abspath(args.build), args.seconds)
    finally:
        netns.close_all()
    print(json.dumps(result))
    if args.out != "-":
        write(args.out, about, result, args.seconds)
    for line in bad(result):
        print(f"timewait: {line}", file=sys.stderr)
    sys.exit(1 if bad(result) else 0)


if __name__ == "__main__":
    main()

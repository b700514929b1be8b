#!/usr/bin/env python3
"""`make bench-short`, and part of `make soak`: short connections for ten minutes, as many per second as the machine does, leave no growth.

A program under the shim serves; clients of the kernel's open a connection per request. Memory, descriptors and sessions are
looked at when all is quiet: after a first while, in which every table has come to the size that the load wants, halfway,
and at the end. What leaks goes on growing: no segment and no process may have grown in the second half by more than 2 %
and 256 KB, nor in all by more than 2 % and 1 MB; a process may have no descriptor more, and no session may be left.
Exit status 0 if so; writes one JSON line, and with --out its part of MEMORY.md. TIME_WAITs last a second, here.
"""
import argparse
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "support")]

import figures  # noqa: E402
import memory  # noqa: E402
import netns  # noqa: E402
from stack import SERVICES, STACK4, Lab  # noqa: E402
from wait import wait_for  # noqa: E402

PORT, SIZE, PARALLEL = 7100, 64, 64
EXTRA = "  tcp:\n    time-wait-ms: 1000\n"


def descriptors(lab, program):
    pids = {s: lab.pid_of(s) for s in SERVICES} | {"program": program}
    return {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in pids.items()}


def quiet(lab):
    """Until every connection is over and its TIME_WAIT has ended."""
    wait_for(lambda: lab.show("session")["sessions"]["total"] == 0, 60, "no session left", step=0.1)


def look(lab, program):
    quiet(lab)
    return memory.settled(lab, program), descriptors(lab, program)


def load(lab, pingpong, seconds):
    """Connections made."""
    done = lab.peer([pingpong, "connect", STACK4, PORT, SIZE, PARALLEL, seconds, 10 ** 9], seconds + 120)
    return json.loads(done.stdout)["requests"]


def soak(build, first, seconds):
    with Lab(build, extra=EXTRA) as lab:
        lab.world.sysctl(lab.P, "net.ipv4.tcp_tw_reuse=1", "net.ipv4.ip_local_port_range=1025 65000")
        lab.start()
        pingpong = os.path.join(build, "tests/bench/pingpong")
        server = lab.spawn("app", [pingpong, "serve", STACK4, PORT, SIZE])
        lab.wait_listening(PORT)
        load(lab, pingpong, first)
        looks = [look(lab, server.pid)]
        made = 0
        for _ in range(2):
            made += load(lab, pingpong, seconds // 2)
            looks.append(look(lab, server.pid))
        (before, fds_before), (half, _), (after, fds_after) = looks
        bad = growing(before, after, 1 << 20) + growing(half, after, 1 << 18)
        bad += [f"descriptors of {k}" for k in fds_after if fds_after[k] > fds_before[k]] + lab.late_wakeups()
        return {"connections": made, "rate": made / seconds, "before": sum(before.values()),
                "grown": {"first half": growth(before, half), "second half": growth(half, after)},
                "descriptors": sum(fds_after.values()), "bad": bad}


def growth(before, after):
    """Bytes by part, of those that have changed."""
    return {k: after[k] - before.get(k, 0) for k in after if after[k] != before.get(k, 0)}


def growing(before, after, slack):
    """Parts that have grown by more than `slack` bytes and 2 %."""
    return [k for k, v in growth(before, after).items() if v > slack + before.get(k, 0) // 50]


def told(grown):
    """One half's growth, for the page."""
    parts = ", ".join(f"{k} {v / 1e3:+.0f}" for k, v in sorted(grown.items(), key=lambda item: -item[1]))
    return f"{sum(grown.values()) / 1e3:.0f} KB" + (f" ({parts})" if parts else "")


def write(folder, about, r, seconds):
    text = (memory.SHORT + f"""
Written by `make bench-short`. {figures.stamp(about)}. A program under the shim serves,
{PARALLEL} clients of the kernel's on the same machine open a connection for each request of {SIZE} bytes, for {seconds} s. Memory is that of all
segments, services and the program when all is quiet: after a first while, halfway, at the end. Goal: 10,000 a second, no growth:
a leak would show in both halves.

""")
    text += figures.table([("connections", "per second", "memory before", "growth, first half", "second half", "descriptors",
                            "sessions left", "no growth"),
                           ("---",) * 8, (f"{r['connections']:,}", f"{r['rate']:,.0f}", f"{r['before'] / 1e6:.1f} MB",
                                          told(r["grown"]["first half"]), told(r["grown"]["second half"]), r["descriptors"], 0,
                                          "met" if not r["bad"] else "**missed**: " + ", ".join(r["bad"]))])
    memory.replace(folder, memory.SHORT, text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.path.join(TOP, "build/release"))
    parser.add_argument("--first", type=int, default=20, help="seconds until the first look")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--out", default="-", help="folder of MEMORY.md; - for none")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("short: needs root, for network namespaces")
    about = figures.machine(TOP)
    try:
        result = soak(os.path.abspath(args.build), args.first, args.seconds)
    finally:
        netns.close_all()
    print(json.dumps(result))
    if args.out != "-":
        write(args.out, about, result, args.seconds)
    sys.exit(1 if result["bad"] else 0)


if __name__ == "__main__":
    main()

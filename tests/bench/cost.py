#!/usr/bin/env python3
"""Instructions per segment: runs tests/bench/cost under callgrind with 1 to a million connections in the engine's tables
and writes docs/bench/COST.md. What is counted is a whole turn of the worker that does one thing, less a turn that does
nothing; so polling, clocks and rings are in, and frames between engine and device are not. Exact figures of one build:
they do not depend on the machine's load.

  cost.py --build build/release [--turns N] [--connections 1,1000,...] [--output FILE]
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import figures  # noqa: E402

KINDS = ("data_in", "ack_in", "data_out")
TITLES = {"data_in": "in-order data segment in (every other one acknowledged)", "ack_in": "ACK of two segments in",
          "data_out": "data segment out"}
GOAL = 1.3
MEMORY_GOAL = 1024  # bytes of an idle established connection


def measure(program, connections, turns, work):
    """{kind: instructions per turn}, idle included; and bytes: durable half, session, its soft half of TCP."""
    out = os.path.join(work, f"callgrind.{connections}")
    command = ["valgrind", "--tool=callgrind", "--collect-atstart=no", f"--callgrind-out-file={out}",
               "--toggle-collect=cost_idle"]
    command += [f"--toggle-collect=cost_{kind}" for kind in KINDS]
    run = subprocess.run(command + [program, str(connections), str(turns)], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, check=False)
    counts = re.search(r"counts idle (\d+) data_in (\d+) ack_in (\d+) data_out (\d+) retransmitted 0", run.stdout)
    if run.returncode or not counts:
        sys.exit(f"cost {connections}: status {run.returncode}\n{run.stdout}")
    memory = re.search(r"memory tcb (\d+) session (\d+) soft (\d+)", run.stdout)
    turns_of = dict(zip(("idle",) + KINDS, (int(n) for n in counts.groups())))
    listing = subprocess.run(["callgrind_annotate", "--inclusive=yes", "--threshold=100", "--auto=no", out],
                             stdout=subprocess.PIPE, text=True, check=True).stdout
    cost = {}
    for kind, n in turns_of.items():
        line = re.search(rf"^\s*([\d,]+)\s.*:cost_{kind}(?:'\d)?\s", listing, re.M)
        if not line:
            sys.exit(f"cost {connections}: cost_{kind} is not in callgrind's list")
        cost[kind] = int(line.group(1).replace(",", "")) / n
    return cost, [int(n) for n in memory.groups()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", required=True)
    parser.add_argument("--turns", type=int, default=4000)
    parser.add_argument("--connections", default="1,1000,100000,1000000")
    parser.add_argument("--output", default="docs/bench/COST.md")
    args = parser.parse_args()
    program = os.path.join(args.build, "tests/bench/cost")
    sizes = [int(n) for n in args.connections.split(",")]
    about, rows = figures.machine(HERE), {}
    with tempfile.TemporaryDirectory() as work:
        for n in sizes:
            rows[n], (durable, session, soft) = measure(program, n, args.turns, work)
            print(n, {k: round(v) for k, v in rows[n].items()}, flush=True)
    lines = ["# Instructions per segment", "", f"Commit {figures.commit(about)}.", "",
             "Written by `make cost` (tests/bench/cost.py): callgrind, release build, one connection that carries 1448-byte",
             "segments one at a time among so many in the tables of sessions, flows and timers. A turn of the worker that",
             "does this one thing, less a turn that does nothing (last column).", "",
             "| connections | " + " | ".join(TITLES[k] for k in KINDS) + " | idle turn |",
             "|--:|" + "--:|" * (len(KINDS) + 1)]
    for n in sizes:
        lines.append(f"| {n:,} | " + " | ".join(f"{rows[n][k] - rows[n]['idle']:.0f}" for k in KINDS)
                     + f" | {rows[n]['idle']:.0f} |")
    growth = {k: (rows[sizes[-1]][k] - rows[sizes[-1]]["idle"]) / (rows[sizes[0]][k] - rows[sizes[0]]["idle"])
              for k in KINDS}
    verdict = "met" if durable + session <= MEMORY_GOAL else "not met"
    lines += ["", f"From {sizes[0]:,} to {sizes[-1]:,} connections: "
              + ", ".join(f"{k.replace('_', ' ')} {growth[k]:.2f}×" for k in KINDS)
              + f" (goal: at most {GOAL}×).", "",
              "Memory of an idle established connection in the engine, fifos and its slot of the flow table apart:",
              f"{durable} bytes of durable record and {session} of session, of which {soft} are TCP's soft half, together",
              f"{durable + session} (goal: {MEMORY_GOAL}; {verdict}).", ""]
    with open(args.output, "w", encoding="utf-8") as f:
        f.write("\n".join(lines))
    print("\n".join(lines))
    return 0 if max(growth.values()) <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())

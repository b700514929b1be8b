#!/usr/bin/env python3
"""`make bench-lossy`: the stack and the kernel's TCP over the same impaired line; writes docs/bench/LOSSY.md and lossy.json.

The line is tests/bench/wire between two veth pairs, one of it between stack and peer, one like it between a second
kernel host and the same peer. Ours and the kernel's runs take turns. Without words all is measured anew, in some 20
minutes, 22 at most: the grid of 32 CUBIC flows three times over, that of one flow once and shorter, and the shared
bottleneck. With --only it is done in parts, and what lossy.json has of the rest stays: --only loss=1 flows=32 (the grid's rows with these),
--only fair=cubic. A run that fails or does not end counts as 0 Mbit/s and is told of under the tables; the others go on.
"""
import argparse
import json
import os
import signal
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "support")]

import figures  # noqa: E402
import netns  # noqa: E402
import programs  # noqa: E402
from stack import KERNEL_PEER4, PEER4, Lab  # noqa: E402

OUT, IN = ("peer", "app"), ("app", "peer")  # (server, client): the client sends
KERNEL = {OUT: ("peer", "kernel"), IN: ("kernel", "peer")}
WAYS = {"out": OUT, "in": IN}
RATE = 200_000_000
LOSSES, DELAYS = (0, 0.1, 1, 5), (0, 10, 50)
QUEUE_MIN = 256 * 1024
GRIDS = ((32, "cubic"), (1, "cubic"), (1, "bbr"))  # flows, control
MINUTES = 18  # no further cell of the grid is begun: runs that don't end cost half a minute each
SINGLE = {"seconds": 2, "rounds": 1}  # of one flow: beside the goal, whose rows are those of 32
FAIR_CONTROLS = ("cubic", "newreno", "bbr")
FAIR = {"rate": 100_000_000, "delay": 10_000, "queue": 250_000}  # 20 ms there and back, a queue of their product
FAIR_S, FAIR_SKIP = 20, 5
FAR, FAR_NET, FAR_GATE = "10.79.0.2", "10.79.0.0/24", "10.79.0.1"


class WireLab(Lab):
    """A Lab whose lines are wires: lab.wires(...) sets how they are."""

    def __init__(self, build, **kw):
        self.ends, self.running = [], []
        super().__init__(build, **kw)

    def join(self, ns_a, if_a, ns_b, if_b, mtu):
        w, n = self.world, len(self.ends)
        ns = w.namespace(f"w{n}")
        w.sysctl(ns, "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1")
        w.veth(ns_a, if_a, ns, "wa", mtu)
        w.veth(ns, "wb", ns_b, if_b, mtu)
        w.up(ns, "wa")
        w.up(ns, "wb")
        self.ends.append(ns)

    def wires(self, **how):
        """Both lines anew; how: words of wire's command line."""
        for program in self.running:
            program.stop()
        words = [f"{k}={v}" for k, v in how.items()]
        binary = os.path.join(self.build, "tests/bench/wire")
        self.running = [self.world.start(self.world.command(ns, [binary, "wa", "wb", *words]), "wire") for ns in self.ends]


class Cell:
    """One row of the grid: a path, a number of flows, a direction."""

    def __init__(self, **key):
        self.key, self.ours, self.kernel, self.failed = key, [], [], []

    def matches(self, words):
        return all(str(self.key.get(k)) == v for k, v in (w.split("=") for w in words))

    def path(self, seed):
        rtt = self.key["delay"] * 1000
        queue = max(QUEUE_MIN, RATE // 8 * rtt // 1000000)
        return {"loss": self.key["loss"], "delay": rtt // 2, "rate": RATE, "queue": queue, "seed": seed}

    def run(self, lab, pair, seconds, port, seed):
        """Mbit/s of one iperf3; 0 and a line in `failed` if it did not work."""
        began = len(lab.world.programs)
        try:
            lab.wires(**self.path(seed))
            report = programs.iperf3_report(lab, *pair, seconds, port, streams=self.key["flows"], congestion=self.key["cc"])
            return report["end"]["sum_received"]["bits_per_second"] / 1e6
        except (netns.ProgramFailed, TimeoutError) as e:
            self.failed.append(f"{'kernel' if 'kernel' in pair else 'ours'}, seed {seed}: {str(e).splitlines()[0]}")
            print(f"{self.key}: {e}\n{lab.log_tail()}", flush=True)
            for program in lab.world.programs[began:]:
                if program not in lab.running:
                    program.stop()
            return 0.0

    def measure(self, lab, seconds, rounds, port):
        way = WAYS[self.key["way"]]
        for i in range(rounds):
            for pair, column in ((way, self.ours), (KERNEL[way], self.kernel)):
                port += 1
                column.append(self.run(lab, pair, seconds, port, 1000 * i + 1))
        return port

    def shown(self):
        ours, kernel = statistics.median(self.ours), statistics.median(self.kernel)
        ratio = f"{ours / kernel:.2f}" if kernel > 0 else "–"
        return f"{figures.number(ours)} / {figures.number(kernel)} = " + (ratio if ours >= 0.9 * kernel else f"**{ratio}**")


def grid():
    return [Cell(cc=cc, way=way, flows=flows, delay=delay, loss=loss)
            for flows, cc in GRIDS for way in WAYS for delay in DELAYS for loss in LOSSES]


class FairLab(Lab):
    """Stack and kernel host reach a far host through the peer, which routes, and one wire, which they share."""

    def __init__(self, build):
        super().__init__(build, extra=f"  routes:\n    - {{to: {FAR_NET}, via: {PEER4}}}\n")
        w = self.world
        self.far, line = w.namespace("d"), w.namespace("w")
        w.sysctl(line, "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1")
        w.veth(self.P, "p2", line, "wa")
        w.veth(line, "wb", self.far, "d0")
        for ns, interface, *addresses in ((self.P, "p2", FAR_GATE + "/24"), (line, "wa"), (line, "wb"),
                                          (self.far, "d0", FAR + "/24")):
            w.up(ns, interface, *addresses)
        w.sysctl(self.P, "net.ipv4.ip_forward=1")
        netns.run(["ip", "-n", self.far, "route", "add", "default", "via", FAR_GATE])
        netns.run(["ip", "-n", self.K, "route", "add", FAR_NET, "via", KERNEL_PEER4])
        words = [f"{k}={v}" for k, v in FAIR.items()]
        w.start(w.command(line, [os.path.join(self.build, "tests/bench/wire"), "wa", "wb", *words]), "wire")

    def share(self, cc, first, port):
        """One flow of each over the line, `first` begins: Mbit/s of ours and of the kernel's after FAIR_SKIP seconds."""
        flows = {}
        for n, where in enumerate((first, "kernel" if first == "app" else "app")):
            w = self.world
            w.start(w.command(self.far, ["iperf3", "-s", "-1", "-p", port + n]), "far-iperf3")
            self.wait_listening_kernel(self.far, port + n)
            flows[where] = self.spawn(where, ["iperf3", "-J", "-c", FAR, "-p", port + n, "-t", FAIR_S, "-C",
                                              "reno" if cc == "newreno" else cc])
        rates = []
        for where in ("app", "kernel"):
            flows[where].wait(FAIR_S + 20)
            ticks = json.loads(flows[where].output())["intervals"][FAIR_SKIP:]
            rates.append(statistics.mean(t["sum"]["bits_per_second"] for t in ticks) / 1e6)
        return rates


def measure_fair(build, words, done):
    chosen = [cc for cc in FAIR_CONTROLS if not words or f"fair={cc}" in words]
    if not chosen:
        return
    with FairLab(build) as lab:
        lab.start()
        port = 5600
        for cc in chosen:
            runs = []
            for first in ("app", "kernel"):
                port += 2
                began = len(lab.world.programs)
                try:
                    runs.append({"first": first, "rates": lab.share(cc, first, port)})
                except (netns.ProgramFailed, TimeoutError, ValueError, KeyError) as e:
                    print(f"fair {cc}, {first} first: {e}\n{lab.log_tail()}", flush=True)
                    runs.append({"first": first, "rates": [0.0, 0.0]})
                    for program in lab.world.programs[began:]:
                        program.stop()
            done[f"fair {cc}"] = {"fair": cc, "runs": runs}
            print(f"fair {cc}: " + ", ".join(f"{r['first']} first: ours {r['rates'][0]:.1f}, kernel {r['rates'][1]:.1f}"
                                             for r in runs), flush=True)


def measure_grid(build, words, seconds, rounds, done):
    cells = [c for c in grid() if c.matches(words)]
    if not cells:
        return
    port = 5300
    with WireLab(build) as lab:
        lab.wires()
        lab.start()
        until = time.monotonic() + 60 * MINUTES
        for cell in cells:
            if time.monotonic() > until:
                print(f"{MINUTES} minutes are over: the cells from {cell.key} on are not measured", flush=True)
                break
            how = {"seconds": seconds, "rounds": rounds}
            if cell.key["flows"] == 1:
                how = {k: min(v, SINGLE[k]) for k, v in how.items()}
            port = cell.measure(lab, how["seconds"], how["rounds"], port)
            done[json.dumps(cell.key)] = {"key": cell.key, "ours": cell.ours, "kernel": cell.kernel,
                                          "seconds": how["seconds"], "failed": cell.failed}
            print(", ".join(f"{k} {v}" for k, v in cell.key.items()), cell.shown(), flush=True)


def grid_rows(done, flows, cc):
    for way in WAYS:
        for delay in DELAYS:
            row = []
            for loss in LOSSES:
                cell = Cell(cc=cc, way=way, flows=flows, delay=delay, loss=loss)
                got = done.get(json.dumps(cell.key))
                if got:
                    cell.ours, cell.kernel = got["ours"], got["kernel"]
                row.append(cell.shown() if got else "")
            if any(row):
                yield (way, delay, *row)


def plural(low, high, noun):
    return f"{low} {noun}" if low == high else f"{low} to {high} {noun}"


def write_grid(f, done, flows, cc):
    rows = list(grid_rows(done, flows, cc))
    if not rows:
        return
    cells = [d for d in done.values() if "ours" in d and (d["key"]["flows"], d["key"]["cc"]) == (flows, cc)]
    runs, times = [len(d["ours"]) for d in cells], [d["seconds"] for d in cells]
    f.write(f"## {cc}, {flows} flow{'s' if flows > 1 else ''}\n\nMedians of {plural(min(runs), max(runs), 'run')}"
            f"{'s' if max(runs) > 1 else ''} of {plural(min(times), max(times), 's')}.\n\n")
    f.write(figures.table([("way", "delay, ms", *[f"loss {x} %" for x in LOSSES]), ("---",) * (2 + len(LOSSES)), *rows]) + "\n")
    missing = len(LOSSES) * len(DELAYS) * len(WAYS) - len(cells)
    if missing:
        f.write(f"{missing} cells of this grid are not measured.\n\n")
    failed = [f"- {d['key']['way']}, {d['key']['delay']} ms, {d['key']['loss']} %: {text}" for d in cells
              for text in d.get("failed", [])]
    if failed:
        f.write("Runs that failed, counted as 0:\n\n" + "\n".join(failed) + "\n\n")


def fair_rows(done):
    for cc in FAIR_CONTROLS:
        for r in done.get(f"fair {cc}", {"runs": []})["runs"]:
            a, b = r["rates"]
            if a + b == 0:
                yield (cc, "ours" if r["first"] == "app" else "kernel", "failed", "failed", "", "")
                continue
            yield (cc, "ours" if r["first"] == "app" else "kernel", f"{a:.1f}", f"{b:.1f}", f"{a / (a + b):.2f}",
                   f"{(a + b) ** 2 / (2 * (a * a + b * b)):.3f}")


def write(folder, about, done):
    with open(os.path.join(folder, "lossy.json"), "w", encoding="utf-8") as f:
        json.dump({"about": about, "done": done}, f, indent=1)
        f.write("\n")
    with open(os.path.join(folder, "LOSSY.md"), "w", encoding="utf-8") as f:
        f.write(f"""# Over an impaired path, beside the kernel

Written by `make bench-lossy` (tests/bench/lossy.py). {figures.stamp(about)}. Host - wire - host: tests/bench/wire joins two interfaces and impairs both directions alike by
nicio's stage (services/nicio/impair.c); for the kernel's column both hosts are the kernel's, over a wire of their own
that is set the same. {RATE // 1000000} Mbit/s each way, MTU 1500; the queue before the line holds a bandwidth-delay product, {QUEUE_MIN // 1024} KB at
least. Offloads are as they are by default: the wire cuts large frames into packets of the MTU before it loses any, so loss is
per packet, of data and of ACKs. Delay: there and back together. iperf3, ours and the kernel's in turn. "out": the stack sends,
"in": it receives; then the sender is the kernel in both columns. The congestion control is the same at all ends: ours is
CUBIC by default (RFC 9438), the kernel's on this machine is BBR, and neither can be held against the other over a lossy path.
To have BBR everywhere: `hsctl set tcp congestion-control bbr`, or `engine.tcp.congestion-control: bbr`.

Cells: Mbit/s ours / the kernel's = ratio; goal 0.9, **bold** where missed.

""")
        for flows, cc in GRIDS:
            write_grid(f, done, flows, cc)
        rows = list(fair_rows(done))
        if rows:
            f.write(f"""## Sharing a bottleneck with a Linux flow

One flow of ours and one of the kernel's, of the same congestion control, from two hosts through one wire:
{FAIR['rate'] // 1000000} Mbit/s, {FAIR['delay'] * 2 // 1000} ms there and back, a queue of {FAIR['queue'] // 1000} KB. Mean Mbit/s of {FAIR_S} s but for the first {FAIR_SKIP}. Two of our flows:
tests/sim/test_sim_cc.c.

""")
            f.write(figures.table([("control", "begins", "ours", "kernel", "our share", "Jain's index"), ("---",) * 6, *rows]))
            if any(r[0] == "bbr" and r[4] and float(r[4]) < 0.3 for r in rows):
                f.write("\nBeside a flow of Linux's BBR, a flow of our BBR gets much less: a known gap.\n")


def interrupted(number, _frame):
    raise KeyboardInterrupt(signal.Signals(number).name)


def load(path):
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)["done"]
    except FileNotFoundError:
        return {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.path.join(TOP, "build/release"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of one run")
    parser.add_argument("--only", nargs="*", default=[], help="KEY=VALUE: rows with these")
    parser.add_argument("--out", default=os.path.join(TOP, "docs/bench"))
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench-lossy: needs root, for network namespaces")
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, interrupted)
    about = figures.machine(TOP)
    done = load(os.path.join(args.out, "lossy.json")) if args.only else {}
    try:
        measure_grid(args.build, args.only, args.seconds, args.rounds, done)
        measure_fair(args.build, args.only, done)
    finally:
        write(args.out, about, done)
        netns.close_all()


if __name__ == "__main__":
    main()

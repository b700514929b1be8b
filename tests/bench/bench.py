#!/usr/bin/env python3
"""`make bench`: what the stack reaches beside the kernel's TCP in the same run; writes docs/bench/REPORT.md and .json.

Every figure is the median of --rounds runs, ours and the kernel's in turn. Needs root, a release build and a quiet
machine. --only takes names of sections (see SECTIONS): those are measured anew, of the others the report keeps what it
has, and says which commit and time each is of.
"""
import argparse
import json
import os
import shutil
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
import web  # noqa: E402
from figures import Figure  # noqa: E402
from netns import run  # noqa: E402
from stack import KERNEL4, SERVICES, STACK4, Lab  # noqa: E402
from wait import hold, wait_for  # noqa: E402

OUT, IN = ("peer", "app"), ("app", "peer")  # (server, client) of a transfer that the client sends
KERNEL = {OUT: ("peer", "kernel"), IN: ("kernel", "peer")}
AF_XDP = 'name: hs0, kind: ethdev, device: "net_af_xdp0,iface=hs0"'


def say(text):
    print(text, flush=True)


def cpu_of(pid):
    """CPU seconds that all threads of a process have used so far."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total / 1e9


class Meter:
    """CPU seconds of the services, and of programs given by name, while a piece of work runs."""

    def __init__(self, lab, **pids):
        self.pids = {name: lab.pid_of(name) for name in SERVICES} | pids

    def __enter__(self):
        self.before = {name: cpu_of(pid) for name, pid in self.pids.items()}
        self.start = time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.start
        self.used = {name: cpu_of(pid) - self.before[name] for name, pid in self.pids.items()}


class Bench:
    def __init__(self, build, rounds, seconds):
        self.build, self.rounds, self.seconds = os.path.abspath(build), rounds, seconds
        self.figures, self.split, self.port = [], [], 5300
        self.cores = sorted(os.sched_getaffinity(0))[:2]
        self.about = figures.machine(TOP) | {"rounds": rounds, "seconds": seconds}
        self.pingpong = os.path.join(self.build, "tests/bench/pingpong")

    def section(self, name):
        """Measures one: its part of the report."""
        self.figures, self.split, failed = [], [], None
        try:
            getattr(self, name)()
        except (AssertionError, TimeoutError, KeyError, ValueError) as e:
            failed = str(e).splitlines()[0] if str(e) else type(e).__name__
            say(f"   not measured: {e}")
        return {"about": self.about, "figures": [f.as_dict() for f in self.figures if f.ours or f.kernel], "cpu_split": self.split,
                "failed": failed}

    def figure(self, *args, **kw):
        f = Figure(*args, **kw)
        self.figures.append(f)
        return f

    def next_port(self):
        self.port += 1
        return self.port

    def done(self, *some):
        for f in some:
            say("   " + "  ".join(c for c in f.row() if c))

    # --- bulk ---

    def bulk_pair(self, lab, way, rate, cpu=None, split=None):
        """One run of ours and one of the kernel's; adds to the figures."""
        with Meter(lab) as m:
            report = programs.iperf3_report(lab, *way, self.seconds, self.next_port())
        self.bulk_add(report, way, rate.ours, cpu and cpu.ours, m, split)
        report = programs.iperf3_report(lab, *KERNEL[way], self.seconds, self.next_port())
        self.bulk_add(report, way, rate.kernel, cpu and cpu.kernel, None, split)

    def bulk_add(self, report, way, rates, cpus, meter, split):
        end = report["end"]
        rates.append(end["sum_received"]["bits_per_second"] / 1e9)
        gigabytes = end["sum_received"]["bytes"] / 1e9
        seconds = end["sum_received"]["seconds"]
        percent = end["cpu_utilization_percent"]
        local, remote = (percent[f"{e}_total"] / 100 * seconds / gigabytes for e in ("host", "remote"))
        app, peer = (local, remote) if way == OUT else (remote, local)
        services = {n: v / gigabytes for n, v in meter.used.items()} if meter else {}
        if cpus is not None:
            cpus.append(app + sum(services.values()))
        if split is not None:
            split.append({"app": app, "peer": peer, **services} if meter else {"kernel": app + peer})

    def add_split(self, work, unit, parts):
        """Medians of what each process used."""
        names = {n for p in parts for n in p}
        self.split.append({"work": work, "unit": unit,
                           **{n: statistics.median([p[n] for p in parts if n in p]) for n in names}})

    def bulk(self, mtu):
        with Lab(self.build, mtu=mtu) as lab:
            lab.start()
            for way, word in ((OUT, "out"), (IN, "in")):
                rate = self.figure(f"bulk {word}, MTU {mtu}, kernel port", "Gbit/s", "more", goal=0.6 if mtu == 1500 else None)
                cpu = self.figure(f"CPU of our end, bulk {word}, MTU {mtu}", "s/GB", "less")
                parts = []
                for _ in range(self.rounds):
                    self.bulk_pair(lab, way, rate, cpu, parts)
                self.add_split(f"bulk {word}, MTU {mtu}", "s/GB", parts)
                self.done(rate, cpu)

    def bulk1500(self):
        self.bulk(1500)

    def bulk9000(self):
        self.bulk(9000)

    def offloads_off(self, lab):
        for ns, interface in ((lab.S, "hs0"), (lab.P, "p0"), (lab.K, "k0"), (lab.P, "p1")):
            run(["ip", "netns", "exec", ns, "ethtool", "-K", interface, "tso", "off", "gso", "off", "gro", "off"])

    def packets(self):
        """Packets per second of a bulk transfer when no device cuts or merges: every packet is one."""
        with Lab(self.build) as lab:
            self.offloads_off(lab)
            lab.start()
            for way, word in ((OUT, "out"), (IN, "in")):
                rate = self.figure(f"bulk {word}, MTU 1500, offloads off, kernel port", "Gbit/s", "more")
                packets = self.figure(f"packets {word}, offloads off, kernel port", "k packets/s", "more")
                for _ in range(self.rounds):
                    before = link_packets(lab.P, "p0")
                    self.bulk_pair(lab, way, rate)
                    packets.ours.append((link_packets(lab.P, "p0") - before) / self.seconds / 1e3)
                    before = link_packets(lab.P, "p1")
                    programs.iperf3_report(lab, *KERNEL[way], self.seconds, self.next_port())
                    packets.kernel.append((link_packets(lab.P, "p1") - before) / self.seconds / 1e3)
                self.done(rate, packets)

    def af_xdp(self):
        with Lab(self.build, interfaces=[AF_XDP]) as lab:
            self.offloads_off(lab)
            run(["ip", "netns", "exec", lab.P, "ethtool", "-K", "p0", "tx", "off"], check=False)
            lab.start()
            for way, word in ((OUT, "out"), (IN, "in")):
                rate = self.figure(f"bulk {word}, MTU 1500, net_af_xdp port, kernel with offloads off", "Gbit/s", "more",
                                   goal=0.6)
                for _ in range(self.rounds):
                    self.bulk_pair(lab, way, rate)
                self.done(rate)

    def memif(self):
        """Two stacks, no kernel between them; the kernel's figure is veth with offloads off."""
        with netns.World() as world:
            sock = os.path.join(world.dir, "memif.sock")
            labs = [Lab(self.build, world=world, interfaces=[
                f'name: hs0, kind: ethdev, device: "net_memif0,role={role},id=0,socket={sock},socket-abstract=no", '
                f'mac: "02:00:00:00:00:{number:02x}"'], number=number)
                for number, role in ((1, "server"), (2, "client"))]
            self.offloads_off(labs[0])
            try:
                for lab in labs:
                    lab.start()
                rate = self.figure("bulk, two stacks over net_memif, kernel over veth with offloads off", "Gbit/s", "more", goal=1)
                for _ in range(self.rounds):
                    rate.ours.append(self.memif_run(*labs))
                    report = programs.iperf3_report(labs[0], *KERNEL[OUT], self.seconds, self.next_port())
                    rate.kernel.append(report["end"]["sum_received"]["bits_per_second"] / 1e9)
                self.done(rate)
            finally:
                for lab in labs:
                    lab.stop(check=False)

    def memif_run(self, a, b):
        port = self.next_port()
        server = a.spawn("app", ["iperf3", "-s", "-1", "-p", port])
        a.wait_listening(port)
        client = b.spawn("app", ["iperf3", "-J", "-c", a.stack4, "-p", port, "-t", self.seconds])
        client.wait(self.seconds + 30)
        server.wait(10)
        return json.loads(client.output())["end"]["sum_received"]["bits_per_second"] / 1e9

    # --- requests ---

    def serve(self, lab):
        """A pingpong server everywhere; returns {where: program}."""
        at = {"app": STACK4, "kernel": KERNEL4, "peer": "0.0.0.0"}
        servers = {}
        for where, address in at.items():
            servers[where] = lab.spawn(where, [self.pingpong, "serve", address, 7100, 64])
            programs.wait_listening(lab, where, 7100)
        return servers

    def ask(self, lab, pair, mode, *numbers):
        argv = [self.pingpong, mode, programs.address_of(*pair), 7100, 64, *numbers]
        return json.loads(lab.run(pair[1], argv, self.seconds + 40).stdout)

    def requests(self):
        with Lab(self.build) as lab:
            lab.start()
            servers = self.serve(lab)
            for way, word in ((OUT, "client"), (IN, "server")):
                for conns in (1, 64):
                    what = f"64-byte request and response, stack as {word}, {conns} connection{'s' if conns > 1 else ''}"
                    rate = self.figure(f"{what}: rate", "k/s", "more", goal=0.5)
                    p50 = self.figure(f"{what}: p50", "µs", "less")
                    p99 = self.figure(f"{what}: p99", "µs", "less")
                    for _ in range(self.rounds):
                        for pair, column in ((way, "ours"), (KERNEL[way], "kernel")):
                            got = self.ask(lab, pair, "ask", conns, self.seconds, 0)
                            getattr(rate, column).append(got["rate"] / 1e3)
                            getattr(p50, column).append(got["p50_us"])
                            getattr(p99, column).append(got["p99_us"])
                    self.done(rate, p50, p99)
            self.load(lab, servers)

    def load(self, lab, servers):
        """CPU per request at parts of the rate that 64 connections reach, stack as server."""
        full = self.ask(lab, IN, "ask", 64, self.seconds, 0)["rate"]
        for percent in (10, 50, 100):
            rate = 0 if percent == 100 else max(1, int(full * percent / 100))
            total = self.figure(f"CPU of our end per request, stack as server, {percent} % load", "µs", "less")
            parts = []
            for _ in range(self.rounds):
                with Meter(lab, app=servers["app"].pid) as m:
                    got = self.ask(lab, IN, "ask", 64, self.seconds, rate)
                use = {n: v * 1e6 / got["requests"] for n, v in m.used.items()}
                total.ours.append(sum(use.values()))
                parts.append(use | {"peer": got["cpu_us"] / got["requests"]})
                with Meter(lab, app=servers["kernel"].pid) as m:
                    got = self.ask(lab, KERNEL[IN], "ask", 64, self.seconds, rate)
                total.kernel.append(m.used["app"] * 1e6 / got["requests"])
                parts.append({"kernel": (m.used["app"] * 1e6 + got["cpu_us"]) / got["requests"]})
            total.notes.append(f"{full * percent / 100:.0f} requests/s over 64 connections")
            self.add_split(f"request, {percent} % load", "µs", parts)
            self.done(total)

    def connections(self):
        """A connection per request; the client's side is the kernel's, which takes its ports back after a second."""
        with Lab(self.build) as lab:
            lab.world.sysctl(lab.P, "net.ipv4.tcp_tw_reuse=1", "net.ipv4.ip_local_port_range=1025 65000")
            lab.start()
            self.serve(lab)
            rate = self.figure("connections, stack as server, a request each, 16 at once", "k/s", "more")
            p50 = self.figure("time of one such connection: p50", "µs", "less")
            for _ in range(self.rounds):
                for pair, column in ((IN, "ours"), (KERNEL[IN], "kernel")):
                    got = self.ask(lab, pair, "connect", 16, self.seconds, 10 ** 9)
                    getattr(rate, column).append(got["rate"] / 1e3)
                    getattr(p50, column).append(got["p50_us"])
            self.done(rate, p50)

    # --- cut-through ---

    def cut(self):
        """Two programs of one host: under the shim on the stack's own address, and on the kernel's loopback."""
        places = (("app", STACK4, "ours"), ("kernel", KERNEL4, "kernel"))
        straight = os.path.join(self.build, "tests/bench/straight")
        with Lab(self.build) as lab:
            lab.start()
            rate = self.figure("bulk between two programs, cut-through", "Gbit/s", "more", goal=5)
            for _ in range(self.rounds):
                for where, address, column in places:
                    getattr(rate, column).append(programs.iperf3(lab, where, where, self.seconds, self.next_port(),
                                                                 address=address))
            self.done(rate)
            self.polling(lab, straight)
            asleep = {"VCL_CONFIG": lab.vcl_conf("vcl { spin-us 0 }\n")}
            for env, word in (({}, "blocking calls, default spin of 100 µs"), (asleep, "both sleeping, spin-us 0")):
                p50 = self.figure(f"64-byte ping-pong between two programs, {word}: p50", "µs", "less", goal=5)
                p99 = self.figure(f"64-byte ping-pong between two programs, {word}: p99", "µs", "less")
                for _ in range(self.rounds):
                    for where, address, column in places:
                        got = self.straight(lab, straight, where, address, "sleep", "ask", 64, self.seconds, "sleep", env=env)
                        getattr(p50, column).append(got["p50_us"])
                        getattr(p99, column).append(got["p99_us"])
                self.done(p50, p99)
            self.asleep(lab, straight, places, asleep, p50)
            self.segments(lab)
            connects = self.figure("connects between two programs, each closed at once", "k/s", "more")
            for _ in range(self.rounds):
                for where, address, column in places:
                    got = self.straight(lab, straight, where, address, "sleep", "connect", self.seconds)
                    getattr(connects, column).append(got["rate"] / 1e3)
            connects.notes.append("goal ≥ 20: " + ("met" if statistics.median(connects.ours) >= 20 else "**missed**"))
            self.done(connects)

    def cut_udp(self):
        """The same for datagrams: a connected socket of one program, a bound one of the other."""
        with Lab(self.build) as lab:
            lab.start()
            self.dgrams(lab, (("app", STACK4, "ours"), ("kernel", KERNEL4, "kernel")))

    def bare(self, lab, what, cores):
        """µs there and back of what the machine itself can do between two cores (tests/bench/bare.c)."""
        program = os.path.join(self.build, "tests/bench/bare")
        return json.loads(lab.run("kernel", [program, what, 1, *cores], 30).stdout)["p50_us"]

    def pair_polling(self, lab, what, goal, run):
        """p50 and p99, and beside them a bare cache line's way, before and after each run of ours. Each end has a core of its
        own, the same ones in both columns: how far two virtual cores are from each other changes by up to four times from
        one second to the next, and with it all three.
        run(where, address) gives {"p50_us", "p99_us"} and perhaps "lost"."""
        word = f"pinned to cores {' and '.join(map(str, self.cores))}"
        p50 = self.figure(f"{what}, both polling, {word}: p50", "µs", "less", goal=goal)
        p99 = self.figure(f"{what}, both polling, {word}: p99", "µs", "less")
        line = self.figure(f"a bare cache line there and back between two processes, {word}: p50", "µs", "less")
        rounds, lost = [], 0
        for _ in range(self.rounds):
            before = self.bare(lab, "line", self.cores)
            for where, address, column in (("app", STACK4, "ours"), ("kernel", KERNEL4, "kernel")):
                got = run(where, address)
                getattr(p50, column).append(got["p50_us"])
                getattr(p99, column).append(got["p99_us"])
                lost += got.get("lost", 0)
                if column == "ours":
                    line.kernel += [before, self.bare(lab, "line", self.cores)]
            rounds.append(f"{line.kernel[-2]:.2f}, **{p50.ours[-1]:.2f}**, {line.kernel[-1]:.2f}")
        line.notes.append(f"two programs that poll can't be faster; before, **ours**, after: {'; '.join(rounds)}")
        if lost:
            p50.notes.append(f"{lost} lost")
        self.done(p50, p99, line)

    def polling(self, lab, straight):
        self.pair_polling(lab, "64-byte ping-pong between two programs", 10, lambda where, address: self.straight(
            lab, straight, where, address, "poll", "ask", 64, self.seconds, "poll", cores=self.cores))

    def dgrams(self, lab, places):
        self.pair_polling(lab, "UDP: 64-byte ping-pong between two programs", None, lambda where, address: self.dgrams_run(
            lab, where, address, "echo", "poll", "ask", 64, self.seconds, "poll", cores=self.cores))
        rate = self.figure("UDP: datagrams of 1400 bytes that arrive, one way, between two programs", "k/s", "more")
        most = 0
        for _ in range(self.rounds):
            for where, address, column in places:
                got = self.dgrams_run(lab, where, address, "count", "sleep", "flood", 1400, self.seconds)
                getattr(rate, column).append(got["rate"] / 1e3)
                most = max(most, 1 - got["arrived"] / got["sent"]) if column == "ours" else most
        rate.notes.append(f"at most {100 * most:.0f} % of ours found no room at the receiver")
        self.done(rate)

    def dgrams_run(self, lab, where, address, role, mode, what, *numbers, cores=None):
        program, port = os.path.join(self.build, "tests/bench/dgrams"), self.next_port()
        pins = pinned(cores)
        server = lab.spawn(where, [*pins[0], program, "serve", address, port, role, mode])
        wait_for(lambda: "up" in server.output(), 20, "the server")
        try:
            return json.loads(lab.run(where, [*pins[1], program, what, address, port, *numbers], self.seconds + 20).stdout)
        finally:
            server.stop()

    def asleep(self, lab, straight, places, env, free):
        """What a sleep costs where it runs: both ends on one core, on two, and a bare eventfd beside them."""
        for cores, word in ((self.cores[:1] * 2, "one core"), (self.cores, "two cores")):
            p50 = self.figure(f"64-byte ping-pong between two programs, both sleeping, pinned to {word}: p50", "µs", "less")
            bare = self.figure(f"a bare eventfd there and back between two processes, pinned to {word}: p50", "µs", "less")
            for _ in range(self.rounds):
                for where, address, column in places:
                    got = self.straight(lab, straight, where, address, "sleep", "ask", 64, 1, "sleep", env=env, cores=cores)
                    getattr(p50, column).append(got["p50_us"])
                bare.kernel.append(self.bare(lab, "wake", cores))
            most = statistics.median(p50.kernel) / statistics.median(bare.kernel)
            bare.notes.append(f"whoever sleeps in the kernel and is woken by it, both ways, reaches {most:.1f} × the "
                              "kernel's loopback there at the most")
            free.notes.append(f"a bare eventfd reaches {most:.1f} × on {word}")
            self.done(p50, bare)

    def straight(self, lab, program, where, address, mode, what, *numbers, env=None, cores=None):
        port = self.next_port()
        extra = {"env": env} if env and where == "app" else {}
        pins = pinned(cores)
        server = lab.spawn(where, [*pins[0], program, "serve", address, port, 64, mode], **extra)
        programs.wait_listening(lab, where, port)
        try:
            return json.loads(lab.run(where, [*pins[1], program, what, address, port, *numbers], self.seconds + 20,
                                      **extra).stdout)
        finally:
            server.stop()

    def segments(self, lab):
        """The library's own calls: reading where the bytes lie, beside reading by way of a buffer."""
        program = os.path.join(lab.dir, "segments")  # readable for any user
        shutil.copy(os.path.join(self.build, "tests/bench/segments"), program)
        os.chmod(program, 0o755)
        rates = {how: self.figure(f"bulk between two programs on libvppcom, {words}", "Gbit/s", "more")
                 for how, words in (("copy", "read and write"), ("segments", "read_segments and write_segments"))}
        for _ in range(self.rounds):
            for how, rate in rates.items():
                port = self.next_port()
                native = ["env", "-u", "LD_PRELOAD", f"VCL_VPP_SAPI_SOCKET={lab.attach}", program]
                server = lab.spawn("app", [*native, "serve", STACK4, port, how])
                lab.wait_listening(port)
                got = lab.run("app", [*native, "send", STACK4, port, self.seconds, how], self.seconds + 20)
                rate.ours.append(json.loads(got.stdout)["gbit"])
                server.stop()
        ratio = statistics.median(rates["segments"].ours) / statistics.median(rates["copy"].ours)
        rates["segments"].notes.append(f"{ratio:.2f} × the copying figure; goal ≥ 2: " + ("met" if ratio >= 2 else "**missed**"))
        self.done(*rates.values())

    # --- programs ---

    def web(self):
        web.web(self)

    def crowd(self):
        web.crowd(self)

    # --- at rest and at the start ---

    def idle(self):
        with Lab(self.build) as lab:
            lab.start()
            self.serve(lab)
            total = self.figure("CPU of the four services when nothing happens, one program listening", "% of a core", "less")
            hold(2, lambda: True)
            parts = []
            for _ in range(self.rounds):
                with Meter(lab) as m:
                    hold(10 / self.rounds + 1, lambda: True)
                total.ours.append(sum(m.used.values()) / m.seconds * 100)
                parts.append({n: v / m.seconds * 100 for n, v in m.used.items()})
            total.notes.append("goal < 1: " + ("met" if statistics.median(total.ours) < 1 else "**missed**"))
            self.add_split("idle", "% of a core", parts)
            self.done(total)

    def startup(self):
        """hsctl up to the first answered request; the program is started as soon as the stack serves."""
        total = self.figure("`hsctl up` to first byte served", "ms", "less")
        up = self.figure("`hsctl up` until all four serve", "ms", "less")
        for _ in range(self.rounds):
            with Lab(self.build) as lab:
                start = time.monotonic()
                lab.hsctl("up")
                up.ours.append((time.monotonic() - start) * 1e3)
                lab.spawn("app", [self.pingpong, "serve", STACK4, 7100, 64])
                wait_for(lambda: lab.peer([self.pingpong, "connect", STACK4, 7100, 64, 1, 1, 1], check=False).returncode == 0,
                         20, "a first answer", step=0.001)
                total.ours.append((time.monotonic() - start) * 1e3)
                lab.hsctl("down")
        self.done(up, total)


def pinned(cores):
    """Words before the command lines of server and client."""
    return [["taskset", "-c", core] for core in cores] if cores else [[], []]


def link_packets(ns, interface):
    link = json.loads(run(["ip", "-n", ns, "-j", "-s", "link", "show", interface]).stdout)[0]["stats64"]
    return link["rx"]["packets"] + link["tx"]["packets"]


SECTIONS = ("startup", "idle", "bulk1500", "bulk9000", "requests", "connections", "packets", "af_xdp", "memif", "cut", "cut_udp",
            "web", "crowd")


def interrupted(number, _frame):
    raise KeyboardInterrupt(signal.Signals(number).name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.path.join(TOP, "build/release"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of one run")
    parser.add_argument("--only", nargs="+", choices=SECTIONS)
    parser.add_argument("--out", default=os.path.join(TOP, "docs/bench"))
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: needs root, for network namespaces")
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("bench: needs two cores")
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, interrupted)
    bench = Bench(args.build, args.rounds, args.seconds)
    kept = figures.read(args.out) if args.only else {}
    new = {}
    try:
        for name in args.only or SECTIONS:
            say(name)
            new[name] = bench.section(name)
        both = kept | new
        figures.write(args.out, {name: both[name] for name in SECTIONS if name in both})
    except KeyboardInterrupt:
        say("bench: interrupted, no report")
        sys.exit(130)
    finally:
        netns.close_all()
    failed = [name for name, s in new.items() if s["failed"]]
    say(f"written: {args.out}/REPORT.md" + (f"; not measured: {', '.join(failed)}" if failed else ""))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

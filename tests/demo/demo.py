#!/usr/bin/env python3
"""`make demo`: the stack carries real programs' traffic to and from the kernel's TCP, and survives the death of each part.

(a) iperf3 both ways, ours beside kernel-to-kernel on a veth of the same kind in the same run; (b) a 200 MB file through
nginx and curl both ways, checked by sha256, and its ratio to the kernel's; (c) hsctl show while traffic runs; (d) each
service killed with -9 in the middle of such a transfer, both ways, and all rings thrown away: the same connection goes
on. Ends with a table; exit status 1 if anything in it failed. What it made is removed on every way out.
"""
import argparse
import os
import signal
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "support"))

import netns  # noqa: E402
import programs  # noqa: E402
from stack import SERVICES, Lab  # noqa: E402

GOAL = 0.6
ROUNDS = 3  # of iperf3
FILE_ROUNDS, FILE_ROUNDS_MOST = 5, 11  # of a file: a transfer takes a fraction of a second, so that one says little
FILE_NAME, FILE_SIZE = "random.bin", 200 * 1000 * 1000
DIRECTIONS = (("app", "peer", "out of the stack"), ("peer", "app", "into the stack"))
BASELINE = {"app": "kernel", "peer": "peer"}
DEADLINE_S = 900


class Table:
    """Rows of the result: what, values, verdict; printed at the end."""

    def __init__(self):
        self.rows = []

    def add(self, what, ok, *values):
        self.rows.append((what, "ok" if ok else "FAILED", *values))
        say(f"   {'ok' if ok else 'FAILED'}: {what} {' '.join(values)}")

    def show(self):
        rows = [("what", "result", "ours", "kernel", "ratio")] + [r + ("",) * (5 - len(r)) for r in self.rows]
        width = [max(len(r[i]) for r in rows) for i in range(5)]
        print()
        for row in rows:
            print("  " + "  ".join(cell.ljust(w) for cell, w in zip(row, width)).rstrip())
        return all(row[1] == "ok" for row in self.rows)


def say(text):
    print(text, flush=True)


def side_by_side(ours, kernels):
    """Medians of both in Gbit/s and their ratio, as a row's cells."""
    a, b = statistics.median(ours), statistics.median(kernels)
    return f"{a:.2f} Gbit/s", f"{b:.2f} Gbit/s", f"{a / b:.2f}"


def show_iperf3(lab, table, seconds):
    say(f"\n(a) iperf3, {ROUNDS} rounds of {seconds} s in turn with kernel-to-kernel on a veth of the same kind")
    port = 5201
    for server, client, where in (("peer", "app", "out of the stack"), ("app", "peer", "into the stack")):
        ours, kernels = [], []
        for _ in range(ROUNDS):
            ours.append(programs.iperf3(lab, server, client, seconds, port))
            kernels.append(programs.iperf3(lab, BASELINE[server] if server == "app" else "peer",
                                           BASELINE[client] if client == "app" else "peer", seconds, port + 1))
            say(f"   {where}: ours {ours[-1]:.2f}, kernel {kernels[-1]:.2f} Gbit/s")
            port += 2
        table.add(f"iperf3 {where}", True, *side_by_side(ours, kernels))


def fetch_both(lab, server, client, sha):
    """One transfer over the stack, and one over the kernel right after it: Gbit/s of both."""
    pair = (BASELINE[server], BASELINE[client] if client == "app" else "peer")
    ours = programs.fetch(lab, server, client, FILE_NAME, FILE_SIZE, sha) * 8e-9
    return ours, programs.fetch(lab, *pair, FILE_NAME, FILE_SIZE, sha) * 8e-9


def median_ratio(rounds):
    return statistics.median(ours / kernels for ours, kernels in rounds)


def show_files(lab, table, sha):
    """The verdict is the median of the rounds' ratios; where it misses the goal, more rounds decide together with them."""
    say(f"\n(b) {FILE_SIZE // 1000000} MB through nginx and curl, sha256 compared, in turn with the kernel, the first not counted")
    for server, client, where in DIRECTIONS:
        fetch_both(lab, server, client, sha)
        rounds = []
        while len(rounds) < FILE_ROUNDS or (len(rounds) < FILE_ROUNDS_MOST and median_ratio(rounds) < GOAL):
            rounds.append(fetch_both(lab, server, client, sha))
            say(f"   {where}: ours {rounds[-1][0]:.2f}, kernel {rounds[-1][1]:.2f} Gbit/s, content equal")
        ours, kernels = (statistics.median(column) for column in zip(*rounds))
        ratio = median_ratio(rounds)
        table.add(f"file {where}, median of {len(rounds)} ratios >= {GOAL}", ratio >= GOAL,
                  f"{ours:.2f} Gbit/s", f"{kernels:.2f} Gbit/s", f"{ratio:.2f}")


def show_state(lab, table):
    say("\n(c) hsctl while iperf3 runs")
    seen = []

    def look():
        transfer_runs(lab)
        for what in ("session", "tcp", "interface"):
            text = lab.hsctl("show", what).stdout.decode()
            say(f"   $ hsctl show {what}\n" + "".join(f"     {line}\n" for line in text.splitlines()))
            seen.append(text)

    programs.iperf3(lab, "peer", "app", 3, 5301, during=look)
    table.add("hsctl show session, tcp, interface under traffic",
              len(seen) == 3 and "ESTABLISHED" in seen[0].upper() and "hs0" in seen[2])


def transfer_runs(lab):
    """Waits for an established session."""
    netns_wait = programs.wait_for
    netns_wait(lambda: [s for s in lab.sessions() if s["state"].upper() == "ESTABLISHED"], 10, "an established session")


def disturb(lab, what):
    """Kills a service and waits for its successor, or throws the rings away. Milliseconds that it took."""
    start = time.monotonic()
    if what == "reset-rings":
        lab.hsctl("reset-rings")
    else:
        pid = lab.kill_service(what)
        lab.wait_service(what, pid)
    return (time.monotonic() - start) * 1000


def show_deaths(lab, table, sha):
    say("\n(d) each service killed with -9 in the middle of the transfer, and the rings thrown away: one curl, no retry")
    for server, client, where in DIRECTIONS:
        for what in (*SERVICES, "reset-rings"):
            title = f"{'kill -9 ' if what in SERVICES else ''}{what}, {where}"
            transfer = programs.Transfer(lab, server, client, FILE_NAME, FILE_SIZE)
            try:
                transfer.wait_got(0.3)
                ms = disturb(lab, what)
                transfer.finish(sha)
                table.add(title, True, f"whole in one connection, {what} back after {ms:.0f} ms")
            except (AssertionError, TimeoutError) as e:
                table.add(title, False, str(e).splitlines()[0])
                say("".join(f"     {line}\n" for line in (str(e) + "\n" + lab.log_tail(25)).splitlines()))
                transfer.curl.kill()


def demo(build, seconds, only):
    table = Table()
    say("network namespaces, a veth to the kernel, four services")
    with Lab(build) as lab:
        start = time.monotonic()
        lab.start()
        say(f"   all four serve after {(time.monotonic() - start) * 1000:.0f} ms")
        sha = programs.random_file(os.path.join(lab.world.data_dir, FILE_NAME), FILE_SIZE)
        if "a" in only:
            show_iperf3(lab, table, seconds)
        if set("bd") & set(only):
            for where in ("app", "peer", "kernel"):
                programs.nginx(lab, where, lab.world.data_dir)
        if "b" in only:
            show_files(lab, table, sha)
        if "c" in only:
            show_state(lab, table)
        if "d" in only:
            show_deaths(lab, table, sha)
        for program in lab.world.programs:
            program.stop()
        complaints = lab.complaints()
        table.add("services: no death but those, no complaint", not complaints, "; ".join(complaints))
        lab.stop(check=False)
    return table.show()


def interrupted(number, _frame):
    raise KeyboardInterrupt(signal.Signals(number).name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--seconds", type=int, default=3, help="of one iperf3 run")
    parser.add_argument("--only", default="abcd", help="letters of the parts to show")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("demo: needs root, for network namespaces")
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(sig, interrupted)
    signal.alarm(DEADLINE_S)
    try:
        good = demo(args.build, args.seconds, args.only)
    except KeyboardInterrupt as e:
        say(f"demo: interrupted ({e})")
        sys.exit(130)
    except (AssertionError, TimeoutError) as e:
        sys.exit(f"demo: {e}")
    finally:
        netns.close_all()
    print("\ndemo: " + ("everything shown" if good else "FAILED"))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

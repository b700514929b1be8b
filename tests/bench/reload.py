#!/usr/bin/env python3
"""Part of `make soak`: nginx reloaded three times a second under ab and wrk; writes docs/bench/RELOAD.md.

Runs tests/net/test_net_shim_web's two tests of it with loads of --seconds each (20 of them), which write a line of JSON
for every load to the file that HS_RELOAD_OUT names, and puts these figures on the page, failed ones too. Exit status is
the test's; without any figure there is no page.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)

import figures  # noqa: E402

TEST = os.path.join(TOP, "tests/net/test_net_shim_web.py")
LOADS = 20

TEXT = """# nginx reloaded under load

Written by `make soak` (tests/bench/reload.py). {stamp}. The figures are those of
tests/net/test_net_shim_web.py, test_nginx_reload and test_nginx_reuseport, with loads of {seconds} s: an nginx of three workers on
the stack is sent SIGHUP three times a second while 8 connections of ab or wrk ask, without pause; "kernel" is the same nginx
on the kernel's TCP in the same run. client: of the kernel's TCP, or on the stack like the server (cut-through).

With close each request has a connection of its own, and none may fail. nginx closes kept connections when it is reloaded,
also under a request (RFC 9112, 9.5), and neither ab nor wrk asks again: "cut" are those connections, "failed" is all else.

"""


def run(build, seconds):
    """Status of the test, and what it noted."""
    with tempfile.TemporaryDirectory(prefix="hs-reload-") as folder:
        out = os.path.join(folder, "loads")
        env = os.environ | {"HS_RELOAD_S": str(seconds), "HS_RELOAD_OUT": out}
        status = subprocess.run([sys.executable, "-B", TEST, "--build", build, "--deadline", str(LOADS * (seconds + 15) + 300),
                                 "-k", "nginx_reload", "-k", "nginx_reuseport"], env=env, check=False).returncode
        if not os.path.exists(out):
            return status, []
        with open(out, encoding="utf-8") as f:
            return status, [json.loads(line) for line in f]


def added(notes):
    """{(listener, load, client, kept): {where: sums}}: a load that was over before a second reload was repeated."""
    rows = {}
    for n in notes:
        if "load" in n:
            at = rows.setdefault((n["listener"], n["load"], n["client"], n["kept"]), {})
            old = at.setdefault(n["where"], {"reloads": 0, "requests": 0, "failed": 0, "cut": 0, "status": 0})
            for key in ("reloads", "requests", "failed", "cut"):
                old[key] += n[key]
            old["status"] = old["status"] or n["status"]
    return rows


def failed(s):
    words = f"{s['failed']:,}" + (f", ended with status {s['status']}" if s["status"] else "")
    return f"**{words}**" if s["failed"] or s["status"] else words


def cells(key, at):
    listener, load, client, kept = key
    ours, kernel = at.get("app"), at.get("kernel")
    return (listener or "shared", f"`{load}`", "kernel" if client == "peer" else "stack",
            *((f"{ours['reloads']:,}", f"{ours['requests']:,}", failed(ours)) if ours else ("", "", "")),
            *(f"{s['cut'] / s['reloads']:.2f} ({s['cut']:,} in {s['reloads']:,})" if kept and s and s["reloads"] else ""
              for s in (ours, kernel)))


def goals(rows, notes):
    """Lines under the table."""
    closed = [at["app"] for (_, _, _, kept), at in rows.items() if not kept and "app" in at]
    bad = sum(s["failed"] for s in closed) or any(s["status"] for s in closed)
    yield (f"- with close, 0 failed of {sum(s['requests'] for s in closed):,} requests over "
           f"{sum(s['reloads'] for s in closed):,} reloads: " + ("**missed**" if bad else "met"))
    for n in notes:
        if "rate" in n:
            ours, kernel = n["rate"]["app"], n["rate"]["kernel"]
            yield (f"- kept connections, listener {n['listener'] or 'shared'}, client of the kernel's: {ours:.2f} cut per reload, the "
                   f"kernel's nginx {kernel:.2f}; no more than that and its spread, {n['most']:.2f} (1.3 ×, and one connection "
                   "each once): " + ("met" if ours <= n["most"] else "**missed**"))


def page(about, seconds, status, notes):
    rows = added(notes)
    text = TEXT.format(stamp=figures.stamp(about), seconds=seconds)
    if status:
        text += "The test failed: see its output.\n\n"
    text += figures.table([("listener", "load", "client", "reloads", "requests", "failed", "cut per reload", "kernel's"),
                           ("---",) * 8, *[cells(key, at) for key, at in rows.items()]])
    return text + "\nGoals:\n\n" + "\n".join(goals(rows, notes)) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.path.join(TOP, "build/release"))
    parser.add_argument("--seconds", type=int, default=int(os.environ.get("HS_RELOAD_S", "60")), help="of each of 20 loads")
    parser.add_argument("--out", default=os.path.join(TOP, "docs/bench"), help="folder of RELOAD.md; - for none")
    args = parser.parse_args()
    about = figures.machine(TOP)
    status, notes = run(os.path.abspath(args.build), args.seconds)
    if notes:
        text = page(about, args.seconds, status, notes)
        print(text)
        if args.out != "-":
            with open(os.path.join(args.out, "RELOAD.md"), "w", encoding="utf-8") as f:
                f.write(text)
    sys.exit(status)


if __name__ == "__main__":
    main()

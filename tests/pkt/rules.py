#!/usr/bin/env python3
"""RULES.md from the cases: RFC section -> case -> function of ours, what Linux does otherwise, where we deviate; every
state against every class of segment (matrix.txt); what only other tests can show (elsewhere.txt).

usage: rules.py --runner PKT_RUN [--write]

Without --write the table in the tree is compared with the one that the cases give, and each function that a case names
must be defined below services/engine or common/wire. Registered with ctest (label pkt).
"""
import argparse
import glob
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
TABLE = os.path.join(HERE, "RULES.md")
MATRIX, ELSEWHERE = os.path.join(HERE, "matrix.txt"), os.path.join(HERE, "elsewhere.txt")
STATES = ("CLOSED LISTEN SYN_SENT SYN_RECEIVED ESTABLISHED FIN_WAIT_1 FIN_WAIT_2 CLOSE_WAIT CLOSING LAST_ACK "
          "TIME_WAIT").split()
LEAST = 300


def cases(runner):
    """[dict] of what the runner read, so that this script has no parser of its own."""
    files = sorted(glob.glob(os.path.join(HERE, "cases", "*.pkt")))
    out = subprocess.run([runner, "--list"] + files, check=True, capture_output=True, text=True).stdout
    names = ("file", "name", "rfc", "fn", "rule", "skip", "differs", "deviates")
    return [dict(zip(names, line.split("\t"))) for line in out.splitlines()]


def defined():
    """Names of the functions defined in the code under test."""
    found = set()
    for folder in ("services/engine", "common/wire"):
        for path in glob.glob(os.path.join(TOP, folder, "**", "*.[ch]"), recursive=True):
            with open(path, encoding="utf-8", errors="replace") as f:
                found.update(re.findall(r"^[a-z][\w \*]*?\b\*?(\w+)\([^;{]*\)\s*\{", f.read(), re.M))
    return found


def section_key(ref):
    rfc, _, section = ref.partition("/")
    return int(re.sub(r"\D", "", rfc) or 0), [int(p) if p.isdigit() else 0 for p in section.split(".")], ref


def pretty(ref):
    rfc, _, section = ref.partition("/")
    return f"RFC {rfc[3:]} {section}"


def lines(path):
    with open(path, encoding="utf-8") as f:
        return [line.strip() for line in f if line.strip() and not line.startswith("#")]


def matrix(rows):
    """(lines of the table state x class of segment, complaints)"""
    names, complaints = {r["name"] for r in rows}, []
    text = ["| segment | " + " | ".join(STATES) + " |", "|---" * (len(STATES) + 1) + "|"]
    for line in lines(MATRIX):
        head, _, cells = line.partition(":")
        cls, _, what = (p.strip() for p in head.partition("="))
        cells = cells.split()
        if len(cells) != len(STATES):
            complaints.append(f"matrix.txt: {cls} has {len(cells)} cells for {len(STATES)} states")
            continue
        cells = [f"{s.lower()}_{cls}" if c == "*" else c for s, c in zip(STATES, cells)]
        complaints += [f"matrix.txt: {s} x {cls}: no case {c}" for s, c in zip(STATES, cells) if c != "-" and c not in names]
        text.append(f"| {what} | " + " | ".join(cells) + " |")
    return text, complaints


def elsewhere():
    """(lines of the table of what other tests show, complaints)"""
    text, complaints = ["| rule | what | test | why not here |", "|---|---|---|---|"], []
    for line in lines(ELSEWHERE):
        parts = [p.strip() for p in line.split(" :: ")]
        if len(parts) != 4:
            complaints.append(f"elsewhere.txt: not RULE :: WHAT :: TESTS :: WHY: {line}")
            continue
        for test in parts[2].split(","):
            path, _, fn = test.strip().partition(" ")
            full = os.path.join(TOP, path)
            if not os.path.exists(full) or not re.search(rf"\b{fn}\(", open(full, encoding="utf-8").read()):
                complaints.append(f"elsewhere.txt: no {fn} in {path}")
        text.append("| " + " | ".join(parts) + " |")
    return text, complaints


def table(rows):
    by_rule = {}
    for row in rows:
        for ref in row["rfc"].split(","):
            by_rule.setdefault(ref, []).append(row)
    linux = [r for r in rows if not r["skip"]]
    text = ["# Rules, cases, functions", "",
            "Written by `tests/pkt/rules.py` from the cases; a test fails when it is out of date.", "",
            f"{len(rows)} cases under {len(by_rule)} sections; {len(linux)} of them also run against Linux, "
            f"{sum(bool(r['differs']) for r in linux)} of those with lines of their own for it.", "",
            "| rule | case | function |", "|---|---|---|"]
    for ref in sorted(by_rule, key=section_key):
        for row in by_rule[ref]:
            text.append(f"| {pretty(ref)} | {row['file'][:-4]}: {row['name']} | {row['fn'].replace(',', ', ')} |")
    for title, key in (("Where we deviate from an RFC", "deviates"), ("Where Linux differs from us", "differs"),
                       ("Not run against Linux", "skip")):
        text += ["", f"## {title}", "", "| case | reason |", "|---|---|"]
        text += [f"| {r['name']} | {r[key]} |" for r in rows if r[key]]
    cells, bad = matrix(rows)
    others, worse = elsewhere()
    text += ["", "## Every state against every class of segment", "",
             "Beyond and below are measured by the receive window; `-`: the state has none yet.", "", *cells,
             "", "## Shown by other tests", "", *others]
    return "\n".join(text) + "\n", bad + worse


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", required=True)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    rows = cases(args.runner)
    known, bad = defined(), 0
    for row in rows:
        for fn in row["fn"].split(","):
            if fn not in known:
                print(f"{row['file']}: {row['name']} names {fn}, which is not defined in the engine")
                bad += 1
        if not re.fullmatch(r"rfc\d+/[\d.]+(,rfc\d+/[\d.]+)*", row["rfc"]):
            print(f"{row['file']}: {row['name']}: no RFC and section: {row['rfc']}")
            bad += 1
    if len(rows) < LEAST:
        print(f"only {len(rows)} cases, {LEAST} are wanted")
        bad += 1
    text, complaints = table(rows)
    for c in complaints:
        print(c)
    bad += len(complaints)
    if args.write:
        with open(TABLE, "w", encoding="utf-8") as f:
            f.write(text)
    else:
        with open(TABLE, encoding="utf-8") as f:
            if f.read() != text:
                print(f"{os.path.relpath(TABLE, TOP)} is not what the cases say: run rules.py --write")
                bad += 1
    print(f"{len(rows)} cases, {bad} complaints")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

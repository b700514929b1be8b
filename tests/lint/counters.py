#!/usr/bin/env python3
"""docs/COUNTERS.md lists every counter and drop reason that users see: name, severity and meaning, from the lists in the
code. `counters.py --update` writes it; ctest (label lint) compares, and finds names that come twice and texts that say
nothing.
"""
import os
import re
import sys

from lintlib import TOP, read

PAGE = "docs/COUNTERS.md"
WORDS = ("info", "warn", "error")
TEXT = r'"((?:[^"\\]|\\.)*)"'
# where, what is before the name, pattern of a row; groups name, severity (absent: info) and help
LISTS = [
    ("tcp", "services/engine/tcp/tcp_counters.h", "tcp.", rf"X\((?P<name>\w+), (?P<sev>info|warn|error|gauge),\s*{TEXT}\)"),
    ("udp", "services/engine/udp/udp_counters.h", "udp.", rf"X\((?P<name>\w+), (?P<sev>[0-3]),\s*{TEXT}\)"),
    ("ip, ethernet", "services/engine/ip/ip_counters.h", "", rf'X\(\w+, "(?P<name>[^"]+)", (?P<sev>[0-3]),\s*{TEXT}\)'),
    ("engine, sessions", "services/engine/session/counters.h", "",
     rf'X\(\w+, "(?P<name>[^"]+)", (?P<sev>[0-3]),\s*{TEXT}\)'),
    ("interfaces (`INTERFACE` is its name)", "services/nicio/ctl.c", "INTERFACE.",
     rf'\[ABI_PC_\w+\] = \{{"(?P<name>[^"]+)",\s*{TEXT},\s*(?P<sev>[0-3])\}}'),
    ("nicio", "services/nicio/lcore.h", "", rf'X\(\w+, "(?P<name>[^"]+)",\s*{TEXT}\)'),
    ("broker", "services/broker/broker.h", "", rf'X\(\w+, "(?P<name>[^"]+)",\s*{TEXT}, (?P<sev>[0-3])\)'),
]
HEAD = """# Counters and drop reasons

Written by `tests/lint/counters.py --update` from the lists in the code; a lint compares. `hsctl show stats` prints the
engine's, `hsctl show tcp statistics` TCP's, `hsctl show interface` an interface's, and `hsctl show drops` those of all
with severity warn (`!`) or error (`X`) that are not 0. A gauge goes down again; all others only grow, also across a
restart of their service. Datagrams that cut-through drops, because their receiver reads too little, no service sees:
`hsctl show app` counts them per worker that sent them, `hsctl show session` (lost) per session they were for.
"""


def rows(text, prefix, pattern):
    """[(name, severity, help)]; continued lines of a macro are one."""
    flat = re.sub(r"\s*\\\n\s*", " ", text)
    found = []
    for m in re.finditer(pattern, flat):
        sev = m.groupdict().get("sev") or "0"
        help_text = next(g for g in reversed(m.groups()) if g and g not in (m.group("name"), sev))
        found.append((prefix + m.group("name"), WORDS[int(sev)] if sev in "012" else "gauge" if sev == "3" else sev,
                      help_text.replace('\\"', '"')))
    return found


def page(lists):
    out, seen = [HEAD], {}
    for title, entries in lists:
        out.append(f"\n## {title}\n\n| name | severity | meaning |\n|---|---|---|\n")
        for name, severity, text in entries:
            seen[name] = seen.get(name, 0) + 1
            cell = text.replace("|", "\\|")
            out.append(f"| {name} | {severity} | {cell} |\n")
    bad = [f"{n}: comes twice" for n, times in seen.items() if times > 1]
    bad += [f"{n}: says nothing" for _, entries in lists for n, _, text in entries if len(text) < 8]
    bad += [f"{title}: no counter found" for title, entries in lists if not entries]
    return "".join(out), bad


def self_test():
    sample = '  X(a, warn, "one that is lost") \\\n  X(b, gauge,  \\\n    "one \\"more\\" here")\n'
    good = rows(sample, "t.", LISTS[0][3]) == [("t.a", "warn", "one that is lost"), ("t.b", "gauge", 'one "more" here')]
    twice = page([("x", [("t.a", "info", "long enough")] * 2)])[1]
    short = page([("x", [("t.a", "info", "no")])])[1]
    return good and twice and short and page([("x", [])])[1]


def main():
    if not self_test():
        sys.exit("counters: self-test failed")
    text, bad = page([(title, rows(read(path), prefix, pattern)) for title, path, prefix, pattern in LISTS])
    if sys.argv[1:] == ["--update"]:
        with open(os.path.join(TOP, PAGE), "w", encoding="utf-8") as f:
            f.write(text)
    elif not os.path.exists(os.path.join(TOP, PAGE)) or read(PAGE) != text:
        bad.append(f"{PAGE} is not what the code says: run tests/lint/counters.py --update")
    for line in bad:
        print(line)
    print(f"counters: {len(re.findall('^[|] [^n-]', text, re.M))} rows, {len(bad)} findings")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Every room has a README of one screen, and what a README points to exists. Registered with ctest (label lint).

Checked: a room of includes.py that holds code has README.md of at most SCREEN lines; relative links resolve; in the
tree's README every path in backquotes and every `make` target exists, and every package of packaging/ is named.
"""
import os
import re
import sys

from includes import ROOMS
from lintlib import TOP, files, line_of, read, samples_hold

SCREEN = 60
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
PATH = re.compile(r"`((?:common|services|tests|vcl|proto|config|packaging|cmake|compose|\.ci)/[\w./-]*|[\w-]+\.(?:md|txt|json))`")
TARGET = re.compile(r"`?make ([a-z]+)\b")


def exists(path, target):
    beside = os.path.join(TOP, os.path.dirname(path), target)
    return os.path.exists(beside) or os.path.exists(os.path.join(TOP, target))


def make_targets():
    return set(re.findall(r"^([a-z]+):", read("Makefile"), re.M))


def packages():
    lines = (line.split("#")[0].strip() for line in read("packaging/debian-packages.txt").splitlines())
    return [name for name in lines if name]


def packages_not_named(readme):
    words = set(re.findall(r"[\w+.-]*\w", readme))
    return [name for name in packages() if name not in words]


def check(path, text):
    found = [(line_of(text, m.start()), f"points to {m.group(1)}, which is not there") for m in LINK.finditer(text)
             if "://" not in m.group(1) and not exists(path, m.group(1))]
    if path == "README.md":
        found += [(line_of(text, m.start()), f"names {m.group(1)}, which is not there") for m in PATH.finditer(text)
                  if not exists(path, m.group(1))]
        found += [(line_of(text, m.start()), f"names `make {m.group(1)}`, which the Makefile does not have")
                  for m in TARGET.finditer(text) if m.group(1) not in make_targets()]
    elif os.path.basename(path) == "README.md" and os.path.dirname(path) in ROOMS and text.count("\n") > SCREEN:
        found.append((1, f"{text.count(chr(10))} lines; a room's README is one screen ({SCREEN})"))
    return found


def rooms_without_readme(names):
    holding = {r for r in ROOMS if any(n.startswith(r + "/") and n.endswith((".c", ".h")) for n in names)}
    return sorted(r for r in holding if r != "tests/unit/services/nicio" and f"{r}/README.md" not in names)


BAD = [
    ("README.md", "see [rooms](no/such.md)\n"),
    ("README.md", "run `make world`\n"),
    ("README.md", "the list is `packaging/nothing.txt`\n"),
    ("common/base/README.md", "line\n" * (SCREEN + 1)),
]
GOOD = [("README.md", "`make test`, `tests/lint`, [list](packaging/debian-packages.txt), [web](https://a.b/c)\n")]


def main():
    if not samples_hold("readme", check, BAD, GOOD) or rooms_without_readme(["vcl/x.c"]) != ["vcl"] \
            or packages_not_named(" ".join(packages()[1:])) != packages()[:1]:
        sys.exit("readme: self-test failed")
    names = files(".md", ".c", ".h")
    found = [f"{room}: has code and no README.md" for room in rooms_without_readme(names)]
    found += [f"README.md: does not name the package {name}" for name in packages_not_named(read("README.md"))]
    readmes = [n for n in names if n.endswith(".md")]
    found += [f"{p}:{line}: {message}" for p in readmes for line, message in check(p, read(p))]
    for line in found:
        print(line)
    print(f"readme: {len(readmes)} files, {len(found)} findings; {len(BAD)} bad samples rejected")
    sys.exit(1 if found or "README.md" not in names else 0)


if __name__ == "__main__":
    main()

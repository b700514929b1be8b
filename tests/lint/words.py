#!/usr/bin/env python3
"""Words that promise later work: each is work to do now, or an error message that names the gap. Registered with
ctest (label lint). The words are spelt in two halves here so that this file passes its own check."""
import re

from lintlib import line_of, lint_main

MARKS = ["TO" "DO", "FIX" "ME", "XX" "X", "HA" "CK"]
PHRASES = ["st" "ub", "st" "ubs", "not " "implemented", "for " "now", "place" "holder"]
WORD = re.compile(r"\b(?:" + "|".join(MARKS) + r")\b|\b(?i:" + "|".join(p.replace(" ", r"\s+") for p in PHRASES) + r")\b")


def check(path, text):
    return [(line_of(text, m.start()), f'soft word "{m.group(0)}"') for m in WORD.finditer(text)]


BAD = [("x.c", f"/* {word} */\n") for word in MARKS + PHRASES] + [("x.sh", "# " + PHRASES[3].title() + "\n")]
GOOD = [("x.c", 'int stubborn; char t[] = "/tmp/hs-XX' 'XXXX"; /* known, forwarded, hacks */\n')]

if __name__ == "__main__":
    ENDINGS = (".c", ".h", ".py", ".sh", ".go", ".cmake", "CMakeLists.txt", "Makefile", "tests/run", ".ci/run", "install-deps")
    lint_main("words", check, ENDINGS, BAD, GOOD)

#!/usr/bin/env python3
"""Calls that are not made here: unbounded string functions, hidden state, and sleeping where a test should wait for a
condition. Registered with ctest (label lint)."""
import os
import re

from lintlib import c_code_only, line_of, lint_main

C_CALLS = {
    "strcpy": "use base/bytes or snprintf", "strcat": "use snprintf", "sprintf": "use snprintf",
    "vsprintf": "use vsnprintf", "gets": "use fgets", "system": "use posix_spawn", "popen": "use posix_spawn",
    "atoi": "use strtol and check", "atol": "use strtol and check", "strtok": "use strcspn",
    "tmpnam": "use mkstemp", "mktemp": "use mkstemp", "alloca": "bounded arrays only",
}
SLEEPS_C = {name: "a test waits for a condition, bounded in time" for name in ("sleep", "usleep", "nanosleep",
                                                                              "clock_nanosleep")}
SLEEP_PY = re.compile(r"\btime\.sleep\s*\(|\bfrom\s+time\s+import\b.*\bsleep\b")
SLEEP_SH = re.compile(r"(?:^|[;&|({]|\bdo\b|\bthen\b)\s*sleep\s+[0-9.$]", re.M)
# The only places where a test may pause: helpers that poll a condition under a deadline.
MAY_PAUSE = {"tests/support/wait.py", "tests/support/wait.sh", "tests/support/wait.c"}


def calls(text, names):
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(names) + r")\s*\(")
    return [(line_of(text, m.start(1)), f"{m.group(1)}(): {names[m.group(1)]}") for m in pattern.finditer(text)]


def check(path, text):
    in_tests = path.startswith("tests/") and path not in MAY_PAUSE
    if path.endswith((".c", ".h")):
        return calls(c_code_only(text), {**C_CALLS, **(SLEEPS_C if in_tests else {})})
    if not in_tests or os.path.basename(path) == os.path.basename(__file__):
        return []
    pattern = SLEEP_PY if path.endswith(".py") else SLEEP_SH
    return [(line_of(text, m.start()), "a test waits for a condition: see tests/support") for m in pattern.finditer(text)]


BAD = [
    ("common/x.c", "void f(char *a) { strcpy(a, g()); }\n"),
    ("common/x.c", "int n = atoi (text);\n"),
    ("vcl/x.c", "if (system(cmd))\n"),
    ("tests/unit/x.c", "  usleep(1000);\n"),
    ("tests/net/x.py", "time.sleep(1)\n"),
    ("tests/net/x.sh", "while true; do sleep 1; done\n"),
]
GOOD = [
    ("common/x.c", '/* strcpy(a, b) */ // gets(x)\nlog("system(x)"); snprintf(a, n, "x"); my_sleep(1); ops->system(1);\n'),
    ("services/x.c", "nanosleep(&t, 0);\n"),
    ("tests/net/x.sh", "# do not sleep 1\nno_sleep 1\n"),
]

if __name__ == "__main__":
    lint_main("banned", check, (".c", ".h", ".py", ".sh", "tests/run", "packaging/install-deps"), BAD, GOOD)

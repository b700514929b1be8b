#!/usr/bin/env python3
"""Length of files (at most 1000 lines) and functions (at most 100), and the header comment that every C file opens
with. Prints the longest of each, so that growth is seen before it hurts. Registered with ctest (label lint)."""
import ast
import functools
import os
import subprocess
import sys
import tempfile

from lintlib import TOP, files, lint_main, read, samples_hold

FILE_MAX = 1000
FUNCTION_MAX = 100
HEADER_MIN = 2  # lines of comment a C file must open with; the house asks for 5 to 15


def c_functions(path, text):
    """[(name, first line, length)] of the function definitions, by ctags."""
    full = os.path.join(TOP, path)
    with tempfile.TemporaryDirectory(prefix="hs-sizes-") as tmp:
        if not os.path.isfile(full):
            full = os.path.join(tmp, os.path.basename(path))
            with open(full, "w", encoding="utf-8") as f:
                f.write(text)
        cmd = ["ctags", "--kinds-C=f", "--language-force=C", "--fields=ne", "-x", "--_xformat=%N %n %e", full]
        out = subprocess.run(cmd, check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in out.splitlines()]
    return [(name, int(first), int(last) - int(first) + 1) for name, first, last in rows if last.isdigit()]


def py_functions(text):
    nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [(n.name, n.lineno, (n.end_lineno or n.lineno) - n.lineno + 1) for n in nodes]


@functools.lru_cache(maxsize=None)
def functions(path, text):
    if path.endswith((".c", ".h")):
        return c_functions(path, text)
    return py_functions(text) if path.endswith(".py") else []


def opening_comment(text):
    if not text.startswith("/*"):
        return 0
    return text[: text.find("*/")].count("\n") + 1


def check(path, text):
    found = []
    lines = text.count("\n")
    if lines > FILE_MAX:
        found.append((1, f"{lines} lines, {FILE_MAX} are allowed: a second noun wants its own file"))
    if path.endswith((".c", ".h")) and opening_comment(text) < HEADER_MIN:
        found.append((1, "does not open with a comment that says what it holds, who calls it, on which thread"))
    for name, first, length in functions(path, text):
        if length > FUNCTION_MAX:
            found.append((first, f"{name} has {length} lines, {FUNCTION_MAX} are allowed"))
    return found


HEAD = "/*\n * Sample.\n */\n"
LONG_BODY = "  x++;\n" * (FUNCTION_MAX + 1)
BAD = [
    ("x.c", HEAD + "int x;\n" * (FILE_MAX + 1)),
    ("x.c", HEAD + "int f(int x)\n{\n" + LONG_BODY + "  return x;\n}\n"),
    ("x.h", HEAD + "static inline int\nf(int x) {\n" + LONG_BODY + "  return x;\n}\n"),
    ("x.py", "def f(x):\n" + "    x += 1\n" * (FUNCTION_MAX + 1)),
    ("x.c", "int f(void);\n"),
]
GOOD = [("x.c", HEAD + "int f(int x)\n{\n" + "  x++;\n" * 90 + "  return x;\n}\n\nint g(void)\n{\n  return 1;\n}\n")]
ENDINGS = (".c", ".h", ".py", ".sh", ".go")


def report():
    names = files(*ENDINGS)
    by_lines = sorted(((read(p).count("\n"), p) for p in names), reverse=True)[:5]
    by_length = sorted(((n, p, f) for p in names for f, _, n in functions(p, read(p))), reverse=True)[:5]
    print("longest files:     " + ", ".join(f"{p} {n}" for n, p in by_lines))
    print("longest functions: " + ", ".join(f"{p}:{f} {n}" for n, p, f in by_length))


if __name__ == "__main__":
    if not samples_hold("sizes", check, BAD, GOOD):
        sys.exit(1)
    report()
    lint_main("sizes", check, ENDINGS, BAD, GOOD)

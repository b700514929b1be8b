#!/usr/bin/env python3
"""The README's table of programs is what the tests run: rows come from @row in tests/net.

programs.py --write puts the table into the README; without it, a difference is a finding. Registered with ctest (lint).
"""
import ast
import os
import sys

from lintlib import TOP, files, read

BEGIN, END = "<!-- programs: tests/lint/programs.py --write -->\n", "<!-- end of programs -->\n"
HEAD = "| program | roles | load and what is checked | test |\n|---|---|---|---|\n"


def rows_of(path, text):
    stem = os.path.splitext(os.path.basename(path))[0]
    found = []
    for node in ast.walk(ast.parse(text)):
        for mark in getattr(node, "decorator_list", []):
            if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "row":
                cells = [ast.literal_eval(a) for a in mark.args] + [f"{stem} {node.name}"]
                found.append("| " + " | ".join(cells) + " |\n")
    return found


def table(sources):
    return BEGIN + HEAD + "".join(sorted(r for path, text in sources for r in rows_of(path, text))) + END


def difference(readme, want):
    """None, or what is wrong."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        return "has no table of programs"
    have = readme[readme.index(BEGIN):readme.index(END) + len(END)]
    if have == want:
        return None
    odd = set(have.splitlines()) ^ set(want.splitlines())
    return "table of programs differs from the tests (programs.py --write): " + "; ".join(sorted(odd)[:3])


SAMPLE = '@row("nc", "both", "a file")\ndef test_nc(self):\n    pass\n'


def main():
    good = table([("t/test_x.py", SAMPLE)])
    bad = [good.replace("| nc |", "| ncat |"), good.replace("| both |", "| client |"), "no table\n"]
    if "| nc | both | a file | test_x test_nc |" not in good or difference(good, good) or not all(
            difference(b, good) for b in bad):
        sys.exit("programs: self-test failed")
    names = [n for n in files(".py") if os.path.basename(n).startswith(("test_net_shim", "test_net_programs"))]
    want, readme = table([(n, read(n)) for n in names]), read("README.md")
    if "--write" in sys.argv:
        readme = readme[:readme.index(BEGIN)] + want + readme[readme.index(END) + len(END):]
        with open(os.path.join(TOP, "README.md"), "w", encoding="utf-8") as f:
            f.write(readme)
    wrong = difference(readme, want)
    if wrong:
        print(f"README.md: {wrong}")
    print(f"programs: {want.count(chr(10)) - 4} rows, {1 if wrong else 0} findings; {len(bad)} bad samples rejected")
    sys.exit(1 if wrong or not names else 0)


if __name__ == "__main__":
    main()

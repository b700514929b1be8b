#!/usr/bin/env python3
"""clang-format agrees with every C file, under the tree's .clang-format. Registered with ctest (label lint).

The style is that of version 14; another version would disagree with itself over time, so it is refused by name."""
import os
import re
import subprocess
import sys

from lintlib import TOP, files

VERSION = "14"
BAD = "int  f( void ){return 1 ;}\n"
GOOD = "int f(void);\n"


def clang_format():
    for name in (f"clang-format-{VERSION}", "clang-format"):
        try:
            out = subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout
        except OSError:
            continue
        if re.search(rf"version {VERSION}\.", out):
            return name
    sys.exit(f"format: clang-format {VERSION} is missing: apt-get install clang-format (or run `make deps`)")


def accepts(tool, text):
    style = "--style=file:" + os.path.join(TOP, ".clang-format")
    return subprocess.run([tool, style, "--dry-run", "-Werror", "--assume-filename=x.c"], input=text, text=True,
                          stderr=subprocess.DEVNULL).returncode == 0


def main():
    tool = clang_format()
    if accepts(tool, BAD) or not accepts(tool, GOOD):
        sys.exit("format: self-test: clang-format cannot tell a bad sample from a good one")
    names = files(".c", ".h")
    if not names:
        sys.exit("format: no file to look at")
    wrong = []
    for at in range(0, len(names), 100):
        run = subprocess.run([tool, "--dry-run", "-Werror", *names[at:at + 100]], cwd=TOP, capture_output=True, text=True)
        if run.returncode != 0:
            wrong += re.findall(r"^(\S+:\d+:\d+): error", run.stderr, re.M) or [run.stderr]
    for place in wrong:
        print(f"{place}: not formatted: run `make format`")
    print(f"format: {len(names)} files, {len(wrong)} findings")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Hot-path objects call nothing that can block, allocate, log or enter the kernel. Registered with ctest (label lint).

Each source named in hotpath.txt is compiled on its own as the release build would (optimised, no sanitizer, no fault
points); what its object leaves undefined must be defined by another hot-path object or be listed there with a reason.
It is a list of what is allowed, not of what is forbidden, so an allocator under a new name does not slip through.
"""
import concurrent.futures
import fnmatch
import glob
import os
import subprocess
import sys
import tempfile

from includes import ROOMS, room_of
from lintlib import TOP

LIST = os.path.join(TOP, "tests/lint/hotpath.txt")
CC = os.environ.get("CC", "gcc")
FLAGS = ["-std=gnu11", "-O2", "-DNDEBUG", "-D_GNU_SOURCE", "-fno-stack-protector", "-U_FORTIFY_SOURCE", "-w", "-c"]
BAD = "#include <stdlib.h>\nvoid *keep(void *p);\nvoid *keep(void *p) { return realloc(p, 10); }\n"
GOOD = "#include <string.h>\nvoid keep(char *p, const char *q, unsigned n);\n" \
       "void keep(char *p, const char *q, unsigned n) { memcpy(p, q, n); }\n"


def read_list():
    """(sources, {symbol allowed: reason}, findings) of hotpath.txt."""
    sources, calls, found = [], {}, []
    with open(LIST, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            words = line.split("#")[0].split(maxsplit=2)
            if not words:
                continue
            if words[0] == "file" and len(words) == 2:
                here = sorted(glob.glob(words[1], root_dir=TOP))
                sources += here
                if not here and glob.glob(os.path.join(os.path.dirname(words[1]), "*.c"), root_dir=TOP):
                    found.append(f"hotpath.txt:{number}: {words[1]} matches no file")
            elif words[0] == "except" and len(words) == 3:
                if words[1] not in sources:
                    found.append(f"hotpath.txt:{number}: {words[1]} is not named by a file line above")
                sources = [s for s in sources if s != words[1]]
            elif words[0] == "call" and len(words) == 3:
                calls[words[1]] = words[2]
            else:
                found.append(f"hotpath.txt:{number}: not 'file PATTERN', 'except FILE REASON' or 'call SYMBOL REASON'")
    return sources, calls, found


def compile_flags(path):
    here = room_of(path)
    own = (ROOMS[here]["own"] or [here]) if here else []
    return FLAGS + ["-I" + os.path.join(TOP, folder) for folder in ["common", *own]]


def symbols(obj, which):
    out = subprocess.run(["nm", which, "-g", obj], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1].split("@")[0] for line in out.splitlines() if line.strip()}


def examine(source, flags, obj):
    """(undefined, defined, error text) of one source."""
    run = subprocess.run([CC, *flags, source, "-o", obj], capture_output=True, text=True)
    if run.returncode != 0:
        return set(), set(), run.stderr
    return symbols(obj, "-u"), symbols(obj, "--defined-only"), ""


def violations(undefined, defined, calls):
    return sorted(s for s in undefined if s not in defined and not any(fnmatch.fnmatchcase(s, c) for c in calls))


def self_test(tmp, calls):
    for name, text, expected in (("bad.c", BAD, ["realloc"]), ("good.c", GOOD, [])):
        path = os.path.join(tmp, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        undefined, defined, error = examine(path, FLAGS, path + ".o")
        if error or violations(undefined, defined, calls) != expected:
            sys.exit(f"hotpath: self-test: {name} should need {expected}, needs {sorted(undefined)} {error}")


def main():
    sources, calls, found = read_list()
    with tempfile.TemporaryDirectory(prefix="hs-hotpath-") as tmp:
        self_test(tmp, calls)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
            jobs = {s: pool.submit(examine, os.path.join(TOP, s), compile_flags(s), os.path.join(tmp, f"{n}.o"))
                    for n, s in enumerate(sources)}
            results = {source: job.result() for source, job in jobs.items()}
    defined = set().union(*(r[1] for r in results.values()))
    for source, (undefined, _, error) in results.items():
        found += [f"{source}: does not compile on its own: {error}"] if error else []
        found += [f"{source}: needs {s}, which hotpath.txt does not allow" for s in violations(undefined, defined, calls)]
    for line in found:
        print(line)
    print(f"hotpath: {len(sources)} files, {len(found)} findings; 1 bad sample rejected")
    sys.exit(1 if found or not sources else 0)


if __name__ == "__main__":
    main()

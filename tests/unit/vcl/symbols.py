#!/usr/bin/env python3
"""What the two libraries show to the outside: exactly the functions of vcl/vppcom.h, nothing of protobuf-c, nothing of
our own. And the header as a C++ program sees it: compiled, and linked against both libraries.

usage: symbols.py HEADER LIBRARY.so LIBRARY.a [LINK_FLAG...]"""
import os
import re
import subprocess
import sys
import tempfile

PROGRAM = """
#include "vppcom.h"
int main() {
  vppcom_endpt_t ep = {};
  ep.is_cut_thru = 0;
  ep.is_ip4 = VPPCOM_IS_IP4;
  void *all[] = {%s};
  return all[0] == nullptr || vppcom_worker_index() != -1 || ep.unused != 0;
}
"""


def functions(header):
    text = re.sub(r"/\*.*?\*/", "", open(header, encoding="utf-8").read(), flags=re.S)
    return set(re.findall(r"\b(vppcom_\w+)\s*\(", text))


def exported(args):
    out = subprocess.run(["nm", "--defined-only", "--extern-only", "-f", "posix", *args], check=True, capture_output=True,
                         text=True).stdout
    rows = [line.split() for line in out.splitlines() if len(line.split()) >= 2]
    return {row[0].split("@")[0] for row in rows if row[1] in "TDBRVW" and not row[0].startswith(("__asan", "__ubsan"))}


def link(header, lib, flags):
    names = ", ".join(f"reinterpret_cast<void *>(&{name})" for name in sorted(functions(header)))
    with tempfile.TemporaryDirectory(prefix="hs-symbols-") as tmp:
        src, exe = os.path.join(tmp, "user.cc"), os.path.join(tmp, "user")
        with open(src, "w", encoding="utf-8") as f:
            f.write(PROGRAM % names)
        folder = os.path.dirname(lib)
        cmd = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-I", os.path.dirname(header), src, lib, "-o", exe,
               f"-Wl,-rpath,{folder}", "-lpthread", *flags]
        if lib.endswith(".a"):  # Envoy's link line
            cmd[-1:-1] = [os.path.join(folder, "libsvm.a"), os.path.join(folder, "libvppinfra.a")]
        subprocess.run(cmd, check=True)
        subprocess.run([exe], check=True, timeout=20)


def main():
    header, so, archive, *flags = sys.argv[1:]
    want = functions(header)
    bad = 0
    for name, have in (("shared library", exported(["-D", so])), ("archive", exported([archive]))):
        have -= {"VPPCOM_1"}
        for word, names in (("missing in", want - have), ("not to be seen in", have - want)):
            for n in sorted(names):
                print(f"{word} the {name}: {n}")
                bad += 1
    if len(want) != 45:
        print(f"{len(want)} functions in the header, the contract has 45")
        bad += 1
    for lib in (so, archive):
        link(header, lib, flags)
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())

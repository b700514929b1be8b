#!/usr/bin/env python3
"""Layout of everything in common/abi, as the compiler laid it out, compared with the checked-in golden.txt.

usage: layout.py --cc CC [--update]

A C file that includes every header of common/abi is compiled with debug information, and every struct, field,
enumerator and ABI_ constant is read from that (readelf), so nothing can be forgotten. Needs a compiler and binutils.
"""
import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
GOLDEN = os.path.join(HERE, "golden.txt")

DIE = re.compile(r"^ <(\d+)><([0-9a-f]+)>: Abbrev Number: \d+ \(DW_TAG_(\w+)\)")
ATTR = re.compile(r"^\s+<[0-9a-f]+>\s+DW_AT_(\w+)\s*: (?:\(\w+\) )?(.*)$")  # newer readelfs name the form
HELP = """
The layout of shared memory differs from tests/abi/golden.txt. A process of another build may be attached to the other
end of it. If the change is meant: a field in reserved room raises ABI_MINOR, anything else ABI_MAJOR (common/abi/seg.h);
then run tests/abi/layout.py --cc gcc --update and commit golden.txt with the change.
"""


def headers():
    folder = os.path.join(TOP, "common", "abi")
    return sorted(name for name in os.listdir(folder) if name.endswith(".h"))


def compile_all(cc, folder):
    """(readelf's dump of the debug information, list of macro definitions)"""
    source = os.path.join(folder, "all.c")
    with open(source, "w") as f:
        f.writelines('#include "abi/%s"\n' % name for name in headers())
    flags = ["-std=gnu11", "-I" + os.path.join(TOP, "common")]
    objfile = os.path.join(folder, "all.o")
    subprocess.run([cc, *flags, "-g", "-gdwarf-4", "-fno-eliminate-unused-debug-types", "-c", source, "-o", objfile],
                   check=True)
    dump = subprocess.run(["readelf", "--debug-dump=info", "-W", objfile], check=True, capture_output=True, text=True)
    macros = subprocess.run([cc, *flags, "-E", "-dM", source], check=True, capture_output=True, text=True)
    return dump.stdout, macros.stdout.splitlines()


class Die:
    def __init__(self, tag):
        self.tag = tag
        self.attr = {}
        self.children = []

    def name(self):
        return self.attr.get("name", "").split("): ")[-1].strip()

    def number(self, key):
        text = self.attr.get(key, "").split()
        return int(text[0], 0) if text else None


def parse(dump):
    """Offset → Die, with children."""
    dies, stack, die = {}, [], None
    for line in dump.splitlines():
        m = DIE.match(line)
        if m:
            depth = int(m.group(1))
            die = Die(m.group(3))
            dies[int(m.group(2), 16)] = die
            del stack[depth:]
            if stack:
                stack[-1].children.append(die)
            stack.append(die)
            continue
        m = ATTR.match(line)
        if m and die is not None:
            die.attr[m.group(1)] = m.group(2)
    return dies


def type_of(dies, die):
    ref = re.search(r"<0x([0-9a-f]+)>", die.attr.get("type", ""))
    return dies[int(ref.group(1), 16)] if ref else None


def size_of(dies, die):
    if die.tag == "array_type":
        n = 1
        for sub in die.children:
            upper = sub.number("upper_bound")
            count = sub.number("count")
            n *= count if count is not None else upper + 1
        return n * size_of(dies, type_of(dies, die))
    if die.number("byte_size") is not None:
        return die.number("byte_size")
    return size_of(dies, type_of(dies, die))


def align_of(dies, die):
    """Natural alignment; the headers use no attribute."""
    if die.tag in ("structure_type", "union_type"):
        return max([align_of(dies, type_of(dies, m)) for m in die.children if m.tag == "member"], default=1)
    if die.tag == "base_type" or die.tag == "enumeration_type":
        return die.number("byte_size")
    return align_of(dies, type_of(dies, die))


def struct_lines(dies, die):
    yield "struct %s size %d align %d" % (die.name(), size_of(dies, die), align_of(dies, die))
    end = 0
    for m in (m for m in die.children if m.tag == "member"):
        offset, size = m.number("data_member_location") or 0, size_of(dies, type_of(dies, m))
        if offset != end:
            yield "  HOLE %d bytes at %d: padding has to be written out" % (offset - end, end)
        yield "  %-4d %-5d %s" % (offset, size, m.name())
        end = offset + size
    if end != size_of(dies, die):
        yield "  HOLE %d bytes at %d: padding has to be written out" % (size_of(dies, die) - end, end)


def layout(cc):
    with tempfile.TemporaryDirectory(prefix="hs-abi-") as folder:
        dump, macros = compile_all(cc, folder)
    dies = parse(dump)
    structs, enums = {}, {}
    for die in dies.values():
        if not die.name().startswith("abi_") or "declaration" in die.attr:
            continue
        if die.tag == "structure_type":
            structs[die.name()] = list(struct_lines(dies, die))
        elif die.tag == "enumeration_type":
            enums[die.name()] = ["enum " + die.name()] + [
                "  %-4d %s" % (e.number("const_value"), e.name()) for e in die.children]
    lines = ["# Written by tests/abi/layout.py --update: offset, size, name of every field that two processes share."]
    # lists of X(…) are seen by the enumerators that they make; their texts are no layout
    defines = [m.split(None, 2)[1:] for m in macros if re.match(r"#define ABI_\w+(?!\(X\)|\w)", m)]
    lines += ["define %s %s" % (d[0], d[1] if len(d) > 1 else "") for d in sorted(defines)]
    for table in (enums, structs):
        for name in sorted(table):
            lines += [""] + table[name]
    return lines


def missed(lines):
    """Structs that stand in the headers but not in the layout: the reader of debug information went wrong."""
    have = {line.split()[1] for line in lines if line.startswith("struct ")}
    for name in headers():
        with open(os.path.join(TOP, "common", "abi", name)) as f:
            for struct in re.findall(r"^struct (\w+) \{", f.read(), re.M):
                if struct not in have:
                    yield "%s: struct %s" % (name, struct)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--cc", default="cc")
    ap.add_argument("--update", action="store_true")
    args = ap.parse_args()
    lines = layout(args.cc)
    gone = list(missed(lines))
    holes = [line for line in lines if "HOLE" in line]
    if gone or holes:
        sys.exit("\n".join(["common/abi:"] + gone + holes))
    if args.update:
        with open(GOLDEN, "w") as f:
            f.write("\n".join(lines) + "\n")
        return
    with open(GOLDEN) as f:
        golden = f.read().splitlines()
    diff = list(difflib.unified_diff(golden, lines, "golden.txt", "this build", lineterm="", n=2))
    if diff:
        print("\n".join(diff))
        sys.exit(HELP)
    print("%d structs, %d lines as in golden.txt" % (sum(l.startswith("struct ") for l in lines), len(lines)))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""tests/unit/vcl/CONTRACT.md is true: each function and attribute of vppcom.h has a row, each test that a row names is
there, is run and asserts something, and the test of a function or attribute reaches the call that it stands for (by
itself or through helpers of its file and of tests/support/vcl_rig.h). What docs/ENVOY.md says of the calls of Envoy's is
held to the same. Registered with ctest (lint).
"""
import os
import re
import sys

from lintlib import TOP, c_code_only, read

PAGE, HEADER, RIG = "tests/unit/vcl/CONTRACT.md", "vcl/vppcom.h", "tests/support/vcl_rig.h"
ENVOY, CALLS = "docs/ENVOY.md", "What it calls, and what covers it"
FUNCTION = re.compile(r"^(?:static |inline |const )*[a-z][\w ]*[ *](\w+)\([^;{]*\) \{$(.*?)^\}", re.S | re.M)


def public(header):
    """Functions and attributes that the header declares."""
    text = c_code_only(header)
    return (set(re.findall(r"\b(vppcom_\w+)\(", text)), set(re.findall(r"\bVPPCOM_ATTR_(\w+)", text)))


def rows(page):
    """[(section, what, [test, ...])] of the tables."""
    found, section = [], ""
    for line in page.splitlines():
        if line.startswith("## "):
            section = line[3:]
        cells = [c.strip() for c in line.strip("|").split("|")] if line.startswith("| ") else []
        if len(cells) == 2 and cells[1] not in ("test", "tests") and not cells[0].startswith("---"):
            found.append((section, cells[0], [t.strip() for t in cells[1].split(",")]))
    return found


def reach(name, bodies, seen):
    """The text of a function and of all that it calls within `bodies`."""
    if name in seen or name not in bodies:
        return ""
    seen.add(name)
    return bodies[name] + "".join(reach(n, bodies, seen) for n in re.findall(r"\b(\w+)\b", bodies[name]))


def c_test(source, rig, test, want):
    """None, or what is wrong with one test of a C file that shall reach `want` (None: anything)."""
    text = c_code_only(source)
    bodies = {**dict(FUNCTION.findall(c_code_only(rig))), **dict(FUNCTION.findall(text))}
    if test not in bodies:
        return "is not there"
    if not re.search(r"(?:RIG|cmocka_unit_test\w*)\(" + test + r"\b", text):
        return "is not run"
    found = reach(test, bodies, set())
    if not re.search(r"\b(assert_\w+|fail_msg|IS)\(", found):
        return "asserts nothing"
    if want and not re.search(r"\b" + want + r"\b", found):
        return f"does not reach {want}"
    return None


def py_test(source, test):
    """A program of the test's that fails (lab.run) or a wait that ends (wait_for) is a finding, too."""
    bodies = dict(re.findall(r"^ *def (\w+)\(.*?:\n(.*?)(?=^ *(?:def|@|class)|\Z)", source, re.S | re.M))
    if test not in bodies:
        return "is not there"
    return None if re.search(r"\.assert\w+\(|lab\.run\(|wait_for\(", reach(test, bodies, set())) else "asserts nothing"


def look(word, want, get):
    parts = word.split()
    if parts[:1] == ["unit"] and len(parts) == 3:
        path = f"tests/unit/vcl/test_{parts[1]}.c"
        return c_test(get(path), get(RIG), parts[2], want) if get(path) else f"has no file {path}"
    if len(parts) == 2 and parts[0].endswith(".py"):
        return py_test(get("tests/" + parts[0]), parts[1]) if get("tests/" + parts[0]) else "has no file"
    return "names no test"


def envoy(get, functions, attributes):
    """Findings of the page for users of Envoy."""
    out = []
    for what, tests in [(w, t) for section, w, t in rows(get(ENVOY)) if section == CALLS]:
        if what not in functions | attributes:
            out.append(f"{ENVOY}: {what} is not in {HEADER}")
        want = what if what in functions else "VPPCOM_ATTR_" + what
        out += [f"{ENVOY}: {what}: {word} {wrong}" for word in tests if (wrong := look(word, want, get))]
    return out


def findings(get):
    functions, attributes = public(get(HEADER))
    have, out = {"Functions": set(), "Attributes": set()}, []
    for section, what, tests in rows(get(PAGE)):
        want = {"Functions": what, "Attributes": "VPPCOM_ATTR_" + what}.get(section)
        if section in have:
            have[section].add(what)
        for word in tests:
            wrong = look(word, want, get)
            if wrong:
                out.append(f"{PAGE}: {what}: {word} {wrong}")
    for section, names in (("Functions", functions), ("Attributes", attributes)):
        out += [f"{HEADER}: {n} has no row in {PAGE}" for n in sorted(names - have[section])]
        out += [f"{PAGE}: {n} is not in {HEADER}" for n in sorted(have[section] - names)]
    return out + envoy(get, functions, attributes)


GOOD = {
    HEADER: "int vppcom_a(int x);\nenum { VPPCOM_ATTR_GET_B };\n",
    RIG: "static inline int rig_a(void) {\n  return vppcom_a(1);\n}\n",
    PAGE: "## Functions\n| function | test |\n|---|---|\n| vppcom_a | unit x test_a |\n## Attributes\n"
          "| GET_B | unit x test_b |\n## Semantics\n| so | unit x test_a, net/y.py test_y |\n",
    ENVOY: "## " + CALLS + "\n| vppcom_a | unit x test_a, net/y.py test_y |\n| GET_B | unit x test_b |\n",
    "tests/unit/vcl/test_x.c": "static void test_a(void **state) {\n  assert_int_equal(rig_a(), 0);\n}\n"
                               "static void test_b(void **state) {\n  assert_true(get(VPPCOM_ATTR_GET_B));\n}\n"
                               "int main(void) {\n  t[] = {RIG(test_a), cmocka_unit_test(test_b)};\n}\n",
    "tests/net/y.py": "class Y:\n    def test_y(self):\n        self.assertTrue(1)\n",
}
BAD = [  # (file, what is changed, into what)
    (HEADER, "int vppcom_a", "int vppcom_new(void);\nint vppcom_a"),
    (HEADER, "GET_B", "GET_B, VPPCOM_ATTR_SET_B"),
    (HEADER, "vppcom_a(int x)", "vppcom_z(int x)"),
    (RIG, "vppcom_a(1)", "1"),
    (PAGE, "unit x test_a,", "unit x test_c,"),
    (PAGE, "net/y.py", "net/z.py"),
    (PAGE, "test_y |", "test_z |"),
    (ENVOY, "vppcom_a", "vppcom_c"),
    (ENVOY, "unit x test_b", "unit x test_a"),
    (ENVOY, "test_y", "test_z"),
    ("tests/net/y.py", "self.assertTrue(1)", "pass"),
    ("tests/unit/vcl/test_x.c", "RIG(test_a), ", ""),
    ("tests/unit/vcl/test_x.c", "assert_int_equal(rig_a(), 0)", "rig_a()"),
    ("tests/unit/vcl/test_x.c", "get(VPPCOM_ATTR_GET_B)", "1 /* VPPCOM_ATTR_GET_B */"),
]


def main():
    def edited(path, old, new):
        assert old in GOOD[path]
        return {**GOOD, path: GOOD[path].replace(old, new)}
    if findings(lambda p: GOOD.get(p, "")) or not all(findings(lambda p, s=edited(*b): s.get(p, "")) for b in BAD):
        sys.exit("contract: self-test failed")
    cache = {}

    def get(path):
        if path not in cache:
            cache[path] = read(path) if os.path.exists(os.path.join(TOP, path)) else ""
        return cache[path]
    out = findings(get)
    print("\n".join(out + [f"contract: {len(rows(get(PAGE)))} rows, {len(out)} findings; {len(BAD)} bad samples rejected"]))
    sys.exit(1 if out else 0)


main()

#!/usr/bin/env python3
"""Who may include what: the table of ARCHITECTURE.md section 4 as data. Registered with ctest (label lint).

A file belongs to the room with the longest matching folder. A quoted include is looked up as the compiler would (below
common/, in the room's own folder, beside the file) and the room it lands in must be in the includer's list.
"""
import os
import re

from lintlib import TOP, line_of, lint_main

# Outside libraries: a name and how their headers look.
LIBRARIES = {
    "dpdk": re.compile(r"^rte_|/rte_"),
    "nng": re.compile(r"^nng/"),
    "proto": re.compile(r"\.pb-c\.h$|^protobuf-c/|^google/protobuf-c/"),
    "yaml": re.compile(r"^yaml\.h$"),
    "cmocka": re.compile(r"^cmocka\.h$"),
}
COMMON = ["common/base", "common/abi", "common/shm", "common/wire", "common/ctl", "common/svc"]


def room(rooms=(), files=(), libs=(), own=None):
    """rooms and single files it may include besides itself; libs of LIBRARIES; own: folders its includes start from."""
    return {"rooms": list(rooms), "files": list(files), "libs": list(libs), "own": own}


def service(*libs, rooms=()):
    return room(COMMON + list(rooms), libs=["proto", *libs])


ROOMS = {
    "common/base": room(),
    "common/abi": room(files=["common/base/bytes.h"]),
    "common/shm": room(["common/base", "common/abi"]),
    "common/wire": room(["common/base"]),
    # abi is what shm's own headers speak of, so whoever may include shm may name it
    "common/ctl": room(["common/base", "common/abi", "common/shm"], libs=["proto", "nng"]),
    "common/svc": room(["common/base", "common/abi", "common/shm", "common/ctl"], libs=["yaml", "proto"]),
    "services/nicio": service("dpdk"),
    "services/engine": service(rooms=["services/engine/tcp", "services/engine/udp"]),
    "services/engine/tcp": room(["common/base", "common/wire"],
                                files=["common/abi/tcb.h", "common/abi/session.h", "common/abi/fifo.h",
                                       "common/abi/tunables.h", "common/abi/timewait.h"],
                                own=["services/engine/tcp", "services/engine"]),
    "services/engine/udp": room(["common/base", "common/wire"],
                                files=["common/abi/dgram.h", "common/abi/session.h", "common/abi/frame.h", "common/abi/seg.h",
                                       "services/engine/pkt.h"],
                                own=["services/engine/udp", "services/engine"]),
    "services/broker": service(),
    "services/api": service("nng", "yaml"),
    "services/ctl": service("yaml"),
    "vcl": room(["common/base", "common/abi", "common/shm"], files=["common/ctl/attach.h"], libs=["proto"]),
    "tests": room(["*"], libs=["proto", "nng", "yaml", "cmocka"]),
    "tests/unit/services/nicio": room(["*"], libs=["proto", "cmocka", "dpdk"]),
}

# What single files may not include although their room may: vcl links attach.c and must stay free of NNG.
FILE_NEVER = {"common/ctl/attach.c": ["nng"], "common/ctl/attach.h": ["nng"]}
# engine/tcp and engine/udp do no I/O and read no clock: these would be the door to it.
SANS_IO = re.compile(r"^(base/(clock|log)\.h|time\.h|sys/(socket|time|epoll|mman|ioctl)\.h|unistd\.h|"
                     r"pthread\.h|stdio\.h|poll\.h)$")
HEADER_NEVER = {"services/engine/tcp": SANS_IO, "services/engine/udp": SANS_IO}
# Where it is said which headers of libc may be used, all others may not.
LIBC_ONLY = {"common/abi": ["stdint.h", "stdatomic.h", "stddef.h"]}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.M)


def room_of(path):
    best = None
    for name in ROOMS:
        if path.startswith(name + "/") and (best is None or len(name) > len(best)):
            best = name
    return best


def resolve(path, here, target):
    """Where a quoted include lands: a path below the top, or None."""
    own = ROOMS[here]["own"] or [here]
    starts = ["common", *own, os.path.dirname(path)]
    if here.startswith("tests"):
        starts += ["tests/support", "tests/sim", "tests", "."] + [r for r in ROOMS if r.startswith("services") or r == "vcl"]
    for start in starts:
        landing = os.path.normpath(os.path.join(start, target))
        if os.path.isfile(os.path.join(TOP, landing)):
            return landing
    return None


def check_library(path, here, target):
    for lib, looks in LIBRARIES.items():
        if looks.search(target):
            if lib not in ROOMS[here]["libs"] or lib in FILE_NEVER.get(path, ()):
                return f"{here} may not include {lib} ({target})"
            return ""
    return None


def check_include(path, here, quote, target):
    """A message, or "" if the include is allowed."""
    if ".." in target.split("/"):
        return f"../ in an include ({target})"
    never = HEADER_NEVER.get(here)
    if never and never.search(target):
        return f"{here} may not include {target}"
    library = check_library(path, here, target)
    if library is not None:
        return library
    if quote == "<":
        ok = target in LIBC_ONLY.get(here, [target])
        return "" if ok else f"{here} may not include <{target}>"
    landing = resolve(path, here, target)
    if landing is None:
        return f"{target} is found neither below common/ nor in {here}"
    there = room_of(landing)
    allowed = ROOMS[here]
    if there == here or "*" in allowed["rooms"] or there in allowed["rooms"] or landing in allowed["files"]:
        return ""
    return f"{here} may not include {there or landing} ({target})"


def check(path, text):
    here = room_of(path)
    if here is None:
        return [(1, "belongs to no room of tests/lint/includes.py")]
    found = []
    if here == "common/abi" and path.endswith(".c"):
        found.append((1, "common/abi holds headers only"))
    for match in INCLUDE.finditer(text):
        message = check_include(path, here, match.group(1), match.group(2))
        if message:
            found.append((line_of(text, match.start(2)), message))
    return found


BAD = [
    ("common/base/x.c", '#include "shm/fifo.h"\n'),
    ("common/base/x.c", '#include "../abi/fifo.h"\n'),
    ("common/shm/x.c", '#include "wire/eth.h"\n'),
    ("common/wire/x.c", '#include "abi/fifo.h"\n'),
    ("common/abi/x.c", "\n"),
    ("common/abi/x.h", "#include <stdbool.h>\n"),
    ("common/ctl/attach.c", "#include <nng/nng.h>\n"),
    ("services/engine/x.c", "#include <rte_mbuf.h>\n"),
    ("services/engine/tcp/x.c", '#include "base/clock.h"\n'),
    ("services/engine/tcp/x.c", '#include "abi/ring.h"\n'),
    ("services/engine/tcp/x.c", '  #  include "shm/fifo.h"\n'),
    ("vcl/x.c", "#include <nng/nng.h>\n"),
    ("vcl/x.c", '#include "wire/eth.h"\n'),
    ("vcl/x.c", '#include "no/such/header.h"\n'),
    ("elsewhere/x.c", "\n"),
]
GOOD = [
    ("common/shm/x.c", '#include "abi/fifo.h"\n#include "base/err.h"\n#include <sys/mman.h>\n'),
    ("common/abi/x.h", '#include "base/bytes.h"\n#include <stdint.h>\n#include "abi/seg.h"\n'),
    ("services/nicio/x.c", "#include <rte_mbuf.h>\n"),
    ("services/engine/tcp/x.c", '#include "abi/tcb.h"\n#include "wire/tcp.h"\n'),
    ("vcl/x.c", '#include "shm/fifo.h"\n#include "broker.pb-c.h"\n'),
    ("tests/unit/x.c", "#include <cmocka.h>\n"),
]

if __name__ == "__main__":
    lint_main("includes", check, (".c", ".h"), BAD, GOOD)

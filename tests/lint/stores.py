#!/usr/bin/env python3
"""State words have one writer: the setter of the table that knows every change. A store to one anywhere else is found
here. Registered with ctest (label lint)."""
import re

from lintlib import c_code_only, line_of, lint_main

STORE = r"\s*(?:[-+|&^]?=(?!=)|\+\+|--)"
# folder, the only file that may, what a store looks like, what to call instead
WORDS = [
    ("vcl/", "vcl/stage.c", re.compile(r"(?:->|\.)life\b" + STORE), "a session's stage is set by stage_set()"),
    ("services/engine/session/", "services/engine/session/life.c",
     re.compile(r"store_n\s*\(\s*&\s*(?:\w+->)*(?:e|eng|half)->state\b|\be->state" + STORE),
     "a record's state is set by life_set()"),
    ("services/engine/tcp/", "services/engine/tcp/tcp_state.c",
     re.compile(r"store_n\s*\(\s*&\s*(?:\w+->)*d->state\b"), "TCP's state is set by tcp_state.c"),
]


def check(path, text):
    code = c_code_only(text)
    return [(line_of(code, m.start()), why) for folder, home, pattern, why in WORDS
            if path.startswith(folder) and path != home for m in pattern.finditer(code)]


BAD = [
    ("vcl/rw.c", "  s->life = SESSION_OPEN;\n"),
    ("vcl/rw.c", "x.life |= 1;\n"),
    ("vcl/ldp/sock.c", "s->life++;\n"),
    ("services/engine/session/app.c", "__atomic_store_n(&s->e->state, ABI_SESS_CLOSED, __ATOMIC_RELEASE);\n"),
    ("services/engine/session/app.c", "e->state = ABI_SESS_CLOSED;\n"),
    ("services/engine/tcp/tcp_ack.c", "__atomic_store_n(&c->d->state, 1, __ATOMIC_RELEASE);\n"),
]
GOOD = [
    ("vcl/stage.c", "s->life = (uint8_t)to;\n"),
    ("vcl/rw.c", "if (s->life == SESSION_OPEN) /* s->life = x */\n  stage_set(s, SESSION_ZOMBIE);\n"),
    ("services/engine/session/life.c", "__atomic_store_n(&e->state, to, __ATOMIC_RELEASE);\n"),
    ("services/engine/session/app.c", "__atomic_store_n(&block->state, ABI_WORKER_LIVE, 3);\n"),
]

if __name__ == "__main__":
    lint_main("stores", check, (".c", ".h"), BAD, GOOD)

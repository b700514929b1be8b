#!/usr/bin/env python3
"""The session layer of the engine knows no transport by name: what differs between them is an op or a field of struct
transport_ops (services/engine/session/transport.h). Registered with ctest (label lint)."""
import os
import re

from lintlib import c_code_only, line_of, lint_main

ROOM = "services/engine/session"
ABOVE = {name + end for end in (".c", ".h") for name in (
    "app", "flow", "frame_io", "gate", "life", "listen", "mailbox", "offer", "pass", "routes", "session", "tcb", "vrf")}
NAMED = re.compile(r"\b(?:transport_)?(?:tcp|udp)_\w+|\btransport_(?:tcp|udp)\b|(?:->|\.)(?:tcp|udp)\b|\bflow_(?:udp|worker)\b")


def check(path, text):
    if os.path.dirname(path) != ROOM or os.path.basename(path) not in ABOVE:
        return []
    return [(line_of(text, m.start()), f'names a transport: "{m.group(0)}"') for m in NAMED.finditer(c_code_only(text))]


BAD = [(f"{ROOM}/session.c", "if (req->proto == transport_udp.proto)\n"), (f"{ROOM}/gate.c", "s = udp_auto(w, port);\n"),
       (f"{ROOM}/offer.c", "n = w->tcp.cfg.orphans_max;\n"), (f"{ROOM}/vrf.c", "return flow_udp(port, n);\n")]
GOOD = [(f"{ROOM}/session.c", "/* as tcp_abort */ s->ops->abort(w, s, 0, now); session_tcb(w, s);\n"),
        (f"{ROOM}/transport_tcp.c", "tcp_abort(&w->tcp, c);\n")]

if __name__ == "__main__":
    lint_main("transports", check, (".c", ".h"), BAD, GOOD)

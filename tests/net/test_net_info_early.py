#!/usr/bin/env python3
"""TCP_INFO before there is a connection: of a listener (accept queue and backlog) and of a connect that nobody answers. The
same steps by a program on the kernel and by one on the stack; what it reads has to be the same."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
from netns import run  # noqa: E402
from puppet import Puppet  # noqa: E402
from stack import KERNEL4, KERNEL_PEER4, PEER4, STACK4  # noqa: E402
from wait import wait_for  # noqa: E402

PORT = 7310
AWAY = "10.98.0.1"  # the peer throws packets to it away
# (state, retransmits, backoff, options, rto, unacked, sacked, total_retrans)
INFO = ("info = lambda s: (lambda r: (r[0], r[2], r[4], r[5]) + tuple(struct.unpack('=24I', r[8:104])[i] "
        "for i in (0, 4, 5, 23)))(s.getsockopt(6, socket.TCP_INFO, 104))")


class InfoEarly(netcase.NetCase):
    def programs(self):
        for where, address in (("kernel", KERNEL4), ("app", STACK4)):
            p = Puppet(self.lab, where)
            p(INFO)
            with self.subTest(where):
                yield p, address

    def test_listener(self):
        peer = Puppet(self.lab, "peer")
        for p, address in self.programs():
            p(f"l = socket.create_server(({address!r}, {PORT}), backlog=7)")
            self.assertEqual(p("info(l)"), (10, 0, 0, 0, 0, 0, 7, 0))
            peer(f"c = [socket.create_connection(({address!r}, {PORT}), 20) for _ in range(3)]")
            wait_for(lambda: p("info(l)") == (10, 0, 0, 0, 0, 3, 7, 0), 20, "three that wait")
            p("a = l.accept()[0]")
            wait_for(lambda: p("info(l)")[5] == 2, 20, "two that wait")
            peer("[s.close() for s in c]")
            p("b = l.accept()[0]; d = l.accept()[0]")
            wait_for(lambda: p("info(l)") == (10, 0, 0, 0, 0, 0, 7, 0), 20, "an empty queue")
            p("l.listen(9)")
            self.assertEqual(p("info(l)")[6], 9)

    def test_connect(self):
        run(["ip", "-n", self.lab.P, "route", "add", "blackhole", AWAY + "/32"])
        run(["ip", "-n", self.lab.K, "route", "add", AWAY + "/32", "via", KERNEL_PEER4])
        self.lab.hsctl("route", "add", AWAY + "/32", "via", PEER4)
        self.lab.world.sysctl(self.lab.P, "net.ipv4.ip_forward=1")
        self.lab.world.sysctl(self.lab.K, "net.ipv4.tcp_syn_linear_timeouts=0")
        for p, _ in self.programs():
            p(f"s = socket.socket(); s.setblocking(False); rc = s.connect_ex(({AWAY!r}, 9))")

            def waits(n):
                state, again, backoff, options, rto, unacked, sacked, total = p("info(s)")
                return again >= n and (state, options, unacked, sacked) == (2, 0, 1, 0) and \
                    again == backoff == total and rto == 1_000_000 << again

            wait_for(lambda: waits(0), 20, "a SYN that is out")
            wait_for(lambda: waits(1), 20, "one that was sent again")


if __name__ == "__main__":
    netcase.main()

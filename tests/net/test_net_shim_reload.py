#!/usr/bin/env python3
"""The table of programs: haproxy reloaded under load, by a successor that tells the old process to end (-sf) and by its
master process (SIGUSR2, which executes itself). @row: the README's rows."""
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from filecase import FileCase  # noqa: E402
from stack import STACK4  # noqa: E402
from table import row  # noqa: E402
from wait import wait_for  # noqa: E402



class Reload(FileCase):
    port = 10900

    def front(self):
        """haproxy's configuration, and its port; an nginx on the stack is behind it."""
        port, to_port = self.next_port(), self.next_port()
        programs.nginx(self.lab, "app", self.root, to_port, workers=2)
        return programs.haproxy_conf(self.lab, port, STACK4, to_port, connect=20), port

    def under_load(self, port, reload):
        """Reloads while ab asks, a connection for each request: none may fail."""
        ab = ["ab", "-q", "-t", 1, "-n", 10000000, "-c", 8, f"http://{STACK4}:{port}/hello"]
        for client in ("peer", "app"):
            with self.subTest(client=client):
                for _ in range(5):
                    load, reloads = self.lab.spawn(client, ab), 0
                    while load.alive():
                        reload()
                        reloads += 1
                    self.assertEqual(load.wait(120), 0, load.output())
                    self.assertRegex(load.output(), r"Failed requests: +0\n")
                    self.assertNotIn("Non-2xx", load.output())
                    asked = int(re.search(r"Complete requests: +(\d+)", load.output()).group(1))
                    print(f"haproxy reloaded {reloads} times under ab from {client}: {asked} requests")
                    if reloads > 1 and asked > 20:  # on a machine that did not run us for most of its time it was no test
                        break
                else:
                    self.fail("the load is over before there were two reloads")
        self.fetch("app", "peer", port)

    @row("haproxy, reloaded by a successor (-sf)", "both", "again and again under ab with close: no failed request; 5 MB, sha256")
    def test_successor(self):
        conf, port = self.front()
        running = [self.lab.spawn("app", ["/usr/sbin/haproxy", "-db", "-f", conf])]
        self.lab.wait_listening(port)

        def reload():
            old = running[-1]
            running.append(self.lab.spawn("app", ["/usr/sbin/haproxy", "-db", "-f", conf, "-sf", old.pid]))
            old.wait(60)
        self.under_load(port, reload)

    @row("haproxy -W, reloaded by its master (SIGUSR2)", "both", "the same")
    def test_master(self):
        conf, port = self.front()
        master = self.lab.spawn("app", ["/usr/sbin/haproxy", "-W", "-db", "-f", conf])
        self.lab.wait_listening(port)

        def workers():
            with open(f"/proc/{master.pid}/task/{master.pid}/children", encoding="ascii") as f:
                return set(f.read().split())

        def others(before):
            now = workers()
            return now and not now & before

        def reload():
            before = workers()
            for _ in range(20):  # a master that has just executed itself may miss the signal, on the kernel's as well
                master.popen.send_signal(signal.SIGUSR2)
                try:
                    return wait_for(lambda: others(before), 5, "other workers than before")
                except TimeoutError:
                    pass
            self.fail("the workers stay the same")
        self.under_load(port, reload)


if __name__ == "__main__":
    netcase.main()

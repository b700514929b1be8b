#!/usr/bin/env python3
"""VCL's listen and accept on UDP: a session for each peer, several kernel clients at once, IPv4 and IPv6, while the engine
is killed and comes back with another number of workers; a peer that was closed comes as a new one."""
import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
from stack import PEER4, PEER6, STACK4, STACK6  # noqa: E402
from wait import wait_for  # noqa: E402

PEERS, ROUNDS = 8, 20


class Peers(netcase.NativeCase):
    PROGRAM = "peers"
    LAB = {"extra": "  workers: 1\n"}
    port = 7900

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tool = os.path.join(cls.lab.world.app_dir, "peers_tool.py")
        shutil.copy(os.path.join(sys.path[0], "peers_tool.py"), cls.tool)

    def server(self, how):
        type(self).port += 1
        program = self.lab.spawn("app", self.native(self.port, how))
        wait_for(lambda: "up" in program.output(), 20, "the server")
        return program

    def talk(self, address, patience, between=lambda: None, where="peer"):
        """What the clients say at their end; `between` is called when half is over."""
        clients = self.lab.spawn(where, ["python3", "-u", self.tool, address, self.port, PEERS, ROUNDS, patience],
                                 stdin=subprocess.PIPE)
        wait_for(lambda: "half" in clients.output(), 30, "half of the rounds")
        between()
        clients.popen.stdin.write(b"\n")
        clients.popen.stdin.flush()
        wait_for(lambda: clients.output().rstrip().endswith("}"), 60, "the clients' end")
        return json.loads(clients.output().splitlines()[-1])

    def restart_with(self, workers):
        with open(self.lab.config, encoding="utf-8") as f:
            text = re.sub(r"workers: \d+", f"workers: {workers}", f.read())
        self.lab.write_config(os.path.basename(self.lab.config), text)
        self.lab.wait_service("engine", self.lab.kill_service("engine"))

    def check(self, said, server, address, before=0):
        """Each peer had one session all the time, which saw its datagrams and no others."""
        self.assertEqual((said["wrong"], said["fell"]), (0, 0))
        self.assertTrue(all(n >= ROUNDS for n in said["count"]), said)
        accepted = [line for line in server.output().splitlines() if line.startswith("accepted ")][before:]
        self.assertEqual(len(set(accepted)), PEERS, accepted)
        self.assertTrue(all(line.split()[1] == address for line in accepted), accepted)
        wait_for(lambda: server.output().count("closed ") == before + PEERS, 20, "closed sessions")

    def test_listen(self):
        server = self.server("listen")
        for number, (stack, peer) in enumerate(((STACK4, PEER4), (STACK6, PEER6))):
            said = self.talk(stack, 60)
            self.assertEqual(said["count"], [ROUNDS] * PEERS)  # nothing is lost here, and nothing comes twice
            self.check(said, server, peer, number * PEERS)

    def test_of_this_stack(self):
        """Clients under the shim: their datagrams go through the engine, not by a pair of the two programs."""
        server = self.server("listen")
        said = self.talk(STACK4, 60, where="app")
        self.assertEqual(said["count"], [ROUNDS] * PEERS)
        self.check(said, server, STACK4)

    def test_engine_killed(self):
        """The sessions of all peers go on, at another worker, too; what was lost meanwhile is sent again."""
        server = self.server("set-connected")
        for number, workers in enumerate((2, 3, 1)):
            said = self.talk(STACK4, 0.5, lambda w=workers: self.restart_with(w))
            self.check(said, server, PEER4, number * PEERS)


if __name__ == "__main__":
    netcase.main()

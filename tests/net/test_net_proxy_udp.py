#!/usr/bin/env python3
"""app-proxy-transport-udp: datagrams to ports that nobody has come to the proxy's listening session, which accepts a session
for each peer and port that says where they were to go; both families, from the network and from programs of the stack,
within its namespace, over kill -9 of engine (also with another number of workers) and broker, and until it ends."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
from proxycase import BLUE, NAMESPACES, RED, ProxyCase  # noqa: E402
from stack import STACK4, STACK6  # noqa: E402
from wait import wait_for  # noqa: E402

PROXY = {"VCL_APP_PROXY_TRANSPORT_UDP": "1"}
# per port the answer to the text, or the name of an errno; a socket of its own for each, which hears that port alone. A
# datagram may be lost: it is sent again. With "held" all ask again once more when a line comes in
ASK = """
import errno, socket, sys, time
def ask(c):
    for _ in range(60):
        c.send(sys.argv[3].encode())
        try:
            return c.recv(200).decode()
        except TimeoutError:
            pass
    return "silence"
socks = []
for port in sys.argv[4:]:
    try:
        c = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
        socks.append(c)
        c.settimeout(1)
        c.connect((sys.argv[1], int(port)))
        print(ask(c), flush=True)
    except OSError as e:
        print(errno.errorcode[e.errno], flush=True)
if sys.argv[2] == "held":
    sys.stdin.readline()
    for c in socks:
        print(ask(c), flush=True)
"""


class ProxyUdp(ProxyCase, netcase.NativeCase):
    PROGRAM = "peers"
    LAB = {"extra": "  workers: 1\n" + NAMESPACES}
    ASK = ASK

    def server(self, port, how, env):
        program = self.lab.spawn("app", self.native(port, how), env=env)
        wait_for(lambda: "up" in program.output(), 20, "the server")
        return program

    def ask(self, where, address, *ports, env=None, text="where"):
        return super().ask(where, address, text, *ports, env=env)

    def at(self, address, *ports):
        return [f"{address} {port} {address} {port}" for port in ports]

    def restart_with(self, name, workers):
        with open(self.lab.config, encoding="utf-8") as f:
            text = re.sub(r"workers: \d+", f"workers: {workers}", f.read())
        self.lab.write_config(os.path.basename(self.lab.config), text)
        self.lab.wait_service(name, self.lab.kill_service(name))

    def test_proxy(self):
        """Whoever has a port keeps it, the first listener gets the rest, and the rest is nobody's before and after."""
        self.assertEqual(self.ask("peer", STACK4, 5001), ["ECONNREFUSED"])
        proxy = self.server(7801, "second", {**BLUE, **PROXY})
        later = self.server(7804, "listen", {**BLUE, **PROXY})
        plain = self.server(7803, "listen", BLUE)
        for address in (STACK4, STACK6):
            self.assertEqual(self.ask("peer", address, 5001, 65535, 7801, 1), self.at(address, 5001, 65535, 7801, 1))
            self.assertEqual(self.ask("peer", address, 5001, 5002, text="x"), ["1 x"] * 2)
            self.assertEqual(self.ask("peer", address, 7803, 7804), self.at(address, 7803, 7804))
            self.assertEqual(self.ask("app", address, 5002, env=BLUE), self.at(address, 5002))
            self.assertEqual(self.ask("app", address, 5003, env=RED), ["ECONNREFUSED"])
        taken = {name: program.output().count("accepted") for name, program in (("later", later), ("plain", plain))}
        self.assertEqual(taken, {"later": 2, "plain": 2})
        plain.stop()
        wait_for(lambda: self.ask("peer", STACK4, 7803) == self.at(STACK4, 7803), 20, "the port of one that ended")
        self.assertEqual(plain.output().count("accepted"), 2)
        proxy.stop()
        wait_for(lambda: self.ask("peer", STACK4, 7801) == self.at(STACK4, 7801), 20, "the next proxy")
        self.assertIn("accepted", later.output())
        later.stop()
        wait_for(lambda: self.ask("peer", STACK4, 5001) == ["ECONNREFUSED"], 20, "nobody")

    def test_restarts(self):
        """The sessions of all peers go on, and what comes later comes to the proxy still, whose port is another worker's than
        most of those that it stands for."""
        proxy = self.server(7811, "listen", {**BLUE, **PROXY})
        ports = range(5010, 5016)
        for name, workers in (("engine", 3), ("broker", 3), ("engine", 1)):
            before = proxy.output().count("accepted")
            said = self.held(["x", *ports], len(ports), lambda n=name, w=workers: self.restart_with(n, w), 60)
            counts = [int(line.removesuffix(" x")) for line in said]
            for first, second in zip(counts[:len(ports)], counts[len(ports):]):
                self.assertGreater(second, first, counts)
            self.assertEqual(proxy.output().count("accepted") - before, len(ports))
            self.assertEqual(self.ask("peer", STACK4, *range(5020, 5026)), self.at(STACK4, *range(5020, 5026)))


if __name__ == "__main__":
    netcase.main()

#!/usr/bin/env python3
"""Session rules: allow, deny and redirect, egress by namespace and ingress, both families, TCP and UDP, from the
configuration and by hsctl; they hold over kill -9 of broker and engine. And the walls between namespaces."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import netns  # noqa: E402
import programs  # noqa: E402
from held import Held  # noqa: E402
from stack import PEER4, PEER6, STACK4, STACK6  # noqa: E402
from wait import wait_for  # noqa: E402

ECHO = os.path.join(sys.path[0], "echo.py")
EXTRA = """broker:
  namespaces:
    - { id: blue }
    - { id: red }
  rules:
    - { table: egress, namespace: red, remote: 10.77.0.2, ports: 9-10, action: deny }
    - { table: ingress, proto: tcp, ports: 7990, action: deny }
"""
BLUE, RED = {"VCL_APP_NAMESPACE_ID": "blue"}, {"VCL_APP_NAMESPACE_ID": "red"}
# one line for each "tcp|udp ADDRESS PORT": ok, the name of an errno, or timeout
TRY = """
import errno, socket, sys
for what in sys.argv[2:]:
    proto, address, port = what.split()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM)
    s.settimeout(float(sys.argv[1]))
    try:
        if proto == "sendto":
            s.sendto(b"x", (address, int(port)))
            s.recvfrom(100)
        else:
            s.connect((address, int(port)))
            s.send(b"hello")
            s.recv(100)
        print("ok", flush=True)
    except TimeoutError:
        print("timeout", flush=True)
    except OSError as e:
        print(errno.errorcode[e.errno], flush=True)
    s.close()
"""
# echoes datagrams
ECHO_UDP = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
print("up", flush=True)
while True:
    data, peer = s.recvfrom(2000)
    s.sendto(data, peer)
"""
# says by which name it answers
NAMED = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2])))
s.listen(8)
while True:
    c, _ = s.accept()
    c.recv(100)
    c.sendall(sys.argv[3].encode())
    c.close()
"""
ASK = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
s.sendall(b"who?")
print(s.recv(100).decode(), flush=True)
"""
# says where each client meant to go: SO_ORIGINAL_DST; and once more for each byte that it gets
MEANT = """
import socket, struct, sys, threading
def meant(c, six):
    if six:
        port, _, ip = struct.unpack("!2xHI16s", c.getsockopt(socket.IPPROTO_IPV6, 80, 28)[:24])
        return f"{socket.inet_ntop(socket.AF_INET6, ip)} {port} "
    port, ip = struct.unpack("!2xH4s", c.getsockopt(socket.IPPROTO_IP, 80, 16)[:8])
    return f"{socket.inet_ntoa(ip)} {port} "
def serve(c, six):
    while c.recv(1):
        c.sendall(meant(c, six).encode())
if __name__ == "__main__":
    six = ":" in sys.argv[1]
    s = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if six else socket.AF_INET)
    while True:
        threading.Thread(target=serve, args=(s.accept()[0], six), daemon=True).start()
"""
# what the server says, what the client's own socket says; a second time when a line comes in
ASK_MEANT = MEANT.split("if __name__")[0] + """
c = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
for turn in range(2):
    c.sendall(b"?")
    print(c.recv(100).decode() + meant(c, ":" in sys.argv[1]), flush=True)
    if turn == 0 and len(sys.argv) > 3:
        sys.stdin.readline()
"""


class Rules(netcase.NetCase):
    LAB = {"extra": EXTRA}

    def add(self, *words):
        out = self.lab.hsctl("rule", "add", *words).stdout
        return int(out.split()[1])

    def drop(self, *ids):
        self.lab.hsctl("rule", "del", *ids)

    def rules(self):
        return json.loads(self.lab.hsctl("--json", "rule", "show").stdout)["rules"]

    def tries(self, env, *what, wait=15):
        """How each went, from an app of a namespace; env None: from the peer."""
        argv = [programs.PYTHON, "-c", TRY, str(wait), *what]
        done = self.lab.peer(argv) if env is None else self.lab.app(argv, env=env)
        return done.stdout.decode().split()

    def drops(self, name):
        return {c["name"]: c["value"] for c in self.lab.show("drops")["stats"]["counter"]}.get(name, 0)

    def peer_echo(self, address, port):
        self.lab.spawn("peer", [programs.PYTHON, "-u", ECHO, "serve", address, port])
        self.lab.wait_listening_kernel(self.lab.P, port)

    def app_echo(self, address, port, env=None):
        self.lab.spawn("app", [programs.PYTHON, "-u", ECHO, "serve", address, port], env=env or {})
        self.lab.wait_listening(port)

    def test_egress(self):
        """A namespace is kept from a prefix but for a longer one in it; others are not concerned. What exists stays."""
        for address, port in ((PEER4, 7100), (PEER6, 7101)):
            self.peer_echo(address, port)
        held = Held(self.lab, "app", PEER4, 7100, env=BLUE)
        before = self.drops("engine.rule.egress_denied")
        ids = [self.add("egress", "namespace=blue", "remote=10.0.0.0/8", "action=deny"),
               self.add("egress", "namespace=blue", "remote=10.77.0.0/24", "ports=7200-7300", "action=allow"),
               self.add("egress", "namespace=blue", "remote=fd00::/16", "proto=tcp", "action=deny")]
        four, six = f"tcp {PEER4} 7100", f"tcp {PEER6} 7101"
        self.assertEqual(self.tries(BLUE, four, six), ["ECONNREFUSED"] * 2)
        self.assertEqual(self.tries(RED, four, six), ["ok"] * 2)
        self.assertEqual(self.tries(BLUE, f"udp {PEER4} 7100", f"sendto {PEER4} 7100"), ["ECONNREFUSED", "EPERM"])
        self.assertGreaterEqual(self.drops("engine.rule.egress_denied") - before, 4)
        self.peer_echo(PEER4, 7250)
        self.assertEqual(self.tries(BLUE, f"tcp {PEER4} 7250"), ["ok"])
        held.ask()
        held.end()
        self.drop(*ids)
        self.assertEqual(self.tries(BLUE, four, six), ["ok"] * 2)

    def test_ingress(self):
        """Denied is dropped without an answer; the peer's own prefix may be let through a rule for all."""
        for address, port in ((STACK4, 7110), (STACK6, 7111)):
            self.app_echo(address, port)
        udp = self.lab.spawn("app", [programs.PYTHON, "-c", ECHO_UDP, STACK4, 7112])
        wait_for(lambda: "up" in udp.output(), 20, "a bound socket")
        what = (f"tcp {STACK4} 7110", f"tcp {STACK6} 7111", f"udp {STACK4} 7112")
        self.assertEqual(self.tries(None, *what), ["ok"] * 3)
        before = self.drops("engine.rule.ingress_denied")
        ids = [self.add("ingress", "ports=7110-7112", "action=deny")]
        self.assertEqual(self.tries(None, *what, wait=0.4), ["timeout"] * 3)
        self.assertGreaterEqual(self.drops("engine.rule.ingress_denied") - before, 3)
        ids += [self.add("ingress", f"remote={PEER4}", "ports=7110-7112", "action=allow"),
                self.add("ingress", f"local={STACK6}", "remote=fd00:77::/64", "action=allow")]
        self.assertEqual(self.tries(None, *what), ["ok"] * 3)
        self.drop(*ids)

    def test_redirect(self):
        """To an app by its name: what arrives for a port that nobody has, and what an app connects to."""
        for port, name, address in ((7120, "one", "0.0.0.0"), (7121, "two", STACK6)):
            self.lab.spawn("app", [programs.PYTHON, "-c", NAMED, address, port, name], env={"LDP_APP_NAME": name})
            self.lab.wait_listening(port)
        ids = [self.add("ingress", "proto=tcp", "ports=7125", f"remote={PEER4}", "action=redirect", "app=one", "to-port=7120"),
               self.add("ingress", "proto=tcp", "ports=7121", f"local={STACK6}", "action=redirect", "app=two"),
               self.add("egress", "namespace=blue", "proto=tcp", "remote=10.77.0.0/24", "ports=80", "action=redirect", "app=one",
                        "to-port=7120"),
               self.add("ingress", "proto=tcp", "ports=7127", "action=redirect", "app=nobody")]
        ask = [programs.PYTHON, "-c", ASK]
        self.assertEqual(self.lab.peer([*ask, STACK4, 7125]).stdout.strip(), b"one")
        self.assertEqual(self.lab.peer([*ask, STACK6, 7121]).stdout.strip(), b"two")
        self.assertEqual(self.lab.app([*ask, PEER4, 80], env=BLUE).stdout.strip(), b"one")
        self.assertEqual(self.tries(RED, f"tcp {PEER4} 80"), ["ECONNREFUSED"])
        self.assertEqual(self.tries(None, f"tcp {STACK4} 7127"), ["ECONNREFUSED"])
        self.drop(*ids)
        self.assertEqual(self.tries(None, f"tcp {STACK4} 7125"), ["ECONNREFUSED"])

    def test_original_dst(self):
        """Both ends of a connection tell where the client meant to go, redirected or not, over the engine's death, too."""
        for port, address in ((7140, "0.0.0.0"), (7141, "::")):
            self.lab.spawn("app", [programs.PYTHON, "-c", MEANT, address, port], env={"LDP_APP_NAME": f"meant{port}"})
            self.lab.wait_listening(port)
        ids = [self.add("egress", "namespace=blue", "proto=tcp", f"remote={r}", "ports=81", "action=redirect",
                        f"app=meant{p}", f"to-port={p}") for r, p in (("10.77.0.0/24", 7140), ("fd00:77::/64", 7141))]
        ids.append(self.add("ingress", "proto=tcp", "ports=7145", "action=redirect", "app=meant7140", "to-port=7140"))
        ask = [programs.PYTHON, "-c", ASK_MEANT]
        self.assertEqual(self.lab.app([*ask, PEER6, 81], env=BLUE).stdout.decode().split(), [PEER6, "81"] * 4)
        self.assertEqual(self.lab.app([*ask, STACK4, 7140]).stdout.decode().split(), [STACK4, "7140"] * 4)
        held = self.lab.spawn("app", [*ask, PEER4, 81, "held"], env=BLUE, stdin=-1)
        wait_for(lambda: "\n" in held.output(), 20, "the first answer")
        self.lab.wait_service("engine", self.lab.kill_service("engine"))
        held.popen.stdin.write(b"\n")
        held.popen.stdin.close()
        self.assertEqual(held.wait(120), 0, held.output())
        self.assertEqual(held.output().split(), [PEER4, "81"] * 4)
        done = self.lab.peer([programs.PYTHON, "-c", ASK.replace("who?", "w"), STACK4, 7145])
        self.assertEqual(done.stdout.decode().split(), [STACK4, "7145"])
        self.drop(*ids)

    def test_cut_through(self):
        """Rules count for programs of one stack, too, within a second for who has connected before: who is denied is
        refused, who is redirected is by TCP."""
        self.app_echo(STACK4, 7130, BLUE)
        self.lab.spawn("app", [programs.PYTHON, "-c", NAMED, "0.0.0.0", 7131, "two"], env={**BLUE, "LDP_APP_NAME": "two"})
        self.lab.wait_listening(7131)
        for _ in range(20):
            held = Held(self.lab, "app", STACK4, 7130, env=BLUE)
            if any(s["proto"] == "cut" for s in self.lab.sessions()):
                break
            held.program.stop()  # the broker had no time for 50 ms
        self.assertTrue(held.program.alive(), "never by cut-through")
        rule = self.add("egress", "namespace=blue", f"remote={STACK4}", "ports=7130", "action=deny")
        self.assertEqual(self.tries(BLUE, f"tcp {STACK4} 7130"), ["ECONNREFUSED"])
        self.drop(rule)
        rule = self.add("egress", "namespace=blue", "proto=tcp", f"remote={STACK4}", "ports=7130", "action=redirect",
                        "app=two", "to-port=7131")
        self.assertEqual(self.lab.app([programs.PYTHON, "-c", ASK, STACK4, 7130], env=BLUE).stdout.strip(), b"two")
        self.drop(rule)
        self.assertEqual(self.tries(BLUE, f"tcp {STACK4} 7130"), ["ok"])
        held.program.stop()

    def test_restarts(self):
        """Rules of the file and of hsctl outlive broker and engine, and count at once."""
        self.peer_echo(PEER4, 9)
        self.peer_echo(PEER4, 7140)
        self.app_echo(STACK4, 7990)
        rule = self.add("egress", "namespace=blue", "remote=0.0.0.0/0", "ports=7140", "action=deny")
        for name in ("broker", "engine"):
            with self.subTest(killed=name):
                pid = self.lab.pid_of(name)
                self.lab.kill_service(name)
                self.lab.wait_service(name, pid)
                wait_for(lambda: self.rules().get("in_force"), 20, "rules in force")
                self.assertEqual([r["id"] for r in self.rules()["rule"]][-1], rule)
                self.assertEqual(self.tries(BLUE, f"tcp {PEER4} 7140"), ["ECONNREFUSED"])
                self.assertEqual(self.tries(RED, f"tcp {PEER4} 7140", f"tcp {PEER4} 9"), ["ok", "ECONNREFUSED"])
                self.assertEqual(self.tries(None, f"tcp {STACK4} 7990", wait=0.4), ["timeout"])
        self.drop(rule)
        self.assertEqual(self.tries(BLUE, f"tcp {PEER4} 7140"), ["ok"])

    def test_many(self):
        """Twenty thousand by one command, and away again, while connections come and go; how long the slowest took is
        printed."""
        self.peer_echo(PEER4, 7160)
        churn = self.lab.spawn("app", [programs.PYTHON, ECHO, "churn", PEER4, 7160, 0], env=RED, stdin=-1)
        wait_for(lambda: "begun" in churn.output() or not churn.alive(), 20, "connections")
        lines = "".join(f"egress namespace=red remote=10.77.0.{77 + i % 2} ports={1000 + i} action=deny\n" for i in range(20000))
        path = self.lab.write_config("rules", lines)
        had = self.rules()["total"]
        with open(path) as f:
            netns.run([self.lab.hsctl_path, "-r", self.lab.run_dir, "rule", "add", "-"], stdin=f)
        self.assertEqual(self.rules()["total"], had + 20000)
        self.assertEqual(self.tries(RED, "tcp 10.77.0.77 20000"), ["ECONNREFUSED"])
        ids = [r["id"] for r in self.rules()["rule"]]
        self.assertEqual(len(ids), had + 20000)
        self.drop(*ids[had:])
        self.assertEqual(self.rules()["total"], had)
        churn.popen.stdin.close()
        self.assertEqual(churn.wait(120), 0, churn.output())
        print(churn.output().split("begun")[1].strip())

    def test_refused(self):
        first = self.add("ingress", "ports=1-2", "action=allow")
        for words, text in ((("ingress", "ports=1-2", "action=deny"), b"matches the same"),
                            (("egress", "namespace=green", "action=deny"), b"green"),
                            (("egress", "remote=10.0.0.0/33", "action=deny"), b"remote"),
                            (("egress", "remote=10.0.0.0/8", "local=::/0", "action=deny"), b"family"),
                            (("egress", "proto=udp", "action=redirect", "app=x"), b"TCP"),
                            (("egress", "action=redirect"), b"app"), (("sideways", "action=deny"), b"table"),
                            (("ingress", "colour=1", "action=deny"), b"colour")):
            done = self.lab.hsctl("rule", "add", *words, check=False)
            self.assertNotEqual(done.returncode, 0, words)
            self.assertIn(text, done.stderr)
        self.assertIn(b"7990", self.lab.hsctl("rule", "show").stdout)
        self.drop(first)
        done = self.lab.hsctl("rule", "del", str(first), check=False)
        self.assertEqual(done.returncode, 1)


if __name__ == "__main__":
    netcase.main()

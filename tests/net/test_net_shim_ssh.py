#!/usr/bin/env python3
"""The table of programs, ssh part: dropbear forking, executing itself, and in inetd style; logins by key with dbclient
and with OpenSSH's ssh. Servers and clients under the shim against the kernel's, and both on the stack (cut-through).

The login is that of the tests' own user: in the server's mount namespace (ip netns exec makes one for each program) a
passwd file gives that user a home in the test's folder and a shell, so the machine's own accounts are left alone."""
import hashlib
import os
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

import netcase  # noqa: E402
import programs  # noqa: E402
from netns import run  # noqa: E402
from stack import APP_UID  # noqa: E402
from table import row  # noqa: E402

SIZE = 2_000_000
PAIRS = (("app", "peer"), ("peer", "app"), ("app", "app"))
USER = "hstest"
STATUS = 7  # what the command of a session ends with


class Ssh(netcase.NetCase):
    port = 10700

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.home = os.path.join(cls.lab.world.dir, "ssh")
        cls.big = os.path.join(cls.lab.world.data_dir, "big")
        programs.random_file(cls.big, SIZE)
        with open(cls.big, "rb") as f:
            cls.want = hashlib.sha256(f.read()[::-1]).hexdigest()  # the command sends the bytes back in reverse order
        os.makedirs(os.path.join(cls.home, ".ssh"))
        cls.make_keys()
        cls.make_passwd()
        for where, _, names in os.walk(cls.home):
            for path in [where] + [os.path.join(where, n) for n in names]:
                os.chown(path, APP_UID, APP_UID)
                os.chmod(path, 0o700 if path == where else 0o600)
        os.chmod(cls.home, 0o755)

    @classmethod
    def at(cls, name):
        return os.path.join(cls.home, name)

    @classmethod
    def make_keys(cls):
        run(["dropbearkey", "-t", "ecdsa", "-f", cls.at("hostkey")])
        said = run(["dropbearkey", "-y", "-f", cls.at("hostkey")]).stdout.decode()
        cls.host_key = next(line.split()[1] for line in said.splitlines() if line.startswith("ecdsa"))
        for name in ("user", "stranger"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", cls.at(name)])
            run(["dropbearconvert", "openssh", "dropbear", cls.at(name), cls.at(name + ".db")])
        shutil.copy(cls.at("user.pub"), cls.at(".ssh/authorized_keys"))
        with open(cls.at("known"), "w", encoding="ascii") as f:
            f.write(f"* ecdsa-sha2-nistp256 {cls.host_key}\n")

    @classmethod
    def make_passwd(cls):
        """The machine's accounts, but ours with a home and a shell."""
        with open("/etc/passwd", encoding="utf-8") as f:
            lines = [line for line in f if line.split(":")[2] != str(APP_UID)]
        lines.append(f"{USER}:x:{APP_UID}:{APP_UID}::{cls.home}:/bin/sh\n")
        cls.passwd = os.path.join(cls.lab.dir, "passwd")
        with open(cls.passwd, "w", encoding="utf-8") as f:
            f.writelines(lines)
        os.chmod(cls.passwd, 0o644)

    def as_user(self, argv):
        """Runs as root and becomes the user once its passwd file lies over the machine's in its own mount namespace."""
        become = f"--reuid={APP_UID} --regid={APP_UID} --clear-groups"
        script = f'mount --bind {self.passwd} /etc/passwd && exec setpriv {become} "$@"'
        return ["sh", "-c", script, "sh", *map(str, argv)]

    def serve(self, where, client, *argv):
        """Starts a server under another user's account file. Returns address, port."""
        type(self).port += 1
        address = programs.address_of(where, client)
        words = [str(a).replace("ADDRESS", address).replace("PORT", str(self.port)) for a in argv]
        more = {"uid": 0} if where == "app" else {}
        self.lab.spawn(where, self.as_user(words), **more)
        programs.wait_listening(self.lab, where, self.port)
        return address, self.port

    def client(self, kind, key, address, port, command):
        """argv of a session. Both clients hold the server's host key against the one that they know."""
        if kind == "ssh":
            return ["ssh", "-F", "none", "-i", self.at(key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o",
                    f"UserKnownHostsFile={self.at('known')}", "-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR", "-p",
                    str(port), f"{USER}@{address}", command]
        return ["dbclient", "-T", "-y", "-y", "-i", self.at(key + ".db"), "-p", str(port), "-l", USER, address, command]

    def session(self, kind, where, key, address, port, command):
        more = {"uid": 0} if where == "app" else {}
        argv = self.as_user(self.client(kind, key, address, port, command))
        with open(self.big, "rb") as f:
            return run(self.lab.command(where, argv, **more), 60, check=False, cwd=self.lab.world.app_dir, stdin=f)

    def logged_in(self, kind, where, address, port):
        """A file in, its bytes in reverse order out, standard error beside it, and the status of the command."""
        back = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
        done = self.session(kind, where, "user", address, port, f"{programs.PYTHON} -c '{back}'; id -u >&2; exit {STATUS}")
        self.assertEqual((done.returncode, hashlib.sha256(done.stdout).hexdigest()), (STATUS, self.want), done.stderr)
        self.assertIn(str(APP_UID).encode(), done.stderr.split())

    def scan(self, where, address, port):
        scans = [self.lab.spawn(where, ["ssh-keyscan", "-T", 20, "-t", "ecdsa", "-p", port, address]) for _ in range(4)]
        for scan in scans:
            scan.wait(120)
            self.assertIn(self.host_key, scan.output())

    @row("dropbear, forking; dbclient, ssh, ssh-keyscan", "both",
         "logins by key: 2 MB in and, reversed, out, sha256, and the command's status; a key that is not known is refused; "
         "four key exchanges at once")
    def test_forking(self):
        """By its bare name, and by its path, when it executes itself in each child."""
        argv = ["-F", "-E", "-s", "-r", self.at("hostkey"), "-p", "ADDRESS:PORT", "-P", self.at("pid")]
        for where, client in PAIRS:
            with self.subTest(server=where, client=client):
                address, port = self.serve(where, client, "dropbear", *argv)
                self.scan(client, address, port)
                for kind in ("dbclient", "ssh"):
                    self.logged_in(kind, client, address, port)
                    done = self.session(kind, client, "stranger", address, port, "echo let in")
                    self.assertNotEqual(done.returncode, 0)
                    self.assertEqual(done.stdout, b"")
        address, port = self.serve("app", "peer", shutil.which("dropbear"), *argv)
        self.scan("peer", address, port)
        self.logged_in("ssh", "peer", address, port)

    @row("dropbear, its listener killed -9 while a session runs", "server", "2 MB in and, reversed, out, sha256, after the kill")
    def test_listener_killed(self):
        """The session says a word when it has begun, and takes its bytes once the listener is dead."""
        back = ("import sys; print(0, file=sys.stderr, flush=True); "
                "sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])")
        for client in ("peer", "app"):
            with self.subTest(client=client):
                pidfile = self.at(f"pid-{client}")
                address, port = self.serve("app", client, "dropbear", "-F", "-E", "-s", "-r", self.at("hostkey"), "-p", "ADDRESS:PORT",
                                           "-P", pidfile)
                argv = self.as_user(self.client("dbclient", "user", address, port, f"{programs.PYTHON} -c '{back}'; exit {STATUS}"))
                more = {"uid": 0} if client == "app" else {}
                with subprocess.Popen(self.lab.command(client, argv, **more), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, cwd=self.lab.world.app_dir) as session:
                    self.addCleanup(session.kill)
                    self.assertIn(b"0\n", iter(session.stderr.readline, b""))
                    with open(pidfile, encoding="ascii") as f:
                        os.kill(int(f.read()), signal.SIGKILL)
                    with open(self.big, "rb") as f:
                        out, err = session.communicate(f.read(), 60)
                self.assertEqual((session.returncode, hashlib.sha256(out).hexdigest()), (STATUS, self.want), err)

    @row("dropbear in inetd style", "server", "the same login by dbclient and ssh over a connection that came by exec")
    def test_inetd(self):
        for client in ("peer", "app"):
            with self.subTest(client=client):
                address, port = self.serve("app", client, programs.PYTHON, "-c", programs.INETD, "ADDRESS", "PORT", "dropbear", "-i",
                                           "-s", "-r", self.at("hostkey"))
                self.scan(client, address, port)
                for kind in ("dbclient", "ssh"):
                    self.logged_in(kind, client, address, port)


if __name__ == "__main__":
    netcase.main()

"""A small world for tests: network namespaces joined by veth pairs, programs inside them, a folder; all of it goes away.

Names carry the pid. Cleaning up is the reaper's work (reaper.py), a process that notices the end of the test whatever
ended it; World.close() waits for it. Python standard library only; needs root.
"""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
DATA_ROOM = 1 << 30
_count = 0
_open = []


class ProgramFailed(AssertionError):
    """A program ended with another status than expected, or did not end in time."""


def run(cmd, timeout=90, check=True, **kw):
    """Runs to the end with output captured, by way of files so that what it leaves running in the background cannot
    hold us; the process is killed at the timeout."""
    kw.setdefault("stdin", subprocess.DEVNULL)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        proc = subprocess.Popen(cmd, stdout=out, stderr=err, **kw)
        late = False
        try:
            proc.wait(timeout)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            if proc.poll() is None:
                proc.kill()
                proc.wait()
        out.seek(0)
        err.seek(0)
        done = subprocess.CompletedProcess(cmd, proc.returncode, out.read(), err.read())
    if late or (check and proc.returncode != 0):
        how = f"not done after {timeout} s" if late else f"status {proc.returncode}"
        raise ProgramFailed(f"{show(cmd)}: {how}\n{tail(done.stdout)}{tail(done.stderr)}")
    return done


def show(cmd):
    return " ".join(str(c) for c in cmd)


def tail(text, lines=25):
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    return "".join(line + "\n" for line in text.splitlines()[-lines:])


class Program:
    """A program that runs beside the test; its output goes to a file."""

    def __init__(self, cmd, log, **kw):
        self.cmd, self.log = cmd, log
        with open(log, "wb") as out:
            kw.setdefault("stdin", subprocess.DEVNULL)
            kw.setdefault("stdout", out)
            self.popen = subprocess.Popen(cmd, stderr=out, **kw)
        self.pid = self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def output(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def wait(self, timeout, check=True):
        try:
            status = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ProgramFailed(f"{show(self.cmd)}: not done after {timeout} s\n{tail(self.output())}") from None
        if check and status != 0:
            raise ProgramFailed(f"{show(self.cmd)}: status {status}\n{tail(self.output())}")
        return status

    def stop(self, timeout=5):
        """SIGTERM, and SIGKILL for one that stays; returns the status."""
        if self.alive():
            self.popen.terminate()
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.popen.returncode

    def kill(self):
        if self.alive():
            self.popen.kill()
        return self.popen.wait(60)


class World:
    """Context manager. dir: a folder of its own, world-readable; app_dir, data_dir: any user may write there."""

    def __init__(self):
        global _count
        _count += 1
        self.tag = f"hs{os.getpid()}x{_count}"
        self.namespaces, self.programs, self.closed = [], [], False
        self.reaper = subprocess.Popen([sys.executable, "-B", os.path.join(HERE, "reaper.py")], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
                                       cwd="/")
        _open.append(self)
        self.dir = os.path.join(tempfile.gettempdir(), self.tag)
        self._promise(f"dir {self.dir}")
        os.mkdir(self.dir, 0o755)
        self.app_dir = os.path.join(self.dir, "app")
        os.mkdir(self.app_dir)
        os.chmod(self.app_dir, 0o777)
        self.data_dir = self._data_dir()

    def _data_dir(self):
        """For large files: in memory where there is room, so that a disk does not set the pace."""
        path = f"/dev/shm/{self.tag}"
        try:
            room = os.statvfs("/dev/shm")
            if room.f_bavail * room.f_frsize < DATA_ROOM:
                return self.app_dir
        except OSError:
            return self.app_dir
        self._promise(f"dir {path}")
        os.mkdir(path)
        os.chmod(path, 0o777)
        return path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _promise(self, line):
        """The reaper knows of a thing before it exists."""
        self.reaper.stdin.write(line.encode() + b"\n")
        self.reaper.stdin.flush()
        if self.reaper.stdout.readline() != b"ok\n":
            raise RuntimeError("the reaper is gone")

    def namespace(self, suffix):
        name = f"{self.tag}{suffix}"
        self._promise(f"ns {name}")
        run(["ip", "netns", "add", name])
        self.namespaces.append(name)
        run(["ip", "-n", name, "link", "set", "lo", "up"])
        self.sysctl(name, "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0",
                    "net.ipv6.conf.default.accept_ra=0", "net.ipv6.conf.default.router_solicitations=0",
                    "net.ipv4.tcp_no_metrics_save=1", "net.ipv4.ping_group_range=0 2147483647")
        return name

    def sysctl(self, ns, *settings):
        run(["ip", "netns", "exec", ns, "sysctl", "-qw", *settings])

    def veth(self, ns_a, if_a, ns_b, if_b, mtu=1500):
        run(["ip", "link", "add", if_a, "mtu", str(mtu), "netns", ns_a, "type", "veth",
             "peer", "name", if_b, "mtu", str(mtu), "netns", ns_b])

    def up(self, ns, interface, *addresses):
        run(["ip", "-n", ns, "link", "set", interface, "up"])
        for address in addresses:
            run(["ip", "-n", ns, "addr", "add", address, "dev", interface] + (["nodad"] if ":" in address else []))

    def command(self, ns, argv, env=None, uid=None):
        """argv as a command inside the namespace; the environment is set only for the program itself."""
        cmd = ["ip", "netns", "exec", ns]
        if uid:
            cmd += ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        if env:
            cmd += ["env"] + [f"{k}={v}" for k, v in env.items()]
        return cmd + [str(a) for a in argv]

    def start(self, cmd, name, **kw):
        log = os.path.join(self.dir, f"{len(self.programs):03d}-{name}.log")
        program = Program(cmd, log, **kw)
        self.programs.append(program)
        return program

    def close(self):
        """Removes everything; raises if something stayed."""
        if self.closed:
            return
        self.closed = True
        self.reaper.stdin.close()
        status = self.reaper.wait(120)
        self.reaper.stdout.close()
        for program in self.programs:
            program.popen.wait(60)
        _open.remove(self)
        if status != 0:
            raise RuntimeError(f"{self.tag}: the reaper could not remove everything")


def close_all():
    for world in list(_open):
        world.close()

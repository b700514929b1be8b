"""The four services in a namespace of their own, with the kernel's TCP as the other host.

Layout.stack S: interface hs0 under the stack, no kernel address. Layout.peer P: the kernel, 10.77.0.2 and fd00:77::2.
Layout.kernel K: a second kernel host on a veth of the same kind (10.78.0.1 to 10.78.0.2 in P), for comparison.
Used by tests/net, tests/demo and tests/bench. One Lab holds a World and the services:

    with Lab(build) as lab:
        lab.start()
        lab.app(["curl", ...])       under the preload shim, as another user than the services
        lab.peer(["curl", ...])      in P
"""
import fcntl
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import time

import netns
from netns import ProgramFailed, run, tail
from wait import wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
SERVICES = ("broker", "nicio", "engine", "api")
STACK4, STACK6 = "10.77.0.1", "fd00:77::1"
PEER4, PEER6 = "10.77.0.2", "fd00:77::2"
KERNEL4, KERNEL_PEER4 = "10.78.0.1", "10.78.0.2"
INTERFACE = "hs0"
APP_UID = int(os.environ.get("HS_APP_UID", "65534"))
WORKERS = int(os.environ.get("HS_TEST_WORKERS", "1"))  # engine workers, unless a test has its own wish
SERVICE_ENV = {**os.environ, "LSAN_OPTIONS": "print_suppressions=0:suppressions=" +
               os.path.join(HERE, "lsan.supp")}
SANITIZER = re.compile(r"ERROR: \w+Sanitizer|runtime error:|WARNING: ThreadSanitizer")
DIED = re.compile(r" supervisor\.died (\w+) pid (\d+): (.*)")
SHIM_NAMES = ("vcl/ldp/libvcl_ldpreload.so", "vcl/libvcl_ldpreload.so", "lib/libvcl_ldpreload.so")


def config_text(run_dir, interfaces, extra="", number=1):
    ports = "\n".join(f"    - {{{line}}}" for line in interfaces)
    workers = f"  workers: {WORKERS}\n" if WORKERS != 1 and "workers:" not in extra else ""
    return f"""run-dir: {run_dir}
nicio:
  interfaces:
{ports}
engine:
{workers}  addresses:
    - {{interface: {INTERFACE}, address: {stack4(number)}/24}}
    - {{interface: {INTERFACE}, address: "fd00:77::{stack4(number).rpartition('.')[2]}/64"}}
{extra}"""


def stack4(number):
    """IPv4 address of the number-th stack in a world; .2 is the peer's."""
    return STACK4 if number == 1 else f"10.77.0.{number + 1}"


class Lab:
    """Context manager: namespaces at once, services by start(). Attributes S, P, K are names of namespaces."""

    def __init__(self, build, mtu=1500, interfaces=None, extra="", app_uid=APP_UID, world=None,
                 number=1):
        self.build = os.path.abspath(build)
        self.app_uid, self.number, self.stack4 = app_uid, number, stack4(number)
        self.own_world = world is None
        self.world = world or netns.World()
        self.supervisor, self.services, self.killed = None, {}, []
        self.liars = False  # programs that push hints and ring no bell
        try:
            self._make(mtu, interfaces or [f"name: {INTERFACE}, kind: kernel, device: {INTERFACE}"], extra)
        except BaseException:
            self.world.close()
            raise

    def _make(self, mtu, interfaces, extra):
        w = self.world
        self.dir = w.dir
        n = "" if self.number == 1 else str(self.number)  # several labs in one world
        self.S, self.P, self.K = w.namespace("s" + n), w.namespace("p" + n), w.namespace("k" + n)
        w.sysctl(self.S, "net.ipv6.conf.default.disable_ipv6=1")
        self.join(self.S, INTERFACE, self.P, "p0", mtu)
        self.join(self.K, "k0", self.P, "p1", mtu)
        w.up(self.S, INTERFACE)
        w.up(self.P, "p0", PEER4 + "/24", PEER6 + "/64")
        w.up(self.P, "p1", KERNEL_PEER4 + "/24", "fd00:78::2/64")
        w.up(self.K, "k0", KERNEL4 + "/24", "fd00:78::1/64")
        self.run_dir = os.path.join(self.dir, "run" + n)
        self.attach = os.path.join(self.run_dir, "attach")
        self.log = os.path.join(self.dir, f"services{n}.log")
        self.config = self.write_config(f"hoststack{n}.yaml", config_text(self.run_dir, interfaces, extra, self.number))
        self.hsctl_path = os.path.join(self.build, "services/ctl/hsctl")
        self.shim = self._shim()

    def join(self, ns_a, if_a, ns_b, if_b, mtu):
        """The line between two hosts; tests/bench/lossy.py has one of another kind."""
        self.world.veth(ns_a, if_a, ns_b, if_b, mtu)

    def _shim(self):
        for name in SHIM_NAMES:
            path = os.path.join(self.build, name)
            if os.path.exists(path):
                return self._readable(path)
        return None

    def _readable(self, path):
        """A copy that any user can read, wherever source and build tree lie: in /root nobody else can."""
        copy = os.path.join(self.dir, os.path.basename(path))
        if not os.path.exists(copy):
            shutil.copy(path, copy)
            os.chmod(copy, 0o755)
        return copy

    def write_config(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def vcl_conf(self, text):
        """Path of a vcl.conf with these words, which programs can read; there is one."""
        path = os.path.join(self.world.app_dir, "vcl.conf")
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
        os.chmod(path, 0o644)
        return path

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            self.stop(check=kind is None)
        finally:
            if self.own_world:
                self.world.close()

    # --- services ---

    def start(self, timeout=30):
        """hsctl up, until all four say so."""
        with open(self.log, "ab") as log:
            cmd = self.world.command(self.S, [self.hsctl_path, "-c", self.config, "up", "--foreground"])
            self.supervisor = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=SERVICE_ENV)
        try:
            wait_for(self._serving, timeout, "four services that serve")
        except TimeoutError as e:
            threads = "\n".join(self.threads(name) for name in SERVICES)
            raise ProgramFailed(f"{e}\n{self.versions()}\n{threads}\n{self.log_tail(60)}") from None

    def _serving(self):
        if self.supervisor and self.supervisor.poll() is not None:
            raise ProgramFailed(f"hsctl up: status {self.supervisor.returncode}\n{self.log_tail(60)}")
        return all(v["serving"] and not v["error"] for v in self.versions().values()) and len(self.versions()) == 4

    def start_service(self, name, fault=None):
        """One service without a supervisor, for tests in which it stays away for a while; fault: base/fault.h."""
        with open(self.log, "ab") as log:
            binary = os.path.join(self.build, f"services/{name}/hs-{name}")
            cmd = self.world.command(self.S, [binary, "-c", self.config])
            env = {**SERVICE_ENV, **({"HS_FAULT": fault} if fault else {})}
            self.services[name] = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)

    def start_unsupervised(self, timeout=30):
        for name in SERVICES:
            self.start_service(name)
        wait_for(self._serving, timeout, "four services that serve")

    def stop(self, check=True):
        """Orderly end; with check, anything wrong that the services did or said is an error."""
        trouble = []
        if self.supervisor:
            if self.supervisor.poll() is None:
                trouble += self.late_wakeups() + self.late_apps()
                self.supervisor.terminate()
            try:
                status = self.supervisor.wait(120)
                if status != 0:
                    trouble.append(f"hsctl up: status {status}")
            except subprocess.TimeoutExpired:
                trouble.append("hsctl up did not end 30 s after SIGTERM")
        for name in reversed(SERVICES):
            service = self.services.get(name)
            if service and service.poll() is None:
                service.terminate()
                try:
                    if service.wait(15) != 0:
                        trouble.append(f"hs-{name}: status {service.returncode} after SIGTERM")
                except subprocess.TimeoutExpired:
                    trouble.append(f"hs-{name} did not end 15 s after SIGTERM")
        self.supervisor, self.services = None, {}
        trouble += self.complaints()
        if check and trouble:
            raise AssertionError("services: " + "; ".join(trouble) + "\n" + self.log_tail(80))

    def late_wakeups(self):
        """Counters of work that was found at a sleep's ceiling, none if all is well; nor if the engine is away."""
        done = self.hsctl("--json", "show", "stats", check=False)
        counters = json.loads(done.stdout)["stats"]["counter"] if done.returncode == 0 else []
        return [f"{c['name']} is {c['value']}" for c in counters if c["name"].endswith("late_wakeup") and c["value"]]

    def late_apps(self):
        """Programs that slept over work, those that run and those that ended; unless a service was killed between the push
        of a hint and its bell."""
        if self.killed or self.liars:
            return []
        done = self.hsctl("--json", "show", "app", check=False)
        apps = json.loads(done.stdout)["apps"]["app"] if done.returncode == 0 else []
        found = [f"{a['name']} slept over work {w['late_wakeups']} times" for a in apps for w in a["worker"] if w["late_wakeups"]]
        return found + [line.strip() for line in self.log_text().splitlines() if " broker.late " in line]

    def log_text(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def log_tail(self, lines=40):
        return tail(self.log_text(), lines)

    def complaints(self):
        """Sanitizer reports, and services that died of something else than our kill."""
        text = self.log_text()
        found = [line.strip() for line in text.splitlines() if SANITIZER.search(line)]
        for name, pid, how in DIED.findall(text):
            if (name, int(pid)) not in self.killed:
                found.append(f"{name} pid {pid} died: {how}")
        return found

    def pid_of(self, name):
        """Pid of a running service, by its lock; 0 if none runs."""
        path = os.path.join(self.run_dir, f"{name}.pid")
        try:
            with open(path, "r+", encoding="ascii") as f:
                try:
                    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return 0
                except BlockingIOError:
                    return int(f.read() or 0)
        except FileNotFoundError:
            return 0

    def kill_service(self, name):
        """kill -9; returns the pid that was."""
        pid = wait_for(lambda: self.pid_of(name), 10, f"{name} runs")
        self.killed.append((name, pid))
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_service(self, name, old_pid, timeout=20):
        """Until a successor of old_pid serves; returns its pid."""
        def answers():
            v = self.versions().get(name)
            return v and v["serving"] and not v["error"] and v["pid"] != old_pid and v["pid"]
        try:
            return wait_for(answers, timeout, f"{name} is back")
        except TimeoutError as e:
            raise ProgramFailed(f"{e}\n{self.versions()}\n{self.threads(name)}\n{self.log_tail(60)}") from None

    def threads(self, name):
        """What each thread of a service does: name, state, kernel function it waits in, CPU ticks used."""
        def read(path):
            try:
                with open(path, encoding="ascii") as f:
                    return f.read()
            except OSError:
                return ""
        lines = []
        for task in sorted(glob.glob(f"/proc/{self.pid_of(name)}/task/*")):
            stat = read(f"{task}/stat").rpartition(") ")[2].split()
            lines.append(f"{name} {read(f'{task}/comm').strip()} {stat[:1]} {read(f'{task}/wchan')} user, system {stat[11:13]}")
        return "\n".join(lines)

    # --- hsctl ---

    def hsctl(self, *args, check=True, timeout=60):
        cmd = self.world.command(self.S, [self.hsctl_path, "-c", self.config, *args])
        return run(cmd, timeout, check)

    def show(self, *what):
        return json.loads(self.hsctl("--json", "show", *what).stdout)

    def versions(self):
        """{service: entry of show version}; empty while the api server is away."""
        done = self.hsctl("--json", "--timeout", "2500", "show", "version", check=False)
        if done.returncode != 0:
            return {}
        return {v["service"]: v for v in json.loads(done.stdout)["versions"]["service"]}

    def sessions(self):
        return self.show("session")["sessions"]["session"]

    def listeners(self):
        return [(l["local"], l["pid"]) for app in self.show("app")["apps"]["app"] for l in app["listener"]]

    def wait_listening(self, port, timeout=20):
        """Until a program on the stack listens on the port."""
        def listens():
            try:
                return any(local.endswith(f":{port}") for local, _ in self.listeners())
            except ProgramFailed as e:  # the broker is still waiting for the others
                raise LookupError(str(e)) from None
        try:
            wait_for(listens, timeout, f"a listener on port {port}")
        except (TimeoutError, ProgramFailed) as e:
            raise ProgramFailed(f"{e}\n{self.log_tail()}{self.programs_tail()}") from None

    def wait_listening_kernel(self, ns, port, timeout=20):
        def listens():
            text = run(["ip", "netns", "exec", ns, "cat", "/proc/net/tcp", "/proc/net/tcp6"]).stdout.decode()
            return re.search(rf":{port:04X} [0-9A-F]+:0000 0A ", text)
        wait_for(listens, timeout, f"a listener on port {port} in {ns}")

    # --- programs ---

    def app_env(self, **env):
        return {"LD_PRELOAD": self.shim, "VCL_VPP_SAPI_SOCKET": self.attach, "LDP_REQUIRE": "1",
                "HOME": self.world.app_dir, "TMPDIR": self.world.app_dir, **env}

    def app_command(self, argv, env=None, uid=None):
        if not self.shim:
            raise ProgramFailed(f"no libvcl_ldpreload.so in {self.build}")
        ours = (TOP + os.sep, self.build + os.sep)
        argv = [self._readable(a) if str(a).startswith(ours) and os.path.isfile(a) else a for a in argv]
        return self.world.command(self.S, argv, {**self.app_env(), **(env or {})},
                                  self.app_uid if uid is None else uid)

    def command(self, where, argv, **kw):
        """where: "app" (the stack, under the shim), "peer" or "kernel" (natively)."""
        if where == "app":
            return self.app_command(argv, **kw)
        return self.world.command({"peer": self.P, "kernel": self.K}[where], argv, **kw)

    def app(self, argv, timeout=90, check=True, **kw):
        return run(self.app_command(argv, **kw), timeout, check, cwd=self.world.app_dir)

    def peer(self, argv, timeout=90, check=True):
        return run(self.world.command(self.P, argv), timeout, check, cwd=self.world.app_dir)

    def run(self, where, argv, timeout=90, check=True, **kw):
        return run(self.command(where, argv, **kw), timeout, check, cwd=self.world.app_dir)

    def spawn(self, where, argv, **kw):
        """A program beside the test: netns.Program."""
        popen = {k: kw.pop(k) for k in ("stdin", "stdout") if k in kw}
        name = os.path.basename(str(argv[0]))
        return self.world.start(self.command(where, argv, **kw), f"{where}-{name}", cwd=self.world.app_dir, **popen)

    def programs_tail(self, lines=12):
        parts = [f"--- {netns.show(p.cmd[-6:])} (status {p.popen.poll()})\n{tail(p.output(), lines)}"
                 for p in self.world.programs[-4:]]
        return "".join(parts)

    def cpu_seconds(self, name):
        """CPU time a service has used, in seconds."""
        pid = self.pid_of(name)
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def uptime_ms(start):
    return (time.monotonic() - start) * 1000

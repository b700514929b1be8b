"""The real programs that tests, demo and bench run on a Lab: iperf3, nginx, curl, redis, Python's web server.

Every function takes `where`: "app" (on the stack, under the shim), "peer" or "kernel" (on the kernel's TCP).
"""
import hashlib
import json
import os

from netns import ProgramFailed
from stack import KERNEL4, KERNEL_PEER4, PEER4, STACK4
from wait import wait_for

PYTHON = "/usr/bin/python3"
ECHO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "echo.py")
NGINX = """daemon {daemon};
master_process on;
worker_processes {workers};
pid {dir}/nginx.pid;
error_log {dir}/error.log info;
events {{ worker_connections 512; }}
http {{
  access_log off;
  sendfile on;
  keepalive_timeout 65;
  client_max_body_size 0;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  server {{
    listen {address}:{port}{options};
    root {root};
    location = /hello {{ return 200 "hello\\n"; }}
  }}
}}
"""
HAPROXY = """global
  nbthread 2
defaults
  mode http
  timeout connect {connect}s
  timeout client 30s
  timeout server 30s
frontend front
  bind {address}:{port}
  default_backend back
backend back
  server one {to}:{to_port}
"""


def address_of(server, client):
    """The address at which `client` reaches `server`."""
    if server == "app":
        return STACK4
    if server == "kernel":
        return KERNEL4
    return PEER4 if client == "app" else KERNEL_PEER4


def wait_listening(lab, where, port):
    if where == "app":
        lab.wait_listening(port)
    else:
        lab.wait_listening_kernel(lab.P if where == "peer" else lab.K, port)


def random_file(path, size):
    """`size` random bytes; returns their sha256."""
    digest = hashlib.sha256()
    with open(path, "wb") as f:
        left = size
        while left:
            block = os.urandom(min(left, 1 << 20))
            f.write(block)
            digest.update(block)
            left -= len(block)
    os.chmod(path, 0o644)
    return digest.hexdigest()


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def iperf3_report(lab, server, client, seconds=3, port=5201, reverse=False, streams=1, during=None, address=None,
                  congestion=None):
    """The client's JSON report. during(): called while it runs. congestion: control at both ends."""
    srv = lab.spawn(server, ["iperf3", "-s", "-1", "-p", port])
    wait_listening(lab, server, port)
    argv = ["iperf3", "-J", "-c", address or address_of(server, client), "-p", port, "-t", seconds, "-P", streams]
    argv += ["-C", congestion] if congestion else []
    cli = lab.spawn(client, argv + (["-R"] if reverse else []))
    if during:
        during()
    cli.wait(seconds + 30, check=False)
    try:
        report = json.loads(cli.output())
        report["end"]["sum_received"]["bits_per_second"]
    except (ValueError, KeyError):
        raise ProgramFailed(f"iperf3: no result\n{cli.output()[-1500:]}\n{srv.output()[-1500:]}") from None
    if cli.popen.returncode != 0:
        raise ProgramFailed(f"iperf3 client: status {cli.popen.returncode}: {report.get('error')}")
    srv.wait(60)
    return report


def iperf3(lab, *args, **kw):
    """Gbit/s that arrived."""
    return iperf3_report(lab, *args, **kw)["end"]["sum_received"]["bits_per_second"] / 1e9


def nginx(lab, where, root, port=8080, uid=None, workers=1, options=""):
    """Master and workers; serves the files of root. options: more words of its listen line, each with a space before."""
    home = os.path.join(lab.world.app_dir, f"nginx-{where}-{port}")
    os.mkdir(home)
    os.chmod(home, 0o777)
    conf = os.path.join(home, "nginx.conf")
    with open(conf, "w", encoding="utf-8") as f:
        f.write(NGINX.format(daemon="off", workers=workers, dir=home, root=root, port=port, options=options,
                             address={"app": STACK4, "kernel": KERNEL4, "peer": "0.0.0.0"}[where]))
    kw = {"uid": uid} if where == "app" and uid is not None else {}
    server = lab.spawn(where, ["/usr/sbin/nginx", "-p", home, "-c", conf, "-e", home + "/error.log"], **kw)
    server.home = home
    try:
        wait_listening(lab, where, port)
    except (ProgramFailed, TimeoutError) as e:
        with open(home + "/error.log", encoding="utf-8", errors="replace") as f:
            raise ProgramFailed(f"nginx: {e}\n{f.read()[-2000:]}") from None
    return server


def haproxy_conf(lab, port, to, to_port, connect=10):
    """Path of the configuration of an haproxy on the stack with a server at `to`; connect: the time for that, in s."""
    path = os.path.join(lab.world.app_dir, f"haproxy-{port}.cfg")
    with open(path, "w", encoding="utf-8") as f:
        f.write(HAPROXY.format(address=STACK4, port=port, to=to, to_port=to_port, connect=connect))
    return path


def url(server, client, name, port=8080):
    return f"http://{address_of(server, client)}:{port}/{name}"


# accepts, forks and executes what its words say, with the connection as input and output
INETD = """
import os, signal, socket, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
s = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=64)
while True:
    conn = s.accept()[0]
    if os.fork() == 0:
        os.dup2(conn.fileno(), 0)
        os.dup2(conn.fileno(), 1)
        os.execvp(sys.argv[3], sys.argv[3:])
    conn.close()
"""


class Transfer:
    """One curl that fetches one file over one connection, beside the test."""

    def __init__(self, lab, server, client, name, size, port=8080):
        self.size = size
        self.path = os.path.join(lab.world.data_dir, f"got-{os.urandom(4).hex()}")
        report = "%{num_connects} %{http_code} %{size_download} %{time_total} %{speed_download}"
        self.curl = lab.spawn(client, ["curl", "-sS", "--max-time", 60, "-o", self.path, "-w", report,
                                       url(server, client, name, port)])

    def got(self):
        try:
            return os.stat(self.path).st_size
        except FileNotFoundError:
            return 0

    def reaches(self, fraction, timeout=150):
        """Until so much of it has come; whether it is still going on then."""
        wait_for(lambda: self.got() >= fraction * self.size or not self.curl.alive(), timeout,
                 f"{fraction:.0%} of the file", step=0.0005)
        return self.curl.alive() and self.got() < self.size

    def wait_got(self, fraction, timeout=150):
        """Until so much of it has come; the transfer must still be going on then."""
        if not self.reaches(fraction, timeout):
            raise ProgramFailed(f"the transfer ended before it could be disturbed: {self.curl.output()}")

    def finish(self, sha, timeout=120):
        """Waits; checks status, one connection, size and content. Returns bytes per second."""
        self.curl.wait(timeout)
        connects, code, size, _, speed = self.curl.output().split()
        if (connects, code, int(size)) != ("1", "200", self.size):
            raise ProgramFailed(f"curl: {connects} connections, status {code}, {size} of {self.size} bytes")
        if sha256(self.path) != sha:
            raise ProgramFailed("curl: sha256 differs from the file that was served")
        os.unlink(self.path)
        return float(speed)


def begun(lab, server, client, name, size, fraction=0.2, port=8080):
    """A Transfer that is going on when `fraction` of it has come. On a machine that does not run us for a moment one may
    be over by then: another one."""
    for _ in range(10):
        transfer = Transfer(lab, server, client, name, size, port)
        if transfer.reaches(fraction):
            return transfer
        transfer.curl.wait(120)
        os.unlink(transfer.path)
    raise ProgramFailed("no transfer could be disturbed: each was over at once")


def fetch(lab, server, client, name, size, sha, port=8080):
    """Bytes per second of one fetched file."""
    return Transfer(lab, server, client, name, size, port).finish(sha)

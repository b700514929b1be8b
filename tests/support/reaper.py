#!/usr/bin/env python3
"""Removes what a test made, whatever became of the test.

Started by netns.World in a session of its own with a pipe as stdin. Lines say what exists: "ns NAME", "dir PATH". At
the end of the pipe, which comes when the test closes it or dies in any way, every process inside those namespaces is
killed, then namespaces and folders are removed. Exit status 0 if nothing is left.
"""
import os
import shutil
import signal
import subprocess
import sys

from wait import wait_for

NETNS = "/run/netns"


def processes(name):
    """Pids inside the network namespace `name`."""
    try:
        inode = os.stat(f"{NETNS}/{name}").st_ino
    except OSError:
        return []
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            if os.stat(f"/proc/{entry}/ns/net").st_ino == inode and not is_zombie(entry):
                found.append(int(entry))
        except OSError:
            continue
    return found


def is_zombie(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        return f.read().rpartition(")")[2].split()[0] in "ZX"


def kill_all(name):
    for pid in processes(name):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return not processes(name)


def remove_namespace(name):
    if not os.path.exists(f"{NETNS}/{name}"):
        return True
    try:
        wait_for(lambda: kill_all(name), 10, f"end of the processes in {name}")
    except TimeoutError:
        return False
    return subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL).returncode == 0


def main():
    namespaces, folders = [], []
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    for line in sys.stdin:
        kind, _, name = line.rstrip("\n").partition(" ")
        {"ns": namespaces, "dir": folders}[kind].append(name)
        print("ok", flush=True)
    clean = all([remove_namespace(name) for name in namespaces])
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)
        clean = clean and not os.path.exists(path)
    sys.exit(0 if clean else 1)


if __name__ == "__main__":
    main()

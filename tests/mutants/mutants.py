#!/usr/bin/env python3
"""How good are the tests of services/engine/tcp? Puts one small error at a time into it and looks who notices.

usage: mutants.py [--sample N] [--seed N] [--jobs N] [--work DIR] [--report FILE]     (make mutants SAMPLE=200)

A mutant is one token changed: a comparison (< and <=, seq_lt and seq_leq …), a sign (+ and -, += and -=, ++ and --) or
a constant (n becomes n + 1). Tests are the unit tests of the room, tests/pkt on the engine, and the simulations of the
congestion controls; a mutant is killed when
one of them fails, crashes or goes round in circles. Mutants that do not compile are left out. Each worker has a
copy of the tree and a build tree of its own below DIR, where only the changed object and the programs are built anew.
Results are kept in DIR/results.jsonl by the text of the file that was changed, so that a run that was stopped goes on,
and a larger sample repeats nothing. Ends with the share of killed ones; survivors go to the report.
"""
import argparse
import collections
import glob
import hashlib
import json
import os
import queue
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROOM = "services/engine/tcp"
CPU_LIMIT = 60   # seconds of processor time of a test process: what goes round in circles needs more
WALL_LIMIT = 600 # on a busy machine a test may wait long for its turn: that alone kills no mutant
SLOW = ["pkt_run", "sim_tcp_cc"]  # behind the unit tests: they take seconds
TOKEN = re.compile(r"\bseq_(?:lt|leq|gt|geq)\b|->|<<=|>>=|<<|>>|<=|>=|==|!=|\+\+|--|\+=|-=|<|>|\+|-|"
                   r"\b(?:0x[0-9a-fA-F]+|\d+)(?:[uUlL]*)\b")
SWAP = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "++": "--", "--": "++", "+=": "-=",
        "-=": "+=", "seq_lt": "seq_leq", "seq_leq": "seq_lt", "seq_gt": "seq_geq", "seq_geq": "seq_gt", "+": "-", "-": "+"}
HIDDEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|^[ \t]*#[ \t]*(?:include|if|el|endif)[^\n]*|'
                    r'_Static_assert\(.*?\);|FAULT_POINT\(.*?\);', re.S | re.M)


def visible(text):
    return HIDDEN.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)


def changed(token, before):
    """What the token becomes, or None; `before` is the code in front of it."""
    if token in ("+", "-"):
        last = before.rstrip()[-1:]
        return SWAP[token] if last and (last.isalnum() or last in "_)]") else None
    if token in SWAP:
        return SWAP[token]
    number = re.fullmatch(r"(0x[0-9a-fA-F]+|\d+)([uUlL]*)", token)
    if number:
        return f"{int(number.group(1), 0) + 1}{number.group(2)}"
    return None


def points(path):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    code, digest = visible(text), hashlib.sha256(text.encode()).hexdigest()[:16]
    for m in TOKEN.finditer(code):
        new = changed(m.group(0), code[:m.start()])
        if new is not None:
            yield {"file": os.path.basename(path), "text": digest, "at": m.start(),
                   "line": text.count("\n", 0, m.start()) + 1, "old": m.group(0), "new": new}


def key(mutant):
    return f"{mutant['file']}:{mutant['text']}:{mutant['at']}:{mutant['new']}"


def kind(mutant):
    if mutant["old"][0].isdigit():
        return "constant"
    return "sign" if mutant["old"][0] in "+-" else "comparison"


_running = set()


def limits():
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT + 1))


def end_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def stopped(*_):
    """TERM and ^C: nothing is left running; what was judged is in the file already."""
    for pid in list(_running):
        end_group(pid)
    os._exit(130)


def run(cmd, cwd, limit):
    """(status, output); the whole process group is ended at the limit."""
    env = {**os.environ, "MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 25)}
    proc = subprocess.Popen(cmd, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            start_new_session=True, text=True, errors="replace", env=env, preexec_fn=limits)
    _running.add(proc.pid)
    try:
        out, _ = proc.communicate(timeout=limit)
        return proc.returncode, out
    except subprocess.TimeoutExpired:
        end_group(proc.pid)
        proc.communicate()
        return "timeout", ""
    finally:
        _running.discard(proc.pid)


class Worker(threading.Thread):
    def __init__(self, number, work, todo, done):
        super().__init__(daemon=True)
        self.base = os.path.join(work, f"w{number}")
        self.src, self.out = os.path.join(self.base, "src"), os.path.join(self.base, "build")
        self.todo, self.done = todo, done
        self.tests = []
        self.link, self.compile, self.archive = {}, {}, ""
        self.kills = collections.Counter()  # those that found most go first; the slow ones last

    def prepare(self):
        if os.path.isdir(self.src):
            shutil.rmtree(self.src)
        os.makedirs(self.src)
        tar = subprocess.Popen(["git", "archive", "HEAD"], cwd=TOP, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", self.src], stdin=tar.stdout, check=True)
        tar.wait()
        cmd = ["cmake", "-G", "Ninja", "-S", self.src, "-B", self.out, "-DCMAKE_BUILD_TYPE=Debug", "-DHS_SANITIZE="]
        status, text = run(cmd, self.base, 120)
        names = sorted(set(re.findall(r"unit_tcp_\w+", self.ninja_text())))
        self.targets = [n for n in names if not n.endswith(("_dir", "_Debug"))] + SLOW
        self.targets = [t for t in self.targets if re.search(rf"^build {t}: phony", self.ninja_text(), re.M)]
        status, text = run(["ninja", "-j1"] + self.targets, self.out, 3 * WALL_LIMIT)
        if status != 0:
            raise RuntimeError(f"the tree does not build: {text[-2000:]}")
        cases = sorted(glob.glob(os.path.join(self.src, "tests/pkt/cases/*.pkt")))
        self.read_commands()
        for t in self.targets:
            found = [p for p in glob.glob(os.path.join(self.out, "**", t), recursive=True) if os.access(p, os.X_OK)
                     and os.path.isfile(p)]
            self.tests.append([t, found[0]] + (["--engine", "--stop", "--jobs", "1"] + cases if t == "pkt_run" else []))
        for t in self.tests:
            status, text = run(t[1:], self.out, WALL_LIMIT)
            if status != 0:
                raise RuntimeError(f"{t[0]} fails without any mutant: {text[-2000:]}")

    def read_commands(self):
        """How the build compiles each file of the room, makes its archive and links each program."""
        for t in self.targets:
            lines = subprocess.run(["ninja", "-t", "commands", t], cwd=self.out, check=True, capture_output=True,
                                   text=True).stdout.splitlines()
            self.link[t] = lines[-1]
            for line in lines:
                source = re.search(rf"-c {re.escape(self.src)}/{ROOM}/(\w+\.c)$", line)
                if source:
                    self.compile[source.group(1)] = line
                elif "libhs_engine_tcp.a" in line and " qc " in line:
                    self.archive = line

    def shell(self, line):
        return run(["sh", "-c", line], self.out, 300)[0] == 0

    def ninja_text(self):
        with open(os.path.join(self.out, "build.ninja"), encoding="utf-8") as f:
            return f.read()

    def judge(self, mutant):
        path = os.path.join(self.src, ROOM, mutant["file"])
        with open(path, encoding="utf-8") as f:
            text = f.read()
        at = mutant["at"]
        assert text[at:at + len(mutant["old"])] == mutant["old"]
        try:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text[:at] + mutant["new"] + text[at + len(mutant["old"]):])
            if mutant["file"] not in self.compile or not self.shell(self.compile[mutant["file"]]):
                return "not built", ""
            self.shell(self.archive)
            for t in sorted(self.tests, key=lambda t: (t[0] in SLOW, -self.kills[t[0]])):
                if not self.shell(self.link[t[0]]):
                    raise RuntimeError(f"{t[0]} does not link")
                status, _ = run(t[1:], self.out, WALL_LIMIT)
                if status == "timeout":
                    raise RuntimeError(f"{t[0]} did not end in {WALL_LIMIT} s: the machine is too busy")
                if status != 0:
                    self.kills[t[0]] += 1
                    return "killed", t[0]
            return "survived", ""
        finally:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            if mutant["file"] in self.compile:
                self.shell(self.compile[mutant["file"]])

    def run(self):
        try:
            self.prepare()
            while True:
                mutant = self.todo.get_nowait()
                verdict, by = self.judge(mutant)
                self.done.put({**mutant, "key": key(mutant), "verdict": verdict, "by": by})
        except queue.Empty:
            pass
        except Exception as e:  # pylint: disable=broad-except
            self.done.put({"error": str(e)})
        self.done.put(None)


def report(path, commit, sample, seed, everything, results):
    judged = [r for r in results if r["verdict"] != "not built"]
    killed = [r for r in judged if r["verdict"] == "killed"]
    share = 100.0 * len(killed) / max(1, len(judged))
    by_file = collections.defaultdict(lambda: [0, 0])
    by_kind = collections.defaultdict(lambda: [0, 0])
    for r in judged:
        for table, k in ((by_file, r["file"]), (by_kind, kind(r))):
            table[k][0] += 1
            table[k][1] += r["verdict"] == "killed"
    text = ["# Mutants of services/engine/tcp", "",
            f"Commit {commit}; {len(results)} of {everything} mutants (sample {sample}, seed {seed}); "
            f"{len(results) - len(judged)} of them did not compile. `make mutants SAMPLE=N SEED=N` repeats it.", "",
            f"**{len(killed)} of {len(judged)} killed: {share:.1f} %** (goal 80 %)", "",
            "| what | mutants | killed |", "|---|---|---|"]
    text += [f"| {k} | {v[0]} | {v[1]} |" for k, v in sorted(by_kind.items())]
    text += [f"| {k} | {v[0]} | {v[1]} |" for k, v in sorted(by_file.items())]
    text += ["", "## Survivors", "", "| where | old | new | line |", "|---|---|---|---|"]
    for r in sorted((r for r in judged if r["verdict"] == "survived"), key=lambda r: (r["file"], r["at"])):
        with open(os.path.join(TOP, ROOM, r["file"]), encoding="utf-8") as f:
            lines = f.read().split("\n")
        code = lines[r["line"] - 1].strip().replace("|", "\\|") if r["line"] <= len(lines) else ""
        text.append(f"| {r['file']}:{r['line']} | `{r['old']}` | `{r['new']}` | `{code}` |")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(text) + "\n")
    return share, len(killed), len(judged)


def head_points(work):
    """All mutants of HEAD, not of files that somebody is editing."""
    folder = os.path.join(work, "head")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    tar = subprocess.Popen(["git", "archive", "HEAD", ROOM], cwd=TOP, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", folder], stdin=tar.stdout, check=True)
    tar.wait()
    return [p for f in sorted(glob.glob(os.path.join(folder, ROOM, "*.c"))) for p in points(f)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, default=0, help="so many, drawn by the seed; 0 = all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", default=os.path.join(TOP, "build", "mutants"))
    parser.add_argument("--report", default=os.path.join(TOP, "docs", "mutants", "REPORT.md"))
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, stopped)
    signal.signal(signal.SIGINT, stopped)
    os.makedirs(args.work, exist_ok=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=TOP, check=True, capture_output=True,
                            text=True).stdout.strip()
    every = head_points(args.work)
    chosen = random.Random(args.seed).sample(every, min(args.sample or len(every), len(every)))
    log = os.path.join(args.work, "results.jsonl")
    known = {}
    if os.path.exists(log):
        with open(log, encoding="utf-8") as f:
            known = {r["key"]: r for r in map(json.loads, f)}
    results = [known[key(m)] for m in chosen if key(m) in known]
    todo, done = queue.Queue(), queue.Queue()
    for m in chosen:
        if key(m) not in known:
            todo.put(m)
    print(f"{len(every)} mutants of {commit}, {len(chosen)} chosen, {len(results)} judged before", flush=True)
    workers = [Worker(i, args.work, todo, done) for i in range(args.jobs)] if not todo.empty() else []
    for w in workers:
        w.start()
    live, failed = len(workers), 0
    with open(log, "a", encoding="utf-8") as f:
        while live:
            r = done.get()
            if r is None:
                live -= 1
            elif "error" in r:
                print(r["error"], flush=True)
                failed = 1
            else:
                f.write(json.dumps(r) + "\n")
                f.flush()
                results.append(r)
                print(f"{len(results)}/{len(chosen)} {r['file']}:{r['line']} {r['old']} -> {r['new']}: {r['verdict']}"
                      f"{' by ' + r['by'] if r['by'] else ''}", flush=True)
                report(args.report, commit, len(chosen), args.seed, len(every), results)
    share, killed, judged = report(args.report, commit, len(chosen), args.seed, len(every), results)
    print(f"{killed} of {judged} mutants killed: {share:.1f} %")
    return 1 if failed or share < 80.0 else 0


if __name__ == "__main__":
    sys.exit(main())

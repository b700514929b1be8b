#!/usr/bin/env python3
"""How good are the tests of services/engine/tcp? Puts one small error at a time into it and looks who notices.

usage: mutants.py [FILE.c ...] [--sample N] [--seed N] [--jobs N] [--fresh] [--quick] [--work DIR] [--report FILE]
       (make mutants; make mutants MUTANTS="tcp_ack.c"; make mutants MUTANTS="--sample 200")

All mutants (schema.py says what one is) are compiled into one copy of the tree below DIR and woken by number. Tests are
the unit tests of the room, tests/pkt on the engine, the simulations that take less than some seconds and the fuzzer's
corpus, built with ubsan's traps. First each test runs once with no mutant awake and notes which mutants it evaluates to
another result; then each mutant meets only those tests, the quick and the deadly first, until one fails, crashes or
needs twenty times its processor time. What was found is remembered in DIR/results.jsonl as long as the file that the
mutant is in does not change, and a survivor meets only tests that it has not met: a run that was stopped goes on, and
new tests are soon judged. --fresh forgets all that. --quick leaves out the long simulations and most of tests/pkt.

equivalent.txt lists mutants that nobody could notice, each with its reason; they count neither as killed nor as alive.
Writes docs/MUTANTS.md when all were judged. Exit 1 when fewer than 80 % were killed, or equivalent.txt is out of date.
"""
import argparse
import collections
import glob
import hashlib
import json
import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import schema

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
ROOM = "services/engine/tcp"
GOAL = 80.0
WALL = 600      # s; on a busy machine a test may wait long for its turn
SPLIT = 0.12    # s: programs that take longer are run test by test
TARGETS = re.compile(r"^build (unit_tcp_\w+|prop_tcp_\w+|sim_tcp_\w+|sim_(?:syn|tfo|timewait|offers|engine)|fuzz_tcp|pkt_run): phony", re.M)
QUICK = re.compile(r"unit_|prop_|pkt_run|sim_tcp_table|sim_(?:syn|tfo|timewait|offers)$")
TESTS = ["tests/unit/services/engine/tcp", "tests/prop/engine", "tests/sim", "tests/pkt", "tests/fuzz/fuzz_tcp.c", "tests/fuzz/corpus/tcp",
         "tests/support"]
MADE_OF = {"unit": lambda name: [f"tests/unit/services/engine/tcp/test_{name}.c"], "sim": lambda name: ["tests/sim"],
           "prop": lambda name: [f"tests/prop/engine/prop_tcp_{name}.c"], "fuzz": lambda name: TESTS[4:6]}
FLAGS = "-O1 -g -w -fsanitize=undefined -fsanitize-undefined-trap-on-error"
ENV = {**os.environ, "MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 25)}

_running = set()


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


def run(cmd, cwd, env=None, capture=False):
    """(status, output); the whole process group is ended at the limit, and what it left behind at its end."""
    out = subprocess.PIPE if capture else subprocess.DEVNULL
    proc = subprocess.Popen(cmd, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT if capture else out,
                            start_new_session=True, text=True, errors="replace", env={**ENV, **(env or {})})
    _running.add(proc.pid)
    try:
        text, _ = proc.communicate(timeout=WALL)
        return proc.returncode, text
    except subprocess.TimeoutExpired:
        end_group(proc.pid)
        proc.communicate()
        return "timeout", ""
    finally:
        end_group(proc.pid)
        _running.discard(proc.pid)


def git(*args):
    return subprocess.run(["git", *args], cwd=TOP, check=True, capture_output=True, text=True).stdout


class Unit:
    """A test that is run as one: a program, one test of a slow program, or those cases of tests/pkt that it takes."""

    def __init__(self, name, cmd, env=None, made_of=""):
        self.name, self.cmd, self.env = name, cmd, env or {}
        self.tag = f"{name}@{made_of}"
        self.cost, self.runs, self.kills = 1.0, 0, 0
        self.noted = b""
        self.cases = None  # of tests/pkt: name → what it noted

    def rank(self):
        return -(self.kills + 1) / (self.runs + 2) / (self.cost + 0.01)


class Tree:
    """The copy, its mutants, and its test programs."""

    def __init__(self, work):
        self.work, self.src, self.out = work, os.path.join(work, "src"), os.path.join(work, "build")
        self.mutants, self.left, self.units = [], [], []
        self.sources = {}
        self.before, self.recorded, self.hashes = {}, {}, {}

    def put(self, path, text):
        """Writes only what is new, so that ninja builds no more."""
        old = None
        if os.path.exists(path):
            with open(path, "rb") as f:
                old = f.read()
        data = text.encode() if isinstance(text, str) else text
        if data != old:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(data)

    def copy(self):
        names = [n for n in git("ls-files", "-co", "--exclude-standard").splitlines() if os.path.isfile(os.path.join(TOP, n))]
        room = {n for n in names if os.path.dirname(n) == ROOM and n.endswith((".c", ".h"))}
        for n in names:
            with open(os.path.join(TOP, n), "rb") as f:
                data = f.read()
            if n == f"{ROOM}/CMakeLists.txt":
                data += f"\ntarget_sources(hs_engine_tcp PRIVATE {HERE}/mutant.c)\n".encode()
            if n not in room:
                self.put(os.path.join(self.src, n), data)
                shutil.copymode(os.path.join(TOP, n), os.path.join(self.src, n))
        for folder, _, files in os.walk(self.src):
            for f in files:
                path = os.path.join(folder, f)
                if os.path.relpath(path, self.src) not in names:
                    os.unlink(path)
        users = [os.path.join(TOP, n) for n in names if n.endswith((".c", ".h")) and n.startswith(
            ("services/engine/", "tests/sim/", "tests/pkt/", "tests/unit/services/engine/", "tests/fuzz/"))]
        fixed = schema.constants(users)
        for n in sorted(room):
            s = self.sources[n] = schema.Source(os.path.join(TOP, n))
            s.plan(fixed)
            self.mutants += sorted(s.mutants, key=lambda m: m.at)
            self.left += s.left
        for i, m in enumerate(self.mutants):
            m.number = i + 1

    def build(self):
        """Mutants that the compiler does not take (a sum of pointers) are left out, and it is asked again."""
        skip = set()
        cmd = ["cmake", "-G", "Ninja", "-S", self.src, "-B", self.out, "-DCMAKE_BUILD_TYPE=Debug", "-DHS_SANITIZE=",
               f"-DCMAKE_C_FLAGS_DEBUG={FLAGS}"]
        for _ in range(8):
            for n, s in self.sources.items():
                self.put(os.path.join(self.src, n), s.transform(os.path.join(HERE, "mutant.h"), skip))
            status, text = run(cmd, self.work, capture=True)
            if status != 0:
                raise RuntimeError(text[-3000:])
            with open(os.path.join(self.out, "build.ninja"), encoding="utf-8") as f:
                targets = TARGETS.findall(f.read())
            status, text = run(["ninja", "-k0", *targets], self.out, {"CCACHE_DISABLE": "1"}, capture=True)
            if status == 0:
                break
            bad = {(os.path.basename(p), int(line)) for p, line in re.findall(rf"^\S*({ROOM}/\w+\.[ch]):(\d+):\d+: error", text, re.M)}
            more = {m.key for m in self.mutants if (m.file, m.line) in bad and m.kind == "sign"} - skip
            if not more:
                raise RuntimeError(text[-6000:])
            skip |= more
        else:
            raise RuntimeError("does not build")
        self.left += [schema.Left(m.file, m.line, m.old, "no program") for m in self.mutants if m.key in skip]
        self.mutants = [m for m in self.mutants if m.key not in skip]
        return targets

    def program(self, name):
        found = [p for p in glob.glob(os.path.join(self.out, "tests", "*", name)) if os.path.isfile(p)]
        return found[0]

    def record(self, unit, cmd=None):
        """What a test notes with every mutant asleep, its processor time and output; remembered by what it is made of."""
        cmd = cmd or unit.cmd
        h = hashlib.sha256(repr((unit.env, cmd, self.n_seen)).encode())
        for path in [cmd[0]] + [a for a in cmd if a.endswith(".pkt")]:
            h.update(self.file_hash(path))
        key = h.hexdigest()
        self.recorded[key] = self.before.get(key) or self.record_now(unit, cmd)
        return self.recorded[key]

    def file_hash(self, path):
        if path not in self.hashes:
            with open(path, "rb") as f:
                self.hashes[path] = hashlib.sha256(f.read()).digest()
        return self.hashes[path]

    def record_now(self, unit, cmd):
        path = os.path.join(self.work, f"seen.{threading.get_ident()}")
        with open(path, "wb") as f:
            f.write(bytes(self.n_seen))
        before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        status, text = run(cmd, self.out, {**unit.env, "HS_MUTANT_SEEN": path}, capture=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if status != 0:
            raise RuntimeError(f"{unit.name} fails without any mutant ({status}): {text[-2000:]}")
        with open(path, "rb") as f:
            noted = f.read()
        os.unlink(path)
        cost = min(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - wall)
        return noted, max(cost, 0.001), text

    def find_units(self, targets):
        path = os.path.join(self.work, "recorded.pickle")
        if os.path.exists(path):
            with open(path, "rb") as f:
                self.before = pickle.load(f)
        self.record_units(targets)
        with open(path, "wb") as f:
            pickle.dump(self.recorded, f)

    def record_units(self, targets):
        self.n_seen = max(m.number for m in self.mutants) + 1
        for t in sorted(targets):
            program = self.program(t)
            if t == "pkt_run":
                self.find_cases(program)
                continue
            made_of = digest(MADE_OF[t.split("_")[0]](t[9:]))
            unit = Unit(t, [program] + ([os.path.join(self.src, "tests/fuzz/corpus/tcp")] if t == "fuzz_tcp" else []), None, made_of)
            unit.noted, unit.cost, text = self.record(unit)
            tests = re.findall(r"^\[ RUN      \] (\w+)", text, re.M)
            if unit.cost < SPLIT or len(tests) < 2:
                self.units.append(unit)
                continue
            for name in tests:
                one = Unit(f"{t} {name}", unit.cmd, {"HS_MUTANT_TEST": name}, made_of)
                one.noted, one.cost, _ = self.record(one)
                self.units.append(one)

    def find_cases(self, program):
        files = sorted(glob.glob(os.path.join(self.src, "tests/pkt/cases/*.pkt")))
        listed = run([program, "--list", *files], self.out, capture=True)[1].splitlines()
        unit = Unit("pkt_run", [program, "--engine", "--stop", "--jobs", "1"])
        unit.files, unit.cases, unit.cost = files, {}, 0.0
        for row in listed:
            file, name = row.split("\t")[:2]
            path = os.path.join(self.src, "tests/pkt/cases", file)
            noted, cost, _ = self.record(unit, unit.cmd + ["--case", name, path])
            weight = len(noted) - noted.count(0)
            unit.cases[name] = (noted, path, f"{name}@{self.file_hash(path).hex()[:8]}", weight)
            unit.cost += cost
        unit.noted = bytes(map(max, zip(*(noted for noted, _, _, _ in unit.cases.values()))))
        unit.cost /= 2
        self.units.append(unit)

    def choose(self, m, tried, most):
        """Command with those cases of tests/pkt that may find it, `most` at most, the most special first; their tags."""
        u = next(u for u in self.units if u.cases is not None)
        chosen = [(weight, n, path, tag) for n, (noted, path, tag, weight) in u.cases.items()
                  if noted[m.number] & 2 and tag not in tried]
        chosen = sorted(chosen)[:most]
        return (u.cmd + [a for c in chosen for a in ("--case", c[1])] + sorted({c[2] for c in chosen})), [c[3] for c in chosen]

    def judge(self, m, tried, most):
        """(verdict, by, tags of what was run): killed, unreached, same (evaluated, never to another result) or alive."""
        units, tags = [u for u in self.units if u.noted[m.number] & 2], set(tried)
        if not units:
            return ("same" if any(u.noted[m.number] for u in self.units) else "unreached"), "", tags
        for u in sorted(units, key=Unit.rank):
            cmd, new = (u.cmd, [u.tag]) if u.cases is None else self.choose(m, tags, most)
            if not set(new) - tags:
                continue
            tags.update(new)
            status, _ = run(cmd, self.out, {**u.env, "HS_MUTANT": str(m.number), "HS_MUTANT_CPU": str(int(2 + 20 * u.cost))})
            u.runs += 1
            if status != 0:
                u.kills += 1
                return "killed", u.name, set()
        return "alive", "", tags


def digest(paths):
    h = hashlib.sha256()
    for p in paths:
        for n in sorted(git("ls-files", "-co", "--exclude-standard", p).splitlines()):
            if os.path.isfile(os.path.join(TOP, n)):
                with open(os.path.join(TOP, n), "rb") as f:
                    h.update(n.encode() + b"\0" + f.read())
    return h.hexdigest()[:16]


def equivalents(mutants):
    """key → reason, from equivalent.txt, and lines of it that speak of no mutant."""
    known, stale = {m.key: "the same either way" for m in mutants if m.either_way}, []
    place = {(m.file, m.code, f"{m.old} -> {m.new}", m.nth): m.key for m in mutants}
    path = os.path.join(HERE, "equivalent.txt")
    with open(path, encoding="utf-8") as f:
        for no, line in enumerate(f, 1):
            if line.startswith("#") or not line.strip():
                continue
            parts = [p.strip() for p in line.split(" :: ")]
            if len(parts) != 4 or not re.fullmatch(r"(.+?)( #\d+)?", parts[2]):
                stale.append(f"equivalent.txt:{no}: not FILE :: LINE :: OLD -> NEW [#N] :: REASON")
                continue
            change, _, nth = parts[2].partition(" #")
            key = place.get((parts[0], parts[1], change, int(nth or 1)))
            if key is None:
                stale.append(f"equivalent.txt:{no}: no such mutant")
            else:
                known[key] = parts[3]
    return known, stale


WHY = {"unreached": "no test evaluates it", "same": "evaluated, never to another result", "alive": "nobody noticed"}


def table(title, rows):
    out = [f"| {title} | mutants | killed | alive | never evaluated differently | share killed |", "|---|---|---|---|---|---|"]
    for k, c in rows:
        n = sum(c.values())
        out.append(f"| {k} | {n} | {c['killed']} | {c['alive']} | {c['same'] + c['unreached']} | {100 * c['killed'] / n:.0f} % |")
    return out


def report(path, tree, results, equal, commit, quick):
    judged = [m for m in tree.mutants if m.key not in equal]
    files, kinds, all_ = collections.defaultdict(collections.Counter), collections.defaultdict(collections.Counter), collections.Counter()
    for m in judged:
        v = results[m.key]["verdict"]
        for c in (files[m.file], kinds[m.kind], all_):
            c[v] += 1
    share = 100.0 * all_["killed"] / len(judged)
    by = collections.Counter(results[m.key]["by"].split()[0] for m in judged if results[m.key]["verdict"] == "killed")
    why = collections.Counter(left.why for left in tree.left)
    text = ["# Mutants of services/engine/tcp", "",
            "Each comparison, sign and constant of the room is changed in turn; which changes do the tests find? Written by",
            "`make mutants` (tests/mutants/mutants.py), which says what is a mutant and which tests run.", "",
            f"Commit {commit}: **{all_['killed']} of {len(judged)} killed, {share:.1f} %** (goal {GOAL:.0f} %). "
            + ("Without the long simulations (--quick): what only they notice stands among the survivors. " if quick else "") +
            f"Besides {len(equal)} that change nothing that could be seen: minima, maxima and differences, which are the same "
            "either way when both sides are equal (schema.py), and those of [equivalent.txt](../tests/mutants/equivalent.txt).", "",
            "Not mutated: " + ", ".join(f"{n} {w}" for w, n in sorted(why.items())) + ".",
            "", *table("kind", sorted(kinds.items())), "", *table("file", sorted(files.items())), "",
            "Killed by: " + ", ".join(f"{n} {k}" for k, n in by.most_common()) + " (the first that noticed).", "", "## Survivors", ""]
    last = None
    for m in judged:
        v = results[m.key]["verdict"]
        if v == "killed":
            continue
        if m.file != last:
            text += ["" if last else "", f"### {m.file}", "", "| line | from → to | code | |", "|---|---|---|---|"]
            last = m.file
        code = m.code.replace("|", "\\|")
        text.append(f"| {m.line} | `{m.old}` → `{m.new}` | `{code}` | {WHY[v]} |")
    with open(path, "w", encoding="utf-8") as f:
        f.write(re.sub(r"\n{3,}", "\n\n", "\n".join(text)) + "\n")


def load(path):
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as f:
        return {r["key"]: r for r in map(json.loads, f)}


def judge_all(tree, todo, results, log, most, jobs):
    lock, failed, at = threading.Lock(), [], [0]
    def work():
        while True:
            with lock:
                if not todo or failed:
                    return
                m = todo.pop()
            try:
                verdict, by, tried = tree.judge(m, results.get(m.key, {}).get("tried", ()), most)
            except Exception as e:  # pylint: disable=broad-except
                failed.append(repr(e))
                return
            with lock:
                at[0] += 1
                r = results[m.key] = {"key": m.key, "verdict": verdict, "by": by, "tried": sorted(tried)}
                log.write(json.dumps(r) + "\n")
                log.flush()
                if at[0] % 100 == 0:
                    print(f"{at[0]} judged, {len(todo)} to go", flush=True)
    threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failed:
        raise RuntimeError(failed[0])


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", help="only mutants of these files; no report is written")
    parser.add_argument("--sample", type=int, default=0, help="so many, drawn by the seed; 0 = all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--quick", action="store_true", help="without the tests that take longest: more survive")
    parser.add_argument("--verbose", action="store_true", help="also name who kills")
    parser.add_argument("--work", default=os.path.join(TOP, "build", "mutants"))
    parser.add_argument("--report", default=os.path.join(TOP, "docs", "MUTANTS.md"))
    return parser.parse_args()


def main():
    args, begin = options(), time.monotonic()
    signal.signal(signal.SIGTERM, stopped)
    signal.signal(signal.SIGINT, stopped)
    os.makedirs(args.work, exist_ok=True)
    tree = Tree(args.work)
    tree.copy()
    tree.find_units([t for t in tree.build() if QUICK.match(t) or not args.quick])
    equal, complaints = equivalents(tree.mutants)
    path = os.path.join(args.work, "results.jsonl")
    results = {} if args.fresh else load(path)
    chosen = [m for m in tree.mutants if not args.files or m.file in {os.path.basename(f) for f in args.files}]
    if args.sample:
        chosen = random.Random(args.seed).sample(chosen, min(args.sample, len(chosen)))
    todo = [m for m in chosen if results.get(m.key, {}).get("verdict") != "killed"]
    random.Random(args.seed).shuffle(todo)
    print(f"{len(tree.mutants)} mutants, {len(chosen)} chosen, {len(todo)} to judge, {len(tree.units)} tests; "
          f"built and recorded in {time.monotonic() - begin:.0f} s", flush=True)
    with open(path, "w" if args.fresh else "a", encoding="utf-8") as log:
        judge_all(tree, todo, results, log, 60 if args.quick else 1 << 20, args.jobs)
    for m in chosen:
        r = results[m.key]
        if m.key in equal and r["verdict"] == "killed":
            complaints.append(f"{m.file}:{m.line} {m.old} -> {m.new}: equivalent.txt says it can't be, {r['by']} killed it")
        if (r["verdict"] != "killed" and m.key not in equal) or args.verbose:
            print(f"{m.file}:{m.line}: {m.old} -> {m.new} #{m.nth} [{r['verdict']}{' by ' + r['by'] if r['by'] else ''}] {m.code}")
    judged = [m for m in chosen if m.key not in equal]
    killed = sum(results[m.key]["verdict"] == "killed" for m in judged)
    share = 100.0 * killed / max(1, len(judged))
    if len(chosen) == len(tree.mutants):
        commit = git("rev-parse", "--short", "HEAD").strip() + (" with changes" if git("status", "--porcelain", "--", ROOM, *TESTS) else "")
        report(args.report, tree, results, {m.key for m in chosen if m.key in equal}, commit, args.quick)
    for c in complaints:
        print(c)
    print(f"{killed} of {len(judged)} mutants killed: {share:.1f} %")
    return 1 if share < GOAL or complaints else 0


if __name__ == "__main__":
    sys.exit(main())

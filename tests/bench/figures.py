"""Medians with spread, ratios in the same run, what they were measured on, and the report. Used by the programs of this folder."""
import json
import os
import platform
import statistics
import subprocess
import time


class Figure:
    """One thing measured, ours and perhaps the kernel's, in turn."""

    def __init__(self, name, unit, better, goal=None):
        self.name, self.unit, self.better, self.goal = name, unit, better, goal
        self.ours, self.kernel, self.notes = [], [], []

    def ratio(self):
        """How much of the kernel's performance this is: > 1 is better than the kernel, whatever way is better."""
        if not self.ours or not self.kernel:
            return None
        a, b = statistics.median(self.ours), statistics.median(self.kernel)
        return (a / b if self.better == "more" else b / a) if a and b else None

    def as_dict(self):
        return {"name": self.name, "unit": self.unit, "better": self.better, "goal_ratio": self.goal,
                "ours": summary(self.ours), "kernel": summary(self.kernel), "ratio": self.ratio(), "notes": self.notes}

    def row(self):
        return row(self.as_dict())


def row(f):
    """Cells of the report for Figure.as_dict()."""
    ratio, least = f["ratio"], f["goal_ratio"]
    goal = "" if least is None else f"≥ {least:g}: " + \
        ("not measured" if ratio is None else "met" if ratio >= least else "**missed**")
    return (f["name"], f["unit"], shown(f["ours"]), shown(f["kernel"]), "" if ratio is None else f"{ratio:.2f}", goal,
            "; ".join(f["notes"]))


def summary(values):
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "runs": values}


def number(v):
    return f"{v:.0f}" if abs(v) >= 1000 else f"{v:.1f}" if abs(v) >= 10 else f"{v:.3g}"


def shown(s):
    """median (min … max) of a summary"""
    return f"{number(s['median'])} ({number(s['min'])} … {number(s['max'])})" if s else ""


def table(rows):
    return "".join("| " + " | ".join(str(c) for c in row) + " |\n" for row in rows)


def machine(top):
    """What is measured, where and when. changed_files: tracked ones that differ from the commit; what the programs of
    this folder write themselves, docs/bench, is none of it."""
    def git(*args):
        done = subprocess.run(["git", "-C", top, *args], capture_output=True, text=True)
        return done.stdout.rstrip() if done.returncode == 0 else ""
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        cpu = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())
    changed = git("status", "--porcelain", "-uno", "--", ":/", ":(top,exclude)docs/bench").splitlines()
    return {"commit": git("rev-parse", "HEAD"), "changed_files": len(changed),
            "cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(), "load_before": os.getloadavg()[0],
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}


def commit(about):
    return about["commit"][:12] + (" with local changes" if about["changed_files"] else "")


def stamp(about):
    """Commit, time, machine, in words: the second sentence of every page."""
    return (f"Commit {commit(about)}, {about['date']}; {about['cpu']}, {about['cores']} cores for everything, "
            f"kernel {about['kernel']}, load average before: {about['load_before']:.2f}")


TEXT = """# Bench report

Written by `make bench`. Ours and the kernel's in turn in the same run: median of the runs (least … greatest). Ratio: ours
to the kernel's, so that more than 1 is better than the kernel whichever way the unit goes. "out" is data from the stack to
the kernel's TCP, "in" the other way. Over a path that loses and delays: [LOSSY.md](LOSSY.md).

"""
SPLIT = """
## Where the CPU time goes

CPU time per unit of work, by process; the kernel's column is both of its ends' processes together, where ours
adds the kernel's end as "peer". What the kernel does in interrupts belongs to no process and is in neither.

"""
PROCESSES = ("app", "engine", "nicio", "broker", "api", "peer", "kernel")


def measured(sections):
    """Which sections were measured on what: one line for each run."""
    runs = {}
    for name, s in sections.items():
        a = s["about"]
        runs.setdefault(f"{stamp(a)}. {a['rounds']} runs of {a['seconds']} s", []).append(name)
    if len(runs) == 1:
        return next(iter(runs)) + ".\n\n"
    return "".join(f"- {', '.join(names)}: {words}.\n" for words, names in runs.items()) + "\n"


def read(folder):
    """The sections of the report in a folder; none if it has no report."""
    try:
        with open(os.path.join(folder, "report.json"), encoding="utf-8") as f:
            return json.load(f)["sections"]
    except FileNotFoundError:
        return {}


def write(folder, sections):
    """sections: {name: {"about": machine() with rounds and seconds, "figures": [Figure.as_dict()], "cpu_split": [...],
    "failed": why it has no further figures, or None}}, in the report's order."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "report.json"), "w", encoding="utf-8") as f:
        json.dump({"sections": sections}, f, indent=1)
        f.write("\n")
    rows = [row(x) for s in sections.values() for x in s["figures"]]
    split = [x for s in sections.values() for x in s["cpu_split"]]
    failed = [f"- {name}: {s['failed']}\n" for name, s in sections.items() if s["failed"]]
    with open(os.path.join(folder, "REPORT.md"), "w", encoding="utf-8") as f:
        f.write(TEXT + measured(sections))
        if failed:
            f.write("Not measured to the end:\n\n" + "".join(failed) + "\n")
        f.write(table([("figure", "unit", "ours", "kernel", "ratio", "goal", "notes"), ("---",) * 7, *rows]))
        if split:
            f.write(SPLIT + table([("work", "unit", *PROCESSES), ("---",) * (2 + len(PROCESSES)),
                                   *[(s["work"], s["unit"], *[number(s[n]) if n in s else "" for n in PROCESSES])
                                     for s in split]]))

"""Medians with spread, ratios in the same run, and how they are written down. Used by bench.py."""
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
        ratio = self.ratio()
        goal = "" if self.goal is None else f"≥ {self.goal:g}: " + \
            ("not measured" if ratio is None else "met" if ratio >= self.goal else "**missed**")
        return (self.name, self.unit, shown(self.ours), shown(self.kernel), "" if ratio is None else f"{ratio:.2f}", goal,
                "; ".join(self.notes))


def summary(values):
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "runs": values}


def number(v):
    return f"{v:.0f}" if abs(v) >= 1000 else f"{v:.1f}" if abs(v) >= 10 else f"{v:.3g}"


def shown(values):
    """median (min … max)"""
    if not values:
        return ""
    return f"{number(statistics.median(values))} ({number(min(values))} … {number(max(values))})"


def table(rows):
    return "".join("| " + " | ".join(str(c) for c in row) + " |\n" for row in rows)


def machine(top):
    def git(*args):
        done = subprocess.run(["git", "-C", top, *args], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        cpu = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())
    return {"commit": git("rev-parse", "HEAD"), "changed_files": len(git("status", "--porcelain", "-uno").splitlines()),
            "cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(), "load_before": os.getloadavg()[0],
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}


def write(folder, about, figures, split):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "report.json"), "w", encoding="utf-8") as f:
        json.dump({"about": about, "figures": [x.as_dict() for x in figures], "cpu_split": split}, f, indent=1)
        f.write("\n")
    with open(os.path.join(folder, "REPORT.md"), "w", encoding="utf-8") as f:
        f.write(f"""# Bench report

Written by `make bench`. Commit {about['commit'][:12]}{' with local changes' if about['changed_files'] else ''}, \
{about['date']}; {about['cpu']}, {about['cores']} cores for everything, kernel {about['kernel']}; load average before:
{about['load_before']:.2f}. Median of {about['rounds']} runs of {about['seconds']} s (least … greatest), ours and the kernel's in
turn in the same run. Ratio: ours to the kernel's, so that more than 1 is better than the kernel whichever way the unit
goes. "out" is data from the stack to the kernel's TCP, "in" the other way. Over a path that loses and delays: [LOSSY.md](LOSSY.md).

""")
        f.write(table([("figure", "unit", "ours", "kernel", "ratio", "goal", "notes"), ("---",) * 7,
                       *[x.row() for x in figures]]))
        if split:
            f.write("\n## Where the CPU time goes\n\nCPU time per unit of work, by process; the kernel's column is both of its "
                    "ends' processes together, where ours\nadds the kernel's end as \"peer\". What the kernel does in interrupts belongs to no "
                    "process and is in neither.\n\n")
            names = ["app", "engine", "nicio", "broker", "api", "peer", "kernel"]
            f.write(table([("work", "unit", *names), ("---",) * (2 + len(names)),
                           *[(s["work"], s["unit"], *[number(s[n]) if n in s else "" for n in names]) for s in split]]))

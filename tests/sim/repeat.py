#!/usr/bin/env python3
"""Every simulation is repeatable: repeat.py PROGRAM[:ARGUMENT...]... runs each twice, the second time with another
environment and other addresses, and compares the digests of all packets and their times (support/sim_digest.h)."""
import os
import subprocess
import sys


def digest(program, extra):
    run = subprocess.run(program.split(":"), env=dict(os.environ, HS_SIM_DIGEST="1", **extra), stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, timeout=600, check=False)
    lines = [line for line in run.stdout.splitlines() if line.startswith("digest ")]
    if run.returncode != 0 or len(lines) != 1:
        sys.exit(f"{program}: exit status {run.returncode}, {len(lines)} digests\n{run.stdout[-2000:]}")
    return lines[0]


bad = 0
for one in sys.argv[1:]:
    first, again = digest(one, {}), digest(one, {"HS_OTHER": "x" * 5000, "MALLOC_PERTURB_": "165"})
    same = first == again and not first.endswith(" of 0 packets")
    bad += not same
    print(f"{os.path.basename(one)}: {first}{'' if same else ', then ' + again}")
sys.exit(1 if bad or len(sys.argv) == 1 else 0)

"""What all lints share: the list of files, stripping of C comments and strings, and the frame that runs a lint.

A lint is a function check(path, text) -> [(line, message)], path relative to the top of the tree, plus bad samples that
it must reject and good ones that it must pass. lint_main tries the samples first, so no lint can pass by being blind;
a lint that found no file to look at fails as well.
"""
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NOT_OURS = {".git", "build", "out", "__pycache__"}


def files(*endings):
    """Tracked files with one of the endings; without git, every file outside build trees."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, check=True, capture_output=True).stdout
        names = [n for n in listed.decode().split("\0") if n and os.path.isfile(os.path.join(TOP, n))]
    except (OSError, subprocess.CalledProcessError):
        names = walk()
    return sorted(n for n in names if n.endswith(endings))


def walk():
    names = []
    for where, folders, here in os.walk(TOP):
        folders[:] = [f for f in folders if f not in NOT_OURS and not f.startswith("build")]
        names += [os.path.relpath(os.path.join(where, n), TOP) for n in here]
    return names


def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8", errors="replace") as f:
        return f.read()


_C_TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def c_code_only(text):
    """C text with comments and the insides of strings blanked; line numbers stay."""
    def blank(match):
        token = match.group(0)
        if token[0] == '"':
            return '""'
        return re.sub(r"[^\n]", " ", token)
    return _C_TOKEN.sub(blank, text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def samples_hold(name, check, bad, good):
    ok = True
    for path, text in bad:
        if not check(path, text):
            print(f"{name}: self-test: accepts the bad sample {path}: {text!r}")
            ok = False
    for path, text in good:
        for line, message in check(path, text):
            print(f"{name}: self-test: rejects the good sample {path}:{line}: {message}")
            ok = False
    return ok


def lint_main(name, check, endings, bad, good, skip=()):
    """Runs the samples, then check over all files with these endings; exits."""
    if not samples_hold(name, check, bad, good):
        sys.exit(1)
    found = 0
    looked = [p for p in files(*endings) if p not in skip]
    for path in looked:
        for line, message in check(path, read(path)):
            print(f"{path}:{line}: {message}")
            found += 1
    print(f"{name}: {len(looked)} files, {found} findings; {len(bad)} bad samples rejected")
    sys.exit(1 if found or not looked else 0)

"""A program on the stack that does what the test says, step by step.

Puppet(lab): Python under the shim; p("statement or expression") runs it there and returns what it gives (an exception
comes back as its text, an object that is no literal as None). Nothing depends on time: a step is over when its answer has come.
"""
import os
import signal

from wait import wait_for

PROGRAM = """
import ast, errno, fcntl, os, select, signal, socket, struct, sys, threading, time
print("ready", flush=True)
for line in sys.stdin:
    try:
        code = line.strip()
        try:
            value = eval(code)
        except SyntaxError:
            exec(code)
            value = None
    except Exception as e:
        value = f"{type(e).__name__} {getattr(e, 'errno', None) and errno.errorcode[e.errno]}"
    try:
        ast.literal_eval(repr(value))
    except (ValueError, SyntaxError):
        value = None
    print(repr(value), flush=True)
"""


class Puppet:
    def __init__(self, lab, where="app", **kw):
        self.program = lab.spawn(where, ["/usr/bin/python3", "-u", "-c", PROGRAM], stdin=-1, **kw)
        self.said = 1
        self.popen = self.program.popen
        wait_for(lambda: "ready" in self.program.output(), 20, "a puppet")

    def tell(self, code):
        self.popen.stdin.write((code.replace("\n", ";") + "\n").encode())
        self.popen.stdin.flush()
        self.said += 1

    def answer(self, timeout=20):
        def lines():
            got = self.program.output().splitlines()
            return got if len(got) >= self.said else None
        return eval(wait_for(lines, timeout, f"an answer; so far {self.program.output()[-500:]}")[self.said - 1])

    def __call__(self, code, timeout=20):
        self.tell(code)
        return self.answer(timeout)

    def signal(self, number):
        """To the program itself, not to what it was started with."""
        os.kill(self.pid(), number)

    def pid(self):
        return int(self("os.getpid()"))

    def kill(self, pid=None):
        os.kill(pid or self.pid(), signal.SIGKILL)
        self.program.wait(20, check=False)

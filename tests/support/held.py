"""Connections to an echo server that are held open, and are asked now and then whether they live (echo.py idle)."""
from netns import ProgramFailed
from programs import ECHO, PYTHON
from wait import wait_for


class Held:
    """`count` open connections of one program. self.program: that program, to be looked at, stopped or killed."""

    def __init__(self, lab, where, address, port, count=1, **kw):
        """where: "app", "peer" or "kernel". kw: of lab.spawn."""
        self.program = lab.spawn(where, [PYTHON, ECHO, "idle", address, port, count], stdin=-1, **kw)
        self._until(lambda: "open" in self.program.output(), f"{count} connections")

    def ask(self):
        """A thousand bytes there and back on each of them, which they have to survive."""
        before = self._alive()
        self.program.popen.stdin.write(b"go\n")
        self.program.popen.stdin.flush()
        self._until(lambda: self._alive() > before, "an answer on each")

    def end(self):
        """Closes them all; the program has to be content."""
        self.program.popen.stdin.close()
        self.program.wait(60)

    def _alive(self):
        return self.program.output().count("alive")

    def _until(self, condition, what):
        wait_for(lambda: condition() or not self.program.alive(), 30, what)
        if not self.program.alive():
            raise ProgramFailed(f"{what}: the program has ended: {self.program.output()}")

"""Frame of the tests of proxies: two namespaces, and a program that asks ports, once or again when it is told to."""
import netcase
import programs
from stack import STACK4
from wait import wait_for

NAMESPACES = """broker:
  namespaces:
    - { id: blue }
    - { id: red }
"""
BLUE, RED = {"VCL_APP_NAMESPACE_ID": "blue"}, {"VCL_APP_NAMESPACE_ID": "red"}


class ProxyCase(netcase.NetCase):
    """ASK: Python that is called with an address, "once" or "held", and words that end in ports; it prints a line for
    each port, and with "held" more of them when a line comes in."""

    LAB = {"extra": NAMESPACES}
    ASK = None

    def ask(self, where, address, *words, env=None):
        argv = [programs.PYTHON, "-c", self.ASK, address, "once", *words]
        done = self.lab.peer(argv) if where == "peer" else self.lab.app(argv, env=env)
        return done.stdout.decode().splitlines()

    def held(self, words, answers, meanwhile, within=20):
        """The lines of one at the peer that has had so many of them, `within` s, when meanwhile() is called."""
        program = self.lab.spawn("peer", [programs.PYTHON, "-c", self.ASK, STACK4, "held", *words], stdin=-1)
        wait_for(lambda: program.output().count("\n") >= answers, within, "the first answers")
        meanwhile()
        program.popen.stdin.write(b"\n")
        program.popen.stdin.close()
        self.assertEqual(program.wait(120), 0, program.output())
        return program.output().splitlines()

"""Frame of the tests that disturb transfers: a file of SIZE random bytes behind an nginx on either side."""
import os

import netcase
import programs
from wait import hold, wait_for

BOTH = (("app", "peer"), ("peer", "app"))
ECHO = programs.ECHO


class TransferCase(netcase.NetCase):
    """self.sha: of the file; self.port: another one in each test. START = False: services without a supervisor."""

    SIZE = 100_000_000
    port = 0

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not cls.START:
            cls.lab.start_unsupervised()
        cls.sha = programs.random_file(os.path.join(cls.lab.world.data_dir, "file"), cls.SIZE)
        for where in ("app", "peer"):
            programs.nginx(cls.lab, where, cls.lab.world.data_dir)

    def setUp(self):
        super().setUp()
        type(self).port += 1

    def transfer(self, server, client, fraction):
        """One that is going on, so much of it having come."""
        return programs.begun(self.lab, server, client, "file", self.SIZE, fraction)

    def disturb(self, what):
        if what == "reset-rings":
            self.lab.hsctl("reset-rings")
        else:
            self.lab.wait_service(what, self.lab.kill_service(what))

    def come_and_go(self, disturbances):
        """Connect, talk, close, over and over, both ways at once, while these happen: no connection fails."""
        churns = []
        for server, client in BOTH:
            address = programs.address_of(server, client)
            self.lab.spawn(server, [programs.PYTHON, "-u", ECHO, "serve", address, self.port])
            programs.wait_listening(self.lab, server, self.port)
            churns.append(self.lab.spawn(client, [programs.PYTHON, ECHO, "churn", address, self.port, 0], stdin=-1))
        for churn in churns:  # a program that is not attached yet could not be, while the broker is away
            wait_for(lambda c=churn: "begun" in c.output() or not c.alive(), 30, "a first connection")
        for disturb in disturbances:
            self.assertTrue(hold(0.2, lambda: all(c.alive() for c in churns)), [c.output() for c in churns])
            disturb()
        for churn in churns:
            churn.popen.stdin.close()
            self.assertEqual(churn.wait(120), 0, churn.output())
            print(churn.output().splitlines()[-1])
            self.assertGreater(int(churn.output().splitlines()[-1].split()[0]), 10)

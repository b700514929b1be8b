"""Frame of the tests that fetch: a file `big` of SIZE random bytes in the folder that their servers serve."""
import os

import netcase
import programs


class FileCase(netcase.NetCase):
    """self.root: the folder; self.big: the file's path; self.sha: its sha256."""

    SIZE = 5_000_000

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.root = cls.lab.world.data_dir
        cls.big = os.path.join(cls.root, "big")
        cls.sha = programs.random_file(cls.big, cls.SIZE)

    def fetch(self, server, client, port):
        """The file by curl, compared; bytes per second."""
        return programs.fetch(self.lab, server, client, "big", self.SIZE, self.sha, port)

"""Base of the tests of datagrams: udp_tool.py where programs of both sides may run it."""
import json
import os
import shutil

import netcase
from wait import wait_for


class UdpCase(netcase.NetCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tool = os.path.join(cls.lab.world.app_dir, "udp_tool.py")
        shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "udp_tool.py"), cls.tool)
        os.chmod(cls.tool, 0o755)

    def start(self, where, *argv, says="up"):
        program = self.lab.spawn(where, ["python3", self.tool, *argv])
        wait_for(lambda: says in program.output(), 20, f"{argv} to say {says}")
        return program

    def tell(self, where, *argv, timeout=150):
        """What the tool says of itself at its end."""
        return json.loads(self.lab.run(where, ["python3", self.tool, *argv], timeout=timeout).stdout.decode().splitlines()[-1])

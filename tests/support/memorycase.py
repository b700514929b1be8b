"""Frame of the tests of fifos' memory: segments of a megabyte, N connections that bring SIZE bytes each to whoever reads
them late, what segments cost by then."""
import netcase
from memfds import READ, memfd_bytes
from puppet import Puppet

N, SIZE = 6, 2 << 20
MI = 1 << 20
LIMIT = 6 * MI
LIMITED = {"extra": "broker:\n  app-limit: { memory: 6M }\n"}  # LAB of a test at LIMIT
MEGABYTES = "vcl {\n  segment-size 1048576\n  add-segment-size 1048576\n}\n"


class MemoryCase(netcase.NetCase):
    def received(self):
        return memfd_bytes("hs-e", self.lab.pid_of("engine"))

    def written(self):
        return memfd_bytes("hs-a", self.lab.pid_of("broker"))

    def puppet(self, where="app", conf=None):
        return Puppet(self.lab, where, env={"VCL_CONFIG": self.lab.vcl_conf(conf)} if conf else {})

    def listener(self, where, port, room, conf=None):
        """A program that listens at s with so many bytes of receive buffer for each, and has read()."""
        program = self.puppet(where, conf)
        program("s = socket.socket()")
        program(f"s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, {room})")
        program(f"s.bind(('0.0.0.0', {port}))")
        program("s.listen(64)")
        program(f"exec({READ!r}, globals())")
        return program

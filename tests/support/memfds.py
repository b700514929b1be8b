"""What programs read from many connections at once, and what the segments that hold it cost."""
import os

# In a test's program: n bytes from each of the connections `cs`, all at once, because what one leaves unread may keep
# others waiting; compared with what connection number k was to bring.
READ = """def read(cs, n):
    got = {c: bytearray() for c in cs}
    left = set(cs)
    while left:
        for c in select.select(list(left), [], [])[0]:
            more = c.recv(65536)
            got[c] += more
            if not more or len(got[c]) >= n: left.discard(c)
    return [len(b) == n and b == bytes([b[0], 1, 2, 3]) * (n // 4) for b in got.values()]
"""


def memfd_bytes(name, pid):
    """Bytes that the memfds of that name cost which the process has open, each once."""
    seen = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            path = os.readlink(f"/proc/{pid}/fd/{fd}")
            st = os.stat(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        if path.startswith("/memfd:" + name + " "):
            seen[st.st_ino] = st.st_blocks * 512
    return sum(seen.values())

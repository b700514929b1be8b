"""What ab and wrk say, at their end, of the load that they were."""
import re


def _first(pattern, text):
    found = re.search(pattern, text)
    return int(found.group(1)) if found else 0


class Load:
    """requests: answered ones. broken: connections that the server broke, of which ab tells under several names. refused:
    what no server's close explains, each kind (connects, writes, timeouts). failed: requests that failed."""

    def __init__(self, text):
        self.requests = _first(r"Complete requests: +(\d+)", text) or _first(r"(\d+) requests in", text)
        self.broken = max((int(n) for n in re.findall(r"(?:Receive|Length|Exceptions|read):? (\d+)[,)]", text)), default=0)
        self.refused = [int(n) for n in re.findall(r"(?:Connect:|connect|write|timeout) (\d+)", text)]
        self.odd = _first(r"Non-2xx[^:]*: +(\d+)", text)
        self.failed = self.odd + max(_first(r"Failed requests: +(\d+)", text), self.broken + sum(self.refused))

    def failed_but_cut(self):
        """Those that failed for another reason than that the server broke the connection."""
        return self.odd + sum(self.refused)

"""Waiting for a condition under a deadline: the one place of the Python tests that pauses."""
import time


def wait_for(condition, timeout, what, step=0.005):
    """Calls condition() until it returns something true, which is returned; OSError and LookupError count as false.

    Raises TimeoutError with `what` and the last error after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    error = None
    while True:
        try:
            value = condition()
            if value:
                return value
        except (OSError, LookupError) as e:
            error = e
        if time.monotonic() >= deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what}" + (f" ({error})" if error else ""))
        time.sleep(step)
        step = min(step * 1.2, 0.1)


def hold(seconds, still):
    """Watches for `seconds` that still() stays true; returns whether it did."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not still():
            return False
        time.sleep(0.01)
    return still()

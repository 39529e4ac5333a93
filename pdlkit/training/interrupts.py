"""Interrupts that are not lost, whatever they strike.

Python prints and forgets a KeyboardInterrupt that strikes the callback of a weak
reference, and JAX has many of those while it traces: without this, one interrupt in
ten that came during the first second of a training was lost.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def remembered() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether an interrupt has come since."""
    before = signal.getsignal(signal.SIGINT)
    # Only the main thread is interrupted; and a shell's background job is not.
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield lambda: False
        return
    struck = []

    def remember(number, frame):
        struck.append(number)
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: bool(struck)
    finally:
        signal.signal(signal.SIGINT, before)

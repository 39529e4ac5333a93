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
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread is interrupted
        return
    struck = []
    before = signal.getsignal(signal.SIGINT)

    def remember(number, frame):
        struck.append(number)
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: bool(struck)
    finally:
        signal.signal(signal.SIGINT, before)

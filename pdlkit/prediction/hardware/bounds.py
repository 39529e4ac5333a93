"""Between which bounds a figure of a device lies."""

import math

from pdlkit.errors import lesson

_MAY_BE_NONE = ("message_share", "fragmentation_share", "reserved_bytes", "spread")
_MAY_BE_ENDLESS = ("quick_seconds",)  # of a protocol that there is not


def check_figure(device: str, figure: str, value) -> None:
    """Raise if a figure cannot be.

    Raises:
        ValueError: a rate or a size that is not above 0, a share above 1, a time below 0.
    """
    name, most = figure.rpartition(" ")[2], math.inf
    why, fix = "a device computes, remembers and sends something.", "a number above 0, such as 3e11"
    may_be_none = name in _MAY_BE_NONE
    if name.endswith("share"):
        most, why, fix = 1.0, "a share is a part of what the device can do.", "0.75, or up to 1"
    elif name.endswith("seconds"):
        may_be_none, why, fix = True, "it is a time, in seconds.", "5e-6 for five microseconds"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    possible = number and (value > 0 or (value == 0 and may_be_none)) and value <= most
    if not (possible and (value < math.inf or name in _MAY_BE_ENDLESS)):
        raise ValueError(lesson(f"{device} has {figure}={value!r}.", why=why, fix=f"{fix}."))

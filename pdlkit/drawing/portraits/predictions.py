"""A program elsewhere: how long it computes, and each message takes."""

from pdlkit.drawing.scales import write
from pdlkit.pictures import Axis, Bar, Panel, Picture
from pdlkit.prediction.predicting import Prediction


def prediction(found: Prediction) -> Picture:
    """Return a bar of the arithmetic, and one for each kind of message and axis."""
    messages: dict[str, float] = {}
    for message, seconds in found.messages:
        name = f"{message.kind} along {' x '.join(message.axes)}" if message.axes else message.kind
        messages[name] = messages.get(name, 0.0) + seconds
    bars = tuple(Bar(*each) for each in ({"compute": found.compute_seconds} | messages).items())
    limit = "arithmetic" if found.compute_seconds >= found.communication_seconds else "messages"
    devices = f"{found.cluster.devices} {found.cluster.hardware.name}"
    return Picture(
        f"A step on {devices} takes {write(found.fastest, 's')} to {write(found.seconds, 's')}, "
        f"most of it {limit}",
        (
            Panel(
                "one after the other",
                "modelled",
                bars,
                x=Axis("time", "s"),
                note=f"Products in {found.dtype}. The shorter time hides messages behind "
                "arithmetic, as far as can be.",
            ),
        ),
        alt=f"a program on {devices}: seconds of arithmetic and of each kind of message",
    )

"""What there is to see, and how a notebook gets to see it."""

import base64
import importlib
import os

from pdlkit.drawing.portraits import show

__all__ = ["bundle", "show"]


def bundle(record) -> tuple[dict[str, str], dict]:
    """Return what a notebook keeps of a record: a PNG and its alt text.

    `PDLKIT_RENDER=text` asks for the picture in plain text instead, for
    terminals and logs.
    """
    picture = show(record)
    if os.environ.get("PDLKIT_RENDER") == "text":
        return {"text/plain": picture.text}, {}
    # matplotlib is loaded for the first picture, not for `import pdlkit.drawing`
    png = importlib.import_module("pdlkit.drawing.figures").encode(picture, "png")
    data = {"image/png": base64.b64encode(png).decode(), "text/plain": repr(picture)}
    return data, {"image/png": {"alt": repr(picture)}}

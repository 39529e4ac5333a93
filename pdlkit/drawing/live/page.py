"""A picture as SVG in a core widget, for front ends that load no others."""

import ipywidgets

from pdlkit.drawing.live.views import written
from pdlkit.pictures import Picture


class Plot(ipywidgets.HTML):
    """The moving picture; nothing in it answers but the controls beside it."""

    def show(self, picture: Picture, status: str = "") -> None:
        """Show a picture and a sentence above it."""
        self.value = written(picture, status)

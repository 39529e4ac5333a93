"""Pictures as SVG: laid out first, for files and for what is live, then written."""

from pdlkit.drawing.svg.document import lower
from pdlkit.drawing.svg.layout import lay_out

__all__ = ["lay_out", "lower"]

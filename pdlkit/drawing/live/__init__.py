"""Pictures that move: the board, its panels and controls, and what shows them."""

from pdlkit.drawing.live.board import Board
from pdlkit.drawing.live.explorer import explore

__all__ = ["Board", "explore"]

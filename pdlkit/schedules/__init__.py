"""Pipeline schedules as tables: made, checked, and what they cost."""

from pdlkit.schedules.checking import check
from pdlkit.schedules.filling import Room, Times, weights_fill
from pdlkit.schedules.gpipe import gpipe
from pdlkit.schedules.one_f_one_b import interleaved, one_f_one_b
from pdlkit.schedules.placing import in_order
from pdlkit.schedules.table import Op, Table
from pdlkit.schedules.tasks import Task, needs
from pdlkit.schedules.zero_bubble import (
    zero_bubble_1p,
    zero_bubble_2p,
    zero_bubble_h1,
    zero_bubble_h2,
    zero_bubble_v,
)

__all__ = [
    "Op",
    "Room",
    "Table",
    "Task",
    "Times",
    "check",
    "gpipe",
    "in_order",
    "interleaved",
    "needs",
    "one_f_one_b",
    "weights_fill",
    "zero_bubble_1p",
    "zero_bubble_2p",
    "zero_bubble_h1",
    "zero_bubble_h2",
    "zero_bubble_v",
]

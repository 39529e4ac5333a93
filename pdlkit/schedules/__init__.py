"""Pipeline schedules as tables: made, checked, and what they cost."""

from pdlkit.schedules.checking import check
from pdlkit.schedules.gpipe import gpipe
from pdlkit.schedules.one_f_one_b import interleaved, one_f_one_b
from pdlkit.schedules.placing import in_order, weights_fill
from pdlkit.schedules.table import Op, Table, Task, needs
from pdlkit.schedules.zero_bubble import zero_bubble_h1, zero_bubble_h2, zero_bubble_v

__all__ = [
    "Op",
    "Table",
    "Task",
    "check",
    "gpipe",
    "in_order",
    "interleaved",
    "needs",
    "one_f_one_b",
    "weights_fill",
    "zero_bubble_h1",
    "zero_bubble_h2",
    "zero_bubble_v",
]

"""What is trained on: arrays, and the batches they are cut into."""

from pdlkit.data.addition import addition, spell
from pdlkit.data.batches import Batches, as_batches, batches
from pdlkit.data.noise import WithNoise
from pdlkit.data.sequences import sines
from pdlkit.data.sets import diabetes, digits

__all__ = [
    "Batches",
    "WithNoise",
    "addition",
    "as_batches",
    "batches",
    "diabetes",
    "digits",
    "sines",
    "spell",
]

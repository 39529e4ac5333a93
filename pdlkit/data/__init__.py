"""What is trained on: arrays, and the batches they are cut into."""

from pdlkit.data.batches import Batches, as_batches, batches
from pdlkit.data.sets import diabetes, digits

__all__ = ["Batches", "as_batches", "batches", "diabetes", "digits"]

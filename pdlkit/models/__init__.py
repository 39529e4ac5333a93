"""What is trained: models as pure functions, and the layer operations they call."""

from pdlkit.models.cnn import cnn, lenet
from pdlkit.models.layers import Layers
from pdlkit.models.mlp import mlp
from pdlkit.models.parts import classify, from_parts, regress, repeat

__all__ = ["Layers", "classify", "cnn", "from_parts", "lenet", "mlp", "regress", "repeat"]

"""What is trained: models as pure functions, and the layer operations they call."""

from pdlkit.models.autoencoder import autoencoder, variational_autoencoder
from pdlkit.models.cnn import cnn, lenet
from pdlkit.models.conv_autoencoder import conv_autoencoder
from pdlkit.models.gan import gan
from pdlkit.models.layers import Layers
from pdlkit.models.mlp import mlp
from pdlkit.models.moe import moe
from pdlkit.models.parts import classify, from_parts, regress, repeat
from pdlkit.models.precision import mixed_precision
from pdlkit.models.rnn import gru, rnn
from pdlkit.models.routing import Routing
from pdlkit.models.transformer import transformer
from pdlkit.models.wrapping import from_loss

__all__ = [
    "Layers",
    "Routing",
    "autoencoder",
    "classify",
    "cnn",
    "conv_autoencoder",
    "from_loss",
    "from_parts",
    "gan",
    "gru",
    "lenet",
    "mixed_precision",
    "mlp",
    "moe",
    "regress",
    "repeat",
    "rnn",
    "transformer",
    "variational_autoencoder",
]

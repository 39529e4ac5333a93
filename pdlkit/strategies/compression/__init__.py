"""Ways to send a gradient in fewer bytes; each file is one of them."""

from pdlkit.strategies.compression.codec import Codec, Message, Sent
from pdlkit.strategies.compression.eight_bit import EightBit
from pdlkit.strategies.compression.power_sgd import PowerSGD
from pdlkit.strategies.compression.random_k import RandomK
from pdlkit.strategies.compression.sign import Sign
from pdlkit.strategies.compression.top_k import TopK

__all__ = ["Codec", "EightBit", "Message", "PowerSGD", "RandomK", "Sent", "Sign", "TopK"]

"""Strategies that only the tests know."""

import dataclasses

from jax import lax

import pdlkit as pdl


@dataclasses.dataclass(frozen=True)
class Tensor(pdl.Spmd):
    """Cut each block's hidden axis: a stand-in that uses rules and layers."""

    axis: str = "model"

    def rules(self):
        return {"mlp": self.axis}

    def layers(self, mesh):
        return {"down": lambda x, w, b: lax.psum(x @ w, self.axis) + b}

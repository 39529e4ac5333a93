"""A transformer in figures: its parameters, and the operations that it asks for."""

import dataclasses
import operator
from typing import Any

from pdlkit.errors import is_count, lesson

RECOMPUTE = ("none", "selective", "full")


@dataclasses.dataclass(frozen=True)
class LLM:
    """A decoder: blocks of attention and an MLP, each after a norm, and a vocabulary.

    Args:
        layers: blocks.
        hidden: width of the residual stream.
        heads: of queries.
        vocabulary: entries of the table of tokens.
        sequence: tokens.
        ffn: width of the MLP; None: four times hidden.
        head: width of one head; None: hidden / heads.
        kv_heads: heads of keys and values; None: as many as heads.
        gated: three matrices in the MLP, as in SwiGLU.
        tied: one table for embedding and logits.
        experts: MLPs in each block.
        top_k: experts that a token goes through.
        biases: whether products have them; None: unless gated, as GPT and LLaMA have it.
        positions: whether they are learned; None: unless gated.
        parallel: attention and MLP side by side behind one norm, as in PaLM.
        name: what it is called.

    Raises:
        ValueError: a size that is no count, or heads or experts that cannot be.
    """

    layers: int
    hidden: int
    heads: int
    vocabulary: int
    sequence: int
    ffn: Any = None
    head: Any = None
    kv_heads: Any = None
    gated: bool = False
    tied: bool = False
    experts: int = 1
    top_k: int = 1
    biases: bool | None = None
    positions: bool | None = None
    parallel: bool = False
    name: str = ""

    def __post_init__(self):
        given = ("layers", "hidden", "heads", "vocabulary", "sequence", "experts", "top_k")
        self._check(given)
        usual = {
            "ffn": 4 * self.hidden,
            "head": max(1, self.hidden // self.heads),
            "kv_heads": self.heads,
            "biases": not self.gated,
            "positions": not self.gated,
        }
        for name, value in usual.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        self._check(("ffn", "head", "kv_heads"))
        if self.heads % self.kv_heads or self.top_k > self.experts:
            raise ValueError(
                lesson(
                    f"{self.heads} heads with {self.kv_heads} of keys, and {self.top_k} of "
                    f"{self.experts} experts, cannot be.",
                    why="as many heads share each one of keys, and a token goes to experts that "
                    "there are.",
                    fix="kv_heads that divide heads, and top_k from 1 to experts.",
                )
            )

    def _check(self, sizes: tuple[str, ...]) -> None:
        for name in sizes:
            count = getattr(self, name)
            if not is_count(count):
                raise ValueError(
                    lesson(
                        f"{name}={count!r} is no size of a transformer.",
                        why="layers, heads and widths are counted, and one is the fewest.",
                        fix=f"{name}=1, or another whole number.",
                    )
                )
            object.__setattr__(self, name, operator.index(count))  # NumPy's own would overflow

    def __repr__(self) -> str:
        return f"<{self.name or 'LLM'}: {self.parameters / 1e9:.4g}e9 parameters>"

    @property
    def attention_width(self) -> int:
        """The width of all heads of queries."""
        return self.heads * self.head

    @property
    def kv_width(self) -> int:
        """The width of all heads of keys, which is that of values."""
        return self.kv_heads * self.head

    @property
    def attention_parameters(self) -> int:
        """Of one layer, with the norm before it."""
        width = self.attention_width + 2 * self.kv_width
        biases = width + self.hidden if self.biases else 0
        return self.hidden * (width + self.attention_width) + biases + self._norm

    @property
    def expert_parameters(self) -> int:
        """Of one MLP."""
        biases = self.ffn + self.hidden if self.biases else 0
        return (3 if self.gated else 2) * self.hidden * self.ffn + biases

    @property
    def mlp_parameters(self) -> int:
        """Of all experts of one layer, what chooses, and the norm they may have."""
        router = self.hidden * self.experts if self.experts > 1 else 0
        return self.experts * self.expert_parameters + router + (not self.parallel) * self._norm

    @property
    def embedding_parameters(self) -> int:
        """Of the tables of tokens and positions, which stand before the first layer."""
        return (self.vocabulary + self.sequence * bool(self.positions)) * self.hidden

    @property
    def logit_parameters(self) -> int:
        """Of the table behind the last layer, where it is another than that of tokens."""
        return 0 if self.tied else self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All of them."""
        layer = self.attention_parameters + self.mlp_parameters
        return self.layers * layer + self.embedding_parameters + self.logit_parameters

    def model_flops(self, batch: int) -> float:
        """Return the operations of one step that the model asks for, none done twice.

        Two for each multiplication and addition of a product of matrices: scores in
        full, though a causal model needs half of them; three passes.

        Args:
            batch: sequences.

        Source: Narayanan et al. 2021, eq. 3, https://arxiv.org/abs/2104.04473, without
        its rematerialisation.
        """
        return 3.0 * batch * (self.layers * self._layer_flops() + self._logit_flops())

    def hardware_flops(self, batch: int, recompute: str = "none") -> float:
        """Return the operations of one step that are done, some of them twice.

        Of "selective" the paper counts all of the attention's products once more, of
        which two in six are done; so does this, to be comparable.

        Source: Korthikanti et al. 2022, section 5 and appendix A,
        https://arxiv.org/abs/2205.05198
        """
        layer = self._layer_flops()
        again = {"none": 0.0, "selective": 3 * self._score_flops(), "full": layer}[recompute]
        return batch * (self.layers * (3 * layer + again) + 3 * self._logit_flops())

    def _layer_flops(self) -> float:
        """Of one layer's forward pass of one sequence."""
        width = 2 * self.attention_width + 2 * self.kv_width
        mlp = (3 if self.gated else 2) * self.ffn * self.top_k
        return 2.0 * self.sequence * self.hidden * (width + mlp) + self._score_flops()

    def _score_flops(self) -> float:
        return 4.0 * self.sequence**2 * self.attention_width

    def _logit_flops(self) -> float:
        return 2.0 * self.sequence * self.hidden * self.vocabulary

    @property
    def _norm(self) -> int:
        return (2 if self.biases else 1) * self.hidden

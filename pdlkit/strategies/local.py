"""Local steps: devices train apart, and meet after every so many of them."""

import abc
import dataclasses

import optax
from jax import lax
from optax.tree_utils import tree_sub

from pdlkit.errors import lesson
from pdlkit.records import State
from pdlkit.strategies.copies import Copies
from pdlkit.strategies.strategy import update

_AS_PUBLISHED = optax.sgd(0.7, momentum=0.9, nesterov=True)


class Periodic(Copies):
    """Copies that meet after every so many steps."""

    every: int

    def __post_init__(self):
        if self.every < 1:
            raise ValueError(
                lesson(
                    f"{type(self).__name__} cannot meet every {self.every} steps.",
                    why="copies meet after so many steps, and at the most after each.",
                    fix="every=1, which meets after each step, or more.",
                )
            )

    @abc.abstractmethod
    def meet(self, state: State) -> State:
        """Return what one device goes on with after a step in which the copies meet."""

    def settle(self, state):
        return lax.cond(state.step % self.every == 0, self.meet, lambda state: state, state)


@dataclasses.dataclass(frozen=True)
class LocalSGD(Periodic):
    """Train apart; every so many steps, go on from the mean of the weights.

    With SGD, with or without momentum, `every=1` leaves the weights of one device. The
    mean of Adam's steps is not Adam's step along the mean, so with Adam it does not.

    Moves:  one all-reduce of the weights every `every` steps; in between, nothing.
    Keeps:  all parameters and optimizer state on every device, its own.
    Source: Stich 2018, "Local SGD", https://arxiv.org/abs/1805.09767
    """

    every: int = 8
    axis: str = "data"

    def meet(self, state):
        return state._replace(params=lax.pmean(state.params, self.axis))


@dataclasses.dataclass(frozen=True)
class DiLoCo(Periodic):
    """Train apart; every so many steps, an outer optimizer takes one step for all.

    What it takes for the gradient is by how much the copies have moved, on average,
    since they last met. An outer SGD at a learning rate of 1 makes it local SGD.

    Moves:  one all-reduce of the weights every `every` steps; in between, nothing.
    Keeps:  all parameters and optimizer state on every device, its own; the weights of
            the last meeting and the outer optimizer's state, which are everyone's.
    Source: Douillard et al. 2023, "DiLoCo", https://arxiv.org/abs/2311.08105
    """

    every: int = 8
    outer: optax.GradientTransformation = _AS_PUBLISHED
    axis: str = "data"

    def remember(self, params):
        return params, self.outer.init(params)

    def meet(self, state):
        start, outer = state.memory
        moved = lax.pmean(tree_sub(start, state.params), self.axis)
        common = update(self.outer, state._replace(params=start, optimizer=outer), moved)
        return state._replace(params=common.params, memory=(common.params, common.optimizer))

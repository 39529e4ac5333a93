"""Why strategies do not go together, in words."""

from pdlkit.errors import lesson


def no_part(hybrid: str, other) -> str:
    """Return what is wrong with a hybrid with a strategy that builds itself."""
    return lesson(
        f"{hybrid} cannot be.",
        why=f"{type(other).__name__} is no difference from one device that others are added to.",
        fix="parts such as DataParallel, ZeRO, TensorParallel, Pipeline, ExpertParallel.",
    )


def out_of_step(own, other) -> str:
    """Return what is wrong with rings beside a pipeline."""
    return lesson(
        f"{own.name} | {other.name} cannot be: not all devices run a layer at the same time.",
        why="messages to neighbours are matched among all devices, and would go astray.",
        fix="Ulysses for sequences, whose exchanges stay within a stage; or no pipeline.",
    )


def collision(one, other, what) -> str:
    """Return what is wrong with two parts that say the same thing."""
    return lesson(
        f"{one.name} | {other.name} cannot be: both say {what}.",
        why="in a hybrid each part changes something else.",
        fix="give one of them another axis, or leave one out.",
    )

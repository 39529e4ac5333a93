"""Sums spelled out, one token a character: a language small enough to be learned."""

import numpy as np

from pdlkit.errors import lesson

ALPHABET = "_0123456789+="  # the first is padding: as a target it is not counted


def addition(digits: int = 2, examples: int = 8192, *, seed: int = 0):
    """Return sums as text to go on with: [examples, 3 * digits + 2] twice.

    "12+34=640" is one of them: numbers have a fixed width, and the answer is
    written from its last digit to its first, in the order in which carries are
    found. Tokens leave the last character out, targets the first; a target before
    the answer is padding, for nobody can know what will be asked. No sum occurs
    twice, so what is held out is never taught.

    Args:
        digits: of both numbers; the answer has one more.
        examples: how many sums.
        seed: of the choice among all there are.

    Raises:
        ValueError: more sums than there are.

    Source: Lee et al. 2023, "Teaching Arithmetic to Small Transformers",
    https://arxiv.org/abs/2307.03381, for the order of the answer.
    """
    sums = 10 ** (2 * digits)
    if not 0 < examples <= sums:
        raise ValueError(
            lesson(
                f"{examples:,} sums of {digits}-digit numbers cannot be had.",
                why=f"there are {sums:,} of them, and none is given twice.",
                fix=f"examples={sums}, or digits={digits + 1}.",
            )
        )
    drawn = np.random.default_rng(seed).choice(sums, examples, replace=False)
    a, b = np.divmod(drawn, 10**digits)
    sign = lambda character: np.full((examples, 1), ALPHABET.index(character))  # noqa: E731
    answer = _digits(a + b, digits + 1)[:, ::-1]
    text = [_digits(a, digits), sign("+"), _digits(b, digits), sign("="), answer]
    tokens = np.concatenate(text, 1, dtype=np.int32)  # [examples, 3 * digits + 3]
    targets = tokens[:, 1:].copy()
    targets[:, : -digits - 1] = 0
    return tokens[:, :-1], targets


def spell(tokens) -> str:
    """[length] whole numbers -> the characters they stand for."""
    return "".join(ALPHABET[token] for token in tokens)


def _digits(numbers, width: int):
    """[examples] -> [examples, width] tokens, leading zeros written."""
    places = 10 ** np.arange(width)[::-1]
    return numbers[:, None] // places % 10 + ALPHABET.index("0")

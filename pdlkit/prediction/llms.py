"""Transformers that were trained, by the sizes that their papers print."""

from pdlkit.errors import lesson, nearest
from pdlkit.prediction.language_models import LLM

_GPT = {"vocabulary": 51200, "sequence": 2048, "tied": True}
_LLAMA = {"vocabulary": 32000, "gated": True}
_LLAMA3 = {"vocabulary": 128256, "sequence": 8192, "gated": True, "kv_heads": 8}
_MPT = {"vocabulary": 50432, "sequence": 2048, "tied": True, "biases": False, "positions": False}
_NEMOTRON = {
    "vocabulary": 256000, "sequence": 4096, "kv_heads": 8, "biases": False, "positions": False,
}  # fmt: skip
_MAXTEXT = {"vocabulary": 32768, "sequence": 2048, "head": 256, "biases": False, "positions": False}

# name -> layers, hidden, heads and the rest
_KNOWN = {
    # Brown et al. 2020, https://arxiv.org/abs/2005.14165, vocabulary as Megatron pads it
    "gpt3_175b": ((96, 12288, 96), _GPT),
    # Narayanan et al. 2021, Table 1, https://arxiv.org/abs/2104.04473
    "megatron_1_7b": ((24, 2304, 24), _GPT),
    "megatron_3_6b": ((30, 3072, 32), _GPT),
    "megatron_7_5b": ((36, 4096, 32), _GPT),
    "megatron_18b": ((40, 6144, 48), _GPT),
    "megatron_39b": ((48, 8192, 64), _GPT),
    "megatron_76b": ((60, 10240, 80), _GPT),
    "megatron_145b": ((80, 12288, 96), _GPT),
    "megatron_310b": ((96, 16384, 128), _GPT),
    "megatron_530b": ((105, 20480, 128), _GPT),
    "megatron_1t": ((128, 25600, 160), _GPT),
    # Korthikanti et al. 2022, Table 3, https://arxiv.org/abs/2205.05198
    "megatron_22b": ((48, 6144, 64), _GPT),
    # Smith et al. 2022, https://arxiv.org/abs/2201.11990
    "mt_nlg_530b": ((105, 20480, 128), _GPT),
    # Touvron et al. 2023, https://arxiv.org/abs/2302.13971
    "llama1_7b": ((32, 4096, 32), {**_LLAMA, "sequence": 2048, "ffn": 11008}),
    "llama1_13b": ((40, 5120, 40), {**_LLAMA, "sequence": 2048, "ffn": 13824}),
    "llama1_33b": ((60, 6656, 52), {**_LLAMA, "sequence": 2048, "ffn": 17920}),
    "llama1_65b": ((80, 8192, 64), {**_LLAMA, "sequence": 2048, "ffn": 22016}),
    # Touvron et al. 2023, https://arxiv.org/abs/2307.09288
    "llama2_7b": ((32, 4096, 32), {**_LLAMA, "sequence": 4096, "ffn": 11008}),
    "llama2_13b": ((40, 5120, 40), {**_LLAMA, "sequence": 4096, "ffn": 13824}),
    "llama2_70b": ((80, 8192, 64), {**_LLAMA, "sequence": 4096, "ffn": 28672, "kv_heads": 8}),
    # Grattafiori et al. 2024, Table 3, https://arxiv.org/abs/2407.21783
    "llama3_8b": ((32, 4096, 32), {**_LLAMA3, "ffn": 14336}),
    "llama3_70b": ((80, 8192, 64), {**_LLAMA3, "ffn": 28672}),
    "llama3_405b": ((126, 16384, 128), {**_LLAMA3, "ffn": 53248}),
    # Chowdhery et al. 2022, Table 1, https://arxiv.org/abs/2204.02311
    "palm_540b": (
        (118, 18432, 48),
        {"vocabulary": 256000, "sequence": 2048, "ffn": 73728, "head": 256, "kv_heads": 1,
         "gated": True, "tied": True, "parallel": True},
    ),
    # mosaicml/llm-foundry, scripts/train/benchmarking
    "mpt_125m": ((12, 768, 12), _MPT),
    "mpt_350m": ((24, 1024, 16), _MPT),
    "mpt_760m": ((24, 1536, 12), _MPT),
    "mpt_1b": ((24, 2048, 16), _MPT),
    "mpt_3b": ((32, 2560, 20), _MPT),
    "mpt_7b": ((32, 4096, 32), _MPT),
    "mpt_13b": ((40, 5120, 40), _MPT),
    "mpt_30b": ((48, 7168, 56), _MPT),
    "mpt_70b": ((80, 8192, 64), _MPT),
    # AI-Hypercomputer/maxtext, MaxText/configs/v4
    "maxtext_22b": ((48, 6144, 24), {**_MAXTEXT, "ffn": 24576}),
    "maxtext_52b": ((32, 12288, 32), {**_MAXTEXT, "ffn": 49152}),
    # Parmar et al. 2024, https://arxiv.org/abs/2402.16819 and https://arxiv.org/abs/2406.11704
    "nemotron4_15b": ((32, 6144, 48), {**_NEMOTRON, "ffn": 24576}),
    "nemotron4_340b": ((96, 18432, 96), {**_NEMOTRON, "ffn": 73728, "head": 192}),
    # Qi et al. 2023, Table 3, https://arxiv.org/abs/2401.10241
    "zb_1_5b": ((22, 2304, 24), {**_GPT, "sequence": 1024}),
    "zb_6_2b": ((30, 4096, 32), {**_GPT, "sequence": 1024}),
    "zb_14_6b": ((46, 5120, 40), {**_GPT, "sequence": 1024}),
    "zb_28_3b": ((62, 6144, 48), {**_GPT, "sequence": 1024}),
    # Jiang et al. 2024, Table 1, https://arxiv.org/abs/2401.04088
    "mixtral_8x7b": (
        (32, 4096, 32),
        {**_LLAMA, "sequence": 32768, "ffn": 14336, "kv_heads": 8, "experts": 8, "top_k": 2},
    ),
}  # fmt: skip


def known() -> tuple[str, ...]:
    """Return the names of all that are here, those of `maxtext` apart."""
    return tuple(_KNOWN)


def maxtext(scale: int) -> LLM:
    """Return the model of about so many 1e9 parameters, as MaxText scales them.

    Args:
        scale: a power of two.

    Raises:
        ValueError: another number.

    Source: AI-Hypercomputer/maxtext, src/maxtext/configs/base.yml and its use
    """
    power = int(scale).bit_length() - 1
    if scale != 2**power:
        raise ValueError(
            lesson(
                f"MaxText has no model of scale {scale}.",
                why="it doubles widths and layers by turns.",
                fix=f"{2**power} or {2 ** (power + 1)}.",
            )
        )
    third, rest = divmod(power, 3)
    widths = third + (rest > 0)
    return LLM(
        layers=16 * 2**third,
        hidden=2560 * 2 ** (third + (rest > 1)),
        heads=8 * 2**widths,
        ffn=8192 * 2**widths,
        **_MAXTEXT,
        name=f"maxtext_{scale}b",
    )


def __getattr__(name: str) -> LLM:
    if name.startswith("__"):
        raise AttributeError(name)
    if name not in _KNOWN:
        raise AttributeError(
            lesson(
                f"there is no model `{name}`.",
                why="those here are of published sizes.",
                fix=f"{nearest(name, _KNOWN)}, or pdl.LLM(layers=, hidden=, heads=, ...).",
            )
        )
    (layers, hidden, heads), rest = _KNOWN[name]
    return LLM(layers=layers, hidden=hidden, heads=heads, **rest, name=name)


def __dir__():
    return sorted([*_KNOWN, "known", "maxtext"])

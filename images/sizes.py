"""Sizes and layer counts for a study: quantiles of images in use.

The original study chose its sizes this way. Registries have compressed sizes and the tags of a
study uncompressed ones, so both are shown.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from images.errors import PlanError
from images.make.remote import open_remote
from images.registry.reference import parse_source

_PARALLEL = 8
_NUMBERS = re.compile(r"(\d+)\s*[,;\s]\s*(\d+)")


def read_sample(lines: Sequence[str]) -> list[tuple[int, int]]:
    """Return layers and compressed bytes of the images that lines name.

    A line is a reference, which is read from its registry, `layers,bytes`, empty, or a comment
    after #.
    """
    named = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    with ThreadPoolExecutor(_PARALLEL, "sizes") as pool:
        return list(pool.map(_measure, named))


def quantiles(
    sample: Sequence[tuple[int, int]], shares: Sequence[float], *, compressibility: float = 0.5
) -> list[dict[str, float]]:
    """Return quantiles of layer counts and sizes; each is the value of an image of the sample.

    A row has `quantile` (0 to 1, one of `shares`), `layers`, `compressed` bytes, and `size`: the
    content bytes of a study image of that compressibility that compress to them.

    Raises:
        PlanError: the sample is empty or a share is not from 0 to 1.
    """
    if not sample:
        raise PlanError("The sample has no images.", "list images, one per line")
    bad = [share for share in shares if not 0 <= share <= 1]
    if bad or not 0 <= compressibility < 1:
        problem = f"{bad[0] if bad else compressibility} is not between 0 and 1."
        raise PlanError(problem, "give a number from 0 to 1")
    counts, sizes = np.quantile(sample, shares, axis=0, method="inverted_cdf").T
    return [
        {
            "quantile": share,
            "layers": int(layers),
            "compressed": int(size),
            "size": round(int(size) / (1 - compressibility)),
        }
        for share, layers, size in zip(shares, counts, sizes, strict=True)
    ]


def _measure(line: str) -> tuple[int, int]:
    if numbers := _NUMBERS.fullmatch(line):
        return int(numbers[1]), int(numbers[2])
    with open_remote(parse_source(line)) as remote:
        layers = remote.image.layers
    return len(layers), sum(layer.size for layer in layers)

"""From stored bytes to inputs: division by 255, and standardisation.

Statistics are sums of whole numbers and therefore exact: they do not depend on the order of summation, the
library or the machine, and a constant pixel has a variance of exactly 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainers.options import Option

Images = NDArray[np.uint8]
Inputs = NDArray[np.float32]
Sums = NDArray[np.int64]

LARGEST_BYTE = 255
CHUNK = 1000
"""Examples converted at a time: bounds the float64 copies."""


def normalize_option(default: str) -> Option:
    """Declare `normalize`: "scale" divides by 255, "standardize" also centres and standardises."""
    return Option(default=default, allowed=("scale", "standardize"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSums:
    """Sums over a training set, pixel by pixel or over all pixels.

    Args:
        count: Number of values summed.
        values: Sum of the values, each in 0 to 255; the shape of one example, or no axis.
        squares: Sum of the squared values.
    """

    count: int
    values: Sums
    squares: Sums

    @classmethod
    def of(cls, images: Images) -> "PixelSums":
        """Sum over the first axis of `images`."""
        values = np.zeros(images.shape[1:], np.int64)
        squares = np.zeros(images.shape[1:], np.int64)
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK].astype(np.int64)
            values += chunk.sum(0)
            squares += (chunk * chunk).sum(0)
        return cls(count=len(images), values=values, squares=squares)

    def pooled(self) -> "PixelSums":
        """Return the sums over all pixels."""
        return PixelSums(
            count=self.count * self.values.size,
            values=np.array(self.values.sum()),
            squares=np.array(self.squares.sum()),
        )

    def spread(self) -> NDArray[np.float64]:
        """Return sqrt(n Q - S^2), n times the standard deviation; exactly 0 where the values are constant."""
        # Python's integers: over all pixels of a data set the products do not fit in 64 bits.
        values, squares = self.values.astype(object), self.squares.astype(object)
        return np.sqrt(np.asarray(self.count * squares - values * values, np.float64))


def normalized(images: Images, how: str, sums: PixelSums) -> Inputs:
    r"""Return the inputs (n, ...) in float32.

    "scale" is x / 255. "standardize" is (x / 255 - mean) / std with the mean and standard deviation (of the
    population) of the set that `sums` describes, computed as (n x - S) / sqrt(n Q - S^2) with S and Q the
    sums of x and x^2; a pixel that is constant there becomes 0.
    """
    inputs = np.empty(images.shape, np.float32)
    spread = sums.spread()
    varies = spread > 0
    divisor = np.where(varies, spread, 1.0)
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        part = inputs[start : start + CHUNK]
        if how == "scale":
            np.divide(chunk, np.float32(LARGEST_BYTE), out=part)
        else:
            centred = (sums.count * chunk.astype(np.int64) - sums.values).astype(np.float64)
            part[...] = np.where(varies, centred / divisor, 0.0)
    return inputs

"""The Transformer of SAY25 for sentences: two layers, hidden dimension 64, eight heads.

Attention is written out as products and a softmax. The fused kernels of PyTorch have no second derivatives,
and neither `vmap` nor forward mode go through them.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.models.fitting import sequence
from trainers.options import OptionValue

PADDING = 0
"""The token that stands for no word; it is attended to by none and does not count in the mean."""

EMBEDDING_SCALE = 0.02


class _Layer(nn.Module):
    """Attention and a feed-forward network, each normalised before and added to its input (pre-norm)."""

    def __init__(self, hidden: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.attention_in = nn.Linear(hidden, 3 * hidden)
        self.attention_out = nn.Linear(hidden, hidden)
        self.wide = nn.Linear(hidden, feedforward)
        self.narrow = nn.Linear(feedforward, hidden)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        values = values + self.attention_out(self._attend(self.attention_in(self.norm1(values)), mask))
        return values + self.narrow(F.gelu(self.wide(self.norm2(values))))

    def _attend(self, projected: Tensor, mask: Tensor) -> Tensor:
        """Return the heads' outputs, (examples, length, hidden)."""
        examples, length, size = projected.shape
        shape = (examples, length, 3, self.heads, size // (3 * self.heads))
        query, key, value = projected.reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-1, -2) / shape[-1] ** 0.5
        weights = scores.masked_fill(~mask[:, None, None, :], -1e9).softmax(-1)
        return (weights @ value).transpose(1, 2).reshape(examples, length, size // 3)


class Transformer(nn.Module):
    """Token and position embeddings, layers, the mean over words, and a linear layer."""

    def __init__(
        self,
        length: int,
        vocabulary: int,
        hidden: int,
        heads: int,
        num_layers: int,
        feedforward: int,
        outputs: int,
    ) -> None:
        super().__init__()
        self.tokens = nn.Parameter(EMBEDDING_SCALE * torch.randn(vocabulary, hidden))
        self.positions = nn.Parameter(EMBEDDING_SCALE * torch.randn(length, hidden))
        self.layers = nn.ModuleList(_Layer(hidden, heads, feedforward) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map token numbers (examples, length), given as floats like all inputs, to outputs."""
        numbers = inputs.long()
        # A sentence without a word attends to its first place, so that no mean is over nothing.
        first = torch.arange(numbers.shape[1], device=numbers.device) == 0
        mask = (numbers != PADDING) | first
        values = self.tokens[numbers] + self.positions
        for layer in self.layers:
            values = layer(values, mask)
        counted = mask.unsqueeze(-1).to(values.dtype)
        return self.head((self.norm(values) * counted).sum(1) / counted.sum(1))


def transformer(
    input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]
) -> nn.Module:
    """Build a Transformer for sequences of token numbers.

    Args:
        input_shape: (length,).
        num_outputs: Number of classes.
        options: `vocabulary` (at least the data set's), `hidden`, `heads`, `num_layers`, `feedforward`.

    Raises:
        ConfigError: The inputs are no sequences, or the heads do not divide the hidden dimension.
    """
    sequence(input_shape, num_outputs, options)
    numbers = {name: cast(int, value) for name, value in options.items()}
    return Transformer(
        length=input_shape[0],
        vocabulary=numbers["vocabulary"],
        hidden=numbers["hidden"],
        heads=numbers["heads"],
        num_layers=numbers["num_layers"],
        feedforward=numbers["feedforward"],
        outputs=num_outputs,
    )

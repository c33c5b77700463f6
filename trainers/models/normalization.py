"""Batch normalisation as this project means it: a function of parameters and examples, without memory.

Running averages would be state that is no parameter, would differ between lanes and would have no place in
a Hessian. So the statistics are always those of the examples of the pass, in training, evaluation and
Hessian products alike, and a pass is cut into pieces of at most `NORMALIZED_EXAMPLES` consecutive examples
(ghost batches; Hoffer et al. 2017), each normalised by itself. A minibatch of up to that size is normalised
as a whole, as usual; the full training loss, its gradient and its Hessian are means over the pieces.
"""

import torch
from torch import Tensor, nn

from trainers.data.entry import DatasetEntry
from trainers.errors import ConfigError

NORMALIZED_EXAMPLES = 100


class BatchNormalization(nn.Module):
    """y = weight (x - mean) / sqrt(var + eps) + bias over examples and pixels of each channel.

    Written out, because it must have derivatives of every order and mode under `torch.func`.

    Args:
        num_channels: Size of the second axis.
        eps: As in `torch.nn.BatchNorm2d`.
    """

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = eps

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise inputs of shape (examples, channels, ...)."""
        axes = (0, *range(2, inputs.dim()))
        shape = (1, -1, *(1,) * (inputs.dim() - 2))
        centred = inputs - inputs.mean(axes, keepdim=True)
        variance = centred.square().mean(axes, keepdim=True)
        scale = self.weight.view(shape) * (variance + self.eps).rsqrt()
        return centred * scale + self.bias.view(shape)


def normalizes_over_examples(module: nn.Module) -> bool:
    """Whether a module's output for one example depends on the others of the pass."""
    return any(isinstance(part, BatchNormalization) for part in module.modules())


def require_mixed(module: nn.Module, data: DatasetEntry) -> None:
    """Raise `ConfigError` where a module would normalise pieces of one class each, as of a sorted file."""
    # Fewer are normalised all together, in whatever order they stand.
    if data.num_in_runs > NORMALIZED_EXAMPLES and normalizes_over_examples(module):
        raise ConfigError(
            f"the model normalises over examples, {NORMALIZED_EXAMPLES} at a time as they stand in the "
            "data's file, and there those of one class stand together; shuffle them before they are saved."
        )


def refuse_running_averages(module: nn.Module) -> None:
    """Raise `ConfigError` for a module with batch normalisation that keeps running averages."""
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):  # pyright: ignore[reportPrivateUsage]
            raise ConfigError(
                f"{name or 'the model'} is {type(part).__name__}, which keeps running averages; use "
                "trainers.models.normalization.BatchNormalization."
            )

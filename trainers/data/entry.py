"""What a data set is to the trainer, and what planning knows about one without loading it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.options import Option, OptionValue

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A loaded data set, preprocessed.

    Args:
        train_inputs: (n, *input_shape) float32.
        train_labels: (n,) int64, or (n, outputs) float32 for regression.
        test_inputs: (m, *input_shape) float32.
        test_labels: Like `train_labels`.
        num_outputs: Number of classes, or of regression outputs.
    """

    train_inputs: "Tensor"
    train_labels: "Tensor"
    test_inputs: "Tensor"
    test_labels: "Tensor"
    num_outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetEntry:
    """A row of `DATASETS`.

    Args:
        load: `load(folder, options)` returns the data; `folder` is where downloads are kept. It verifies what
            it reads against `digest` and raises `DataError`.
        digest: Names the exact bytes of the source; part of every cell's address.
        num_train: Training examples.
        num_test: Test examples.
        input_shape: Shape of one example.
        num_outputs: Number of classes.
        vocabulary: Where the inputs are token numbers, how many there are.
        classifies: Whether labels are classes, or shares of them, as cross-entropy wants; `sizes` may say.
        num_in_runs: Examples of the larger part, of training and test, in which those of one class stand
            beside each other, as in a sorted file; 0 where they do in none. `sizes` may say.
        options: Declared options (normalisation, labels).
        sizes: From the options, those of `num_train`, `num_test`, `input_shape`, `num_outputs`, `vocabulary`,
            `digest` and `load` that they change.
    """

    load: Callable[[Path, Mapping[str, OptionValue]], Dataset]
    digest: str
    num_train: int
    num_test: int
    input_shape: tuple[int, ...]
    num_outputs: int
    vocabulary: int | None = None
    classifies: bool = True
    num_in_runs: int = 0
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    sizes: Callable[[Mapping[str, OptionValue]], Mapping[str, Any]] | None = None

    def under(self, options: Mapping[str, OptionValue]) -> "DatasetEntry":
        """Return the entry with the sizes that these options give the data set."""
        return self if self.sizes is None else replace(self, **self.sizes(options))

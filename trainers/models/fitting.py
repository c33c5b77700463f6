"""What data a model takes, as planning has to know: before anything is loaded, and without torch.

Each rule is named by entries of `MODELS`, and asked again by what builds the module, which may be given other
data. A module of the user's own is not known here: it raises when it is built.
"""

from collections.abc import Callable, Mapping
from typing import cast

from trainers.errors import ConfigError
from trainers.options import OptionValue

Fit = Callable[[tuple[int, ...], int, Mapping[str, OptionValue]], None]
"""`fit(input_shape, num_outputs, options)` raises `ConfigError` where a model so built takes no such data."""

SMALLEST_CONVNET_IMAGE = 10


def anything(input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]) -> None:
    """Numbers in any shape."""


def image(input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]) -> None:
    """Images of any size."""
    if len(input_shape) != 3:
        raise ConfigError(f"expected images (channels, height, width), found inputs of shape {input_shape}.")


def pooled_image(input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]) -> None:
    """Images large enough for as many poolings as `num_convolutions`."""
    image(input_shape, num_outputs, options)
    _, height, width = input_shape
    most = min(height, width).bit_length() - 1
    if (found := cast(int, options["num_convolutions"])) > most:
        raise ConfigError(
            f"model.num_convolutions: found {found}; each is followed by pooling that halves the image, and "
            f"one of {height} x {width} pixels allows at most {most}."
        )


def convnet_image(input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]) -> None:
    """Images of which two unpadded convolutions and two poolings leave something."""
    image(input_shape, num_outputs, options)
    _, height, width = input_shape
    if min(height, width) < SMALLEST_CONVNET_IMAGE:
        least = f"{SMALLEST_CONVNET_IMAGE} x {SMALLEST_CONVNET_IMAGE}"
        raise ConfigError(f"expected images of at least {least} pixels, found {height} x {width}.")


def sequence(input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]) -> None:
    """Sequences, and heads that divide the hidden dimension."""
    if len(input_shape) != 1:
        raise ConfigError(f"expected sequences of token numbers, found inputs of shape {input_shape}.")
    heads, hidden = cast(int, options["heads"]), cast(int, options["hidden"])
    if hidden % heads:
        raise ConfigError(f"model.heads: found {heads}; must divide the hidden dimension, {hidden}.")


def sign(input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]) -> None:
    """One number in and one out."""
    if input_shape != (1,) or num_outputs != 1:
        raise ConfigError(
            f"expected one number in and one out, found inputs of shape {input_shape} and {num_outputs} "
            "outputs."
        )


def tokens(vocabulary: int | None, options: Mapping[str, OptionValue]) -> None:
    """Token numbers, of which the model's `vocabulary` has at least the data set's.

    Raises:
        ConfigError: The data are no token numbers (`None`), or there are more of them.
    """
    if vocabulary is None:
        raise ConfigError("expected sequences of token numbers, found other numbers.")
    if (found := cast(int, options["vocabulary"])) < vocabulary:
        raise ConfigError(
            f"model.vocabulary: found {found}; must be at least the data set's, {vocabulary} token numbers."
        )

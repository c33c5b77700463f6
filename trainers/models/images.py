"""Convolutional networks of the papers beyond the plain CNN: VGG11, ResNet8, ResNet-18 and Keras's."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from trainers.models.dropout import Dropout
from trainers.models.fitting import convnet_image, image
from trainers.models.normalization import BatchNormalization
from trainers.models.sequential import ACTIVATION_LAYERS
from trainers.options import OptionValue

VGG11_PLAN: tuple[int | None, ...] = (64, None, 128, None, 256, 256, None, 512, 512, None, 512, 512, None)
"""Channels of each convolution; `None` is a pooling (Simonyan & Zisserman 2015, configuration A)."""

RESNET8_CHANNELS = (16, 32, 64)


def vgg11(
    input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]
) -> nn.Sequential:
    """Build VGG11 for small images: eight convolutions and one linear layer, no normalisation, no dropout.

    The three wide linear layers of the original are for images of 224 pixels. A pooling that the image is
    too small for is left out.

    Args:
        input_shape: (channels, height, width).
        num_outputs: Width of the linear layer.
        options: `width`, by which all numbers of channels are multiplied, in 64ths; `activation`.
    """
    image(input_shape, num_outputs, options)
    num_channels, height, width = input_shape
    activation = ACTIVATION_LAYERS[str(options["activation"])]
    layers: list[nn.Module] = []
    for planned in VGG11_PLAN:
        if planned is not None:
            channels = planned * cast(int, options["width"]) // 64
            layers += [nn.Conv2d(num_channels, channels, 3, padding=1), activation()]
            num_channels = channels
        elif min(height, width) >= 2:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(num_channels * height * width, num_outputs))


class _Block(nn.Module):
    """Two 3 x 3 convolutions, each normalised, with the identity or a 1 x 1 convolution around them."""

    def __init__(self, num_inputs: int, num_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_inputs, num_channels, 3, stride, padding=1, bias=False)
        self.norm1 = BatchNormalization(num_channels)
        self.conv2 = nn.Conv2d(num_channels, num_channels, 3, padding=1, bias=False)
        self.norm2 = BatchNormalization(num_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or num_inputs != num_channels:
            convolution = nn.Conv2d(num_inputs, num_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, BatchNormalization(num_channels))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.relu(self.norm1(self.conv1(inputs)))
        return torch.relu(self.norm2(self.conv2(hidden)) + self.shortcut(inputs))


class ResNet8(nn.Module):
    """The residual network of He et al. (2016, section 4.2) with n = 1: one block for each of three sizes."""

    def __init__(self, num_inputs: int, num_outputs: int, base: int) -> None:
        super().__init__()
        sizes = [base * channels // RESNET8_CHANNELS[0] for channels in RESNET8_CHANNELS]
        self.conv = nn.Conv2d(num_inputs, sizes[0], 3, padding=1, bias=False)
        self.norm = BatchNormalization(sizes[0])
        self.blocks = nn.Sequential(
            _Block(sizes[0], sizes[0], 1), _Block(sizes[0], sizes[1], 2), _Block(sizes[1], sizes[2], 2)
        )
        self.head = nn.Linear(sizes[2], num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs (examples, num_outputs)."""
        hidden = self.blocks(torch.relu(self.norm(self.conv(inputs))))
        return self.head(hidden.mean((2, 3)))


def resnet8(input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]) -> nn.Module:
    """Build ResNet8 with `channels` (16) in its first stage, see `ResNet8`."""
    image(input_shape, num_outputs, options)
    return ResNet8(input_shape[0], num_outputs, cast(int, options["channels"]))


def resnet18(input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]) -> nn.Module:
    """Build torchvision's ResNet-18, its batch normalisation replaced by `BatchNormalization`.

    With `channels` other than 64 its four stages are made by the same factor narrower or wider.
    """
    from torchvision.models.resnet import BasicBlock, ResNet

    image(input_shape, num_outputs, options)
    num_channels, base = input_shape[0], cast(int, options["channels"])

    class Scaled(ResNet):
        def _make_layer(self, block: Any, planes: int, *args: Any, **kwargs: Any) -> nn.Sequential:
            return super()._make_layer(block, planes * base // 64, *args, **kwargs)

    model = Scaled(BasicBlock, [2, 2, 2, 2], num_classes=num_outputs, norm_layer=BatchNormalization)
    if num_channels != 3:
        model.conv1 = nn.Conv2d(num_channels, 64, 7, stride=2, padding=3, bias=False)
    if base != 64:
        model.fc = nn.Linear(8 * base, num_outputs)
    for part in model.modules():
        if isinstance(part, nn.ReLU):
            # In place, it would overwrite what the transforms of torch.func still need.
            part.inplace = False
    return model


def convnet(
    input_shape: tuple[int, ...], num_outputs: int, options: Mapping[str, OptionValue]
) -> nn.Sequential:
    """Build Keras's small network for CIFAR-10 (Chollet et al. 2015; GRD18 fig. 1c).

    Two pairs of 3 x 3 convolutions (32 and 64 channels; the second of each pair unpadded), each pair
    followed by 2 x 2 pooling, then a dense layer of 512 and the output, with ReLU in between.

    Args:
        input_shape: (channels, height, width), at least 10 pixels high and wide.
        num_outputs: Number of classes.
        options: `channels` of the first pair; `batch_norm` after every convolution; `extra_dense`, a
            second dense layer of 512; `dropout`, Keras's: a quarter after each pooling, half after each
            dense layer.
    """
    convnet_image(input_shape, num_outputs, options)
    num_channels, height, width = input_shape
    base, batch_norm = cast(int, options["channels"]), bool(options["batch_norm"])
    layers: list[nn.Module] = []
    for channels, padding in ((base, 1), (base, 0), (2 * base, 1), (2 * base, 0)):
        layers.append(nn.Conv2d(num_channels, channels, 3, padding=padding))
        layers += [BatchNormalization(channels)] if batch_norm else []
        layers.append(nn.ReLU())
        num_channels = channels
        if padding == 0:
            layers.append(nn.MaxPool2d(2))
            layers += [Dropout(0.25)] if options["dropout"] else []
            height, width = (height - 2) // 2, (width - 2) // 2
    dense = 16 * base
    layers.append(nn.Flatten())
    num_inputs = num_channels * height * width
    for _ in range(2 if options["extra_dense"] else 1):
        layers += [nn.Linear(num_inputs, dense), nn.ReLU()]
        layers += [Dropout(0.5)] if options["dropout"] else []
        num_inputs = dense
    return nn.Sequential(*layers, nn.Linear(dense, num_outputs))

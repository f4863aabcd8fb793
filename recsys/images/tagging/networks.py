"""The network architectures of taggers; layers have the names used in the published weights.

Each network maps (n, 3, height, width) float32 to logits, and to the embedding that is the input of its last layer.
Its `stages`, called one after another, give the embedding: first the stem, then the blocks, then the layers between the
last block and the embedding; fine-tuning counts the blocks from 0.

    architecture         stem                      blocks
    efficientnet_lite*   convolution               16 inverted residuals of lite0, 21 of lite1 and lite2
    resnet18, resnet50   convolution, pooling      8 or 16 residual blocks
    squeezenet           convolution, pooling      8 fire modules, with the pooling after them
    vgg16                2 convolutions, pooling   4 groups of 2 or 3 convolutions, with the pooling after them
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf
from torch.nn.utils.fusion import fuse_conv_bn_eval

from recsys.errors import ConfigurationError, ModelError

Outputs = tuple[Tensor, Tensor]


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1 with folded batch norms; Iandola et al. 2016.

    Unlike the paper, activations are leaky ReLUs of slope 0.55, with which the scene network was trained.
    """

    SLOPE = 0.55

    def __init__(self, n_labels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        widths = [16, 16, 32, 32, 48, 48, 64, 64]
        inputs = 64
        for number, squeezed in enumerate(widths, start=2):
            self.add_module(f"fire{number}", _Fire(inputs, squeezed, 4 * squeezed, self.SLOPE))
            inputs = 8 * squeezed
        self.conv10 = nn.Conv2d(inputs, n_labels, 1)

    def forward(self, images: Tensor) -> Outputs:
        """Return logits and the 512 features before them."""
        *stages, average = self.stages()
        x = nn.Sequential(*stages)(images)
        logits = nnf.leaky_relu(self.conv10(x), self.SLOPE)
        return average(logits), average(x)

    def stages(self) -> list[nn.Module]:
        """Return the stem, the blocks, and the layers that give the embedding."""
        pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        blocks = [self.get_submodule(f"fire{number}") for number in range(2, 10)]
        pooled = [nn.Sequential(block, pool) if number in (3, 5) else block for number, block in enumerate(blocks, 2)]
        return [nn.Sequential(self.conv1, nn.LeakyReLU(self.SLOPE), pool), *pooled, _Average()]


class _Fire(nn.Module):
    def __init__(self, inputs: int, squeezed: int, expanded: int, slope: float):
        super().__init__()
        self.slope = slope
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = nnf.leaky_relu(self.squeeze(x), self.slope)
        return nnf.leaky_relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1), self.slope)


class ResNet(nn.Module):
    """Residual network, He et al. 2015, with the stride in the 3 x 3 convolution of a bottleneck."""

    def __init__(self, block: "type[_Basic] | type[_Bottleneck]", depths: tuple[int, int, int, int], n_labels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for number, depth in enumerate(depths, start=1):
            width = 64 * 2 ** (number - 1)
            blocks = []
            for position in range(depth):
                blocks.append(block(inputs, width, stride=2 if number > 1 and position == 0 else 1))
                inputs = width * block.EXPANSION
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, n_labels)

    def forward(self, images: Tensor) -> Outputs:
        """Return logits and the averaged features of the last block."""
        embedding = nn.Sequential(*self.stages())(images)
        return self.fc(embedding), embedding

    def stages(self) -> list[nn.Module]:
        """Return the stem, the blocks, and the layers that give the embedding."""
        stem = nn.Sequential(self.conv1, self.bn1, nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))
        return [stem, *(block for number in range(1, 5) for block in self.get_submodule(f"layer{number}")), _Average()]  # type: ignore[operator]


class _Basic(nn.Module):
    EXPANSION = 1

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = nnf.relu(self.bn1(self.conv1(x)))
        return nnf.relu(self.bn2(self.conv2(y)) + (x if self.downsample is None else self.downsample(x)))


class _Bottleneck(nn.Module):
    EXPANSION = 4

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = nnf.relu(self.bn1(self.conv1(x)))
        y = nnf.relu(self.bn2(self.conv2(y)))
        return nnf.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))


class Vgg16(nn.Module):
    """VGG with 16 layers, Simonyan and Zisserman 2014."""

    WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0 is a max pooling layer

    def __init__(self, n_labels: int):
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width in self.WIDTHS:
            if width:
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
                inputs = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, n_labels),
        )

    def forward(self, images: Tensor) -> Outputs:
        """Return logits and the 4096 features of the last hidden layer."""
        embedding = nn.Sequential(*self.stages())(images)
        return self.classifier[-1](embedding), embedding

    def stages(self) -> list[nn.Module]:
        """Return the stem, the blocks, and the layers that give the embedding."""
        ends = [number + 1 for number, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        groups = [self.features[start:end] for start, end in pairwise([0, *ends])]
        return [*groups, nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten(), *self.classifier[:-1])]


class _Average(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite 0, 1 or 2 of package efficientnet-lite-pytorch; Tan and Le 2019."""

    def __init__(self, size: Literal[0, 1, 2], n_labels: int):
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name(f"efficientnet-lite{size}", num_classes=n_labels)
        for layer in self.network.modules():
            if isinstance(layer, nn.ReLU6):
                layer.inplace = True  # 10 % faster on a CPU

    def forward(self, images: Tensor) -> Outputs:
        """Return logits and the 1280 features before them."""
        embedding = nn.Sequential(*self.stages())(images)
        return self.network._fc(embedding), embedding

    def stages(self) -> list[nn.Module]:
        """Return the stem, the blocks, and the layers that give the embedding."""
        network, relu6 = self.network, self.network._swish
        stem = nn.Sequential(network._conv_stem, network._bn0, relu6)
        return [stem, *network._blocks, nn.Sequential(network._conv_head, network._bn1, relu6, _Average())]

    def load_state_dict(self, state_dict, strict: bool = True, assign: bool = False):  # type: ignore[no-untyped-def]
        """Load weights with the layer names of the package."""
        return self.network.load_state_dict(state_dict, strict, assign)

    def state_dict(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        """Return weights with the layer names of the package."""
        return self.network.state_dict(*args, **kwargs)


ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {
    "efficientnet_lite0": partial(EfficientNetLite, 0),
    "efficientnet_lite1": partial(EfficientNetLite, 1),
    "efficientnet_lite2": partial(EfficientNetLite, 2),
    "resnet18": lambda n_labels: ResNet(_Basic, (2, 2, 2, 2), n_labels),
    "resnet50": lambda n_labels: ResNet(_Bottleneck, (3, 4, 6, 3), n_labels),
    "squeezenet": SqueezeNet,
    "vgg16": Vgg16,
}
"""Functions from the number of labels to a network, by name."""


def load_network(architecture: str, n_labels: int, path: Path) -> nn.Module:
    """Build a network and load its weights: a state dict (.pth or .pth.tar, with weights_only), or an .npz of arrays.

    Of a checkpoint, `state_dict` is used; the prefix `module.` that parallel training adds is removed.

    Raises:
        ConfigurationError: If the weights are for another number of labels.
        ModelError: If the file contains anything but arrays, or other arrays than those of the network.
    """
    weights, network = _read_weights(path), ARCHITECTURES[architecture](n_labels)
    _check_outputs(network, weights, n_labels, path)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(
            f"{path} does not fit architecture {architecture!r}: {_shorten(error)}: choose the one that was trained"
        ) from error
    return network


def fold_batch_norms(network: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, in place: 20 % faster on a CPU, with the same outputs.

    Args:
        network: In evaluation mode; each batch norm directly follows its convolution among its parent's layers.
    """
    for (name, layer), (next_name, next_layer) in pairwise(list(network.named_children())):
        if isinstance(layer, nn.Conv2d) and isinstance(next_layer, nn.BatchNorm2d):
            setattr(network, name, fuse_conv_bn_eval(layer, next_layer))
            setattr(network, next_name, nn.Identity())
    for layer in network.children():
        fold_batch_norms(layer)


def _check_outputs(network: nn.Module, weights: Mapping[str, Tensor], n_labels: int, path: Path) -> None:
    bias = list(network.state_dict())[-1]
    if bias in weights and weights[bias].numel() != n_labels:
        raise ConfigurationError(
            f"tagger.labels: {n_labels:,} labels, must be {weights[bias].numel():,}, one for each output of "
            f"{path}: correct the file of labels, or choose other weights"
        )


def _read_weights(path: Path) -> Mapping[str, Tensor]:
    try:
        content: Any = _load_file(path)
    except Exception as error:  # readers raise many kinds of errors for damaged files
        raise ModelError(
            f"{path} cannot be read as weights only ({_shorten(error)}): save it as a state dict, "
            "torch.save(network.state_dict(), path)"
        ) from error
    weights = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ModelError(
            f"{path} holds {type(content).__name__}, must hold a state dict of tensors: "
            "torch.save(network.state_dict(), path)"
        )
    return {str(name).removeprefix("module."): value for name, value in weights.items()}


def _load_file(path: Path) -> Any:
    if path.suffix != ".npz":
        return torch.load(path, map_location="cpu", weights_only=True)
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in arrays}


def _shorten(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]

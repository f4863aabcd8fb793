"""Networks compared with the published names and shapes of layers, and with outputs computed by hand."""

import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from recsys.errors import ConfigurationError, ModelError
from recsys.images.tagging.networks import ARCHITECTURES, fold_batch_norms, load_network
from recsys.testing.closeness import assert_close, terms_of

Shapes = dict[str, tuple[int, ...]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def without_memory(architecture: str, n_labels: int) -> nn.Module:
    with torch.device("meta"):
        return ARCHITECTURES[architecture](n_labels).eval()


def shapes(weights: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def random_network(architecture: str, n_labels: int, seed: int = 0) -> nn.Module:
    """Return a network with random weights and, unlike a new network, random batch norm statistics."""
    torch.manual_seed(seed)
    network = ARCHITECTURES[architecture](n_labels).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in ((layer.running_mean, -0.2, 0.2), (layer.running_var, 0.5, 2)):
                tensor.uniform_(low, high)
            for parameter, low, high in ((layer.weight, 0.5, 1.5), (layer.bias, -0.2, 0.2)):
                nn.init.uniform_(parameter, low, high)
    return network


# Names and shapes.


def batch_norm(name: str, width: int) -> Shapes:
    statistics = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{each}": (width,) for each in statistics}, f"{name}.num_batches_tracked": ()}


def resnet_shapes(depths: tuple[int, ...], expansion: int, n_labels: int) -> Shapes:
    found = {"conv1.weight": (64, 3, 7, 7), **batch_norm("bn1", 64)}
    inputs = 64
    for layer, depth in enumerate(depths, start=1):
        width = 32 * 2**layer  # 64, 128, 256, 512
        outputs = expansion * width
        for block in range(depth):
            name = f"layer{layer}.{block}"
            kernels = (
                [(width, inputs, 3, 3), (width, width, 3, 3)]
                if expansion == 1
                else [(width, inputs, 1, 1), (width, width, 3, 3), (outputs, width, 1, 1)]
            )
            for number, kernel in enumerate(kernels, start=1):
                found |= {f"{name}.conv{number}.weight": kernel, **batch_norm(f"{name}.bn{number}", kernel[0])}
            if block == 0 and inputs != outputs:
                found |= {f"{name}.downsample.0.weight": (outputs, inputs, 1, 1)}
                found |= batch_norm(f"{name}.downsample.1", outputs)
            inputs = outputs
    return {**found, "fc.weight": (n_labels, inputs), "fc.bias": (n_labels,)}


def vgg16_shapes(n_labels: int) -> Shapes:
    convolutions = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256)}
    convolutions |= {14: (256, 256), 17: (512, 256), **dict.fromkeys((19, 21, 24, 26, 28), (512, 512))}
    linears = {0: (4096, 512 * 7 * 7), 3: (4096, 4096), 6: (n_labels, 4096)}
    found: Shapes = {}
    for number, (outputs, inputs) in convolutions.items():
        found |= {f"features.{number}.weight": (outputs, inputs, 3, 3), f"features.{number}.bias": (outputs,)}
    for number, kernel in linears.items():
        found |= {f"classifier.{number}.weight": kernel, f"classifier.{number}.bias": kernel[:1]}
    return found


def squeezenet_shapes(n_labels: int) -> Shapes:
    found: Shapes = {"conv1.weight": (64, 3, 3, 3), "conv10.weight": (n_labels, 512, 1, 1)}
    for number, inputs, squeezed in [
        (2, 64, 16), (3, 128, 16), (4, 128, 32), (5, 256, 32), (6, 256, 48), (7, 384, 48), (8, 384, 64), (9, 512, 64)
    ]:  # fmt: skip
        found[f"fire{number}.squeeze.weight"] = (squeezed, inputs, 1, 1)
        found[f"fire{number}.expand1x1.weight"] = (4 * squeezed, squeezed, 1, 1)
        found[f"fire{number}.expand3x3.weight"] = (4 * squeezed, squeezed, 3, 3)
    return found | {name.replace("weight", "bias"): kernel[:1] for name, kernel in found.items()}


PUBLISHED = {
    "resnet18": resnet_shapes((2, 2, 2, 2), 1, 365),
    "resnet50": resnet_shapes((3, 4, 6, 3), 4, 365),
    "vgg16": vgg16_shapes(365),
    "squeezenet": squeezenet_shapes(365),
}


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_layers_are_named_and_shaped_as_in_the_published_weights(architecture):
    assert shapes(without_memory(architecture, 365).state_dict()) == PUBLISHED[architecture]


@pytest.mark.parametrize(
    ("architecture", "parameters", "features"),
    [
        ("resnet18", 11_689_512, 512),
        ("resnet50", 25_557_032, 2048),
        ("vgg16", 138_357_544, 4096),
        ("squeezenet", 1_235_496, 512),
        ("efficientnet_lite0", 4_652_008, 1280),
        ("efficientnet_lite1", 5_416_680, 1280),
        ("efficientnet_lite2", 6_092_072, 1280),
    ],
)
def test_network_of_1000_labels_has_the_published_number_of_parameters(architecture, parameters, features):
    network = without_memory(architecture, 1000)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    logits, embedding = network(torch.zeros(3, 3, 224, 224, device="meta"))
    assert (logits.shape, embedding.shape) == ((3, 1000), (3, features))


LAST_LAYERS = {"resnet18": "fc", "resnet50": "fc", "vgg16": "classifier.6", "efficientnet_lite0": "network._fc"}


@pytest.mark.parametrize("architecture", LAST_LAYERS)
def test_embedding_is_the_input_of_the_last_layer(architecture):
    network, read = without_memory(architecture, 7), []
    network.get_submodule(LAST_LAYERS[architecture]).register_forward_hook(lambda _, inputs, __: read.append(inputs[0]))
    _, embedding = network(torch.zeros(2, 3, 224, 224, device="meta"))
    assert read[0] is embedding


@pytest.mark.parametrize(
    ("architecture", "blocks"),
    [
        ("efficientnet_lite0", 16),
        ("efficientnet_lite1", 21),
        ("efficientnet_lite2", 21),
        ("resnet18", 8),
        ("resnet50", 16),
        ("squeezenet", 8),
        ("vgg16", 4),
    ],
)
def test_stages_are_the_stem_the_blocks_and_the_layers_to_the_embedding(architecture, blocks):
    network = without_memory(architecture, 7)
    stages = network.stages()
    assert len(stages) == 1 + blocks + 1
    assert nn.Sequential(*stages)(torch.zeros(2, 3, 224, 224, device="meta")).dim() == 2
    in_stages = {id(parameter) for stage in stages for parameter in stage.parameters()}
    others = [name for name, parameter in network.named_parameters() if id(parameter) not in in_stages]
    assert len(others) == 2  # weight and bias of the last layer


# Outputs.


def photos(n: int = 2, side: int = 64) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n, 3, side, side)).astype(np.float32))


def resnet_by_hand(weights: Mapping[str, Tensor], depths: tuple[int, ...], x: Tensor) -> Tensor:
    """Compute the paper's network from the names of its weights."""

    def convolved(x: Tensor, convolution: str, norm: str, stride: int, padding: int) -> Tensor:
        y = nnf.conv2d(x, weights[f"{convolution}.weight"], None, stride, padding)
        statistics = (weights[f"{norm}.{each}"] for each in ("running_mean", "running_var", "weight", "bias"))
        return nnf.batch_norm(y, *statistics)

    x = nnf.max_pool2d(convolved(x, "conv1", "bn1", 2, 3).relu(), 3, 2, 1)
    for layer, depth in enumerate(depths, start=1):
        for block in range(depth):
            name, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = x
            kernels = [number for number in (1, 2, 3) if f"{name}.conv{number}.weight" in weights]
            strided = 1 if kernels == [1, 2] else 2  # the first 3 x 3
            for number in kernels:
                padding = weights[f"{name}.conv{number}.weight"].shape[-1] // 2
                y = convolved(
                    y, f"{name}.conv{number}", f"{name}.bn{number}", stride if number == strided else 1, padding
                )
                y = y.relu() if number < kernels[-1] else y
            if f"{name}.downsample.0.weight" in weights:
                x = convolved(x, f"{name}.downsample.0", f"{name}.downsample.1", stride, 0)
            x = (x + y).relu()
    return x.mean((2, 3))


@pytest.mark.parametrize(("architecture", "depths"), [("resnet18", (2, 2, 2, 2)), ("resnet50", (3, 4, 6, 3))])
@torch.inference_mode()
def test_resnet_computes_the_network_of_its_paper(architecture, depths):
    network = random_network(architecture, 11)
    weights = network.state_dict()
    logits, embedding = network(photos())
    by_hand = resnet_by_hand(weights, depths, photos())
    assert_close(embedding, by_hand, terms=terms_of(network))
    assert_close(logits, by_hand @ weights["fc.weight"].T + weights["fc.bias"], terms=terms_of(network))


@torch.inference_mode()
def test_squeezenet_averages_its_leaky_last_convolution():
    network, seen = random_network("squeezenet", 11), {}
    network.conv10.register_forward_hook(lambda _, inputs, output: seen.update(read=inputs[0], written=output))
    logits, embedding = network(photos(side=224))
    assert seen["read"].shape == (2, 512, 13, 13)  # 224 -> 111 -> 55 -> 27 -> 13
    leaky = torch.where(seen["written"] > 0, seen["written"], 0.55 * seen["written"])
    assert_close(logits, leaky.mean((2, 3)), terms=13 * 13)
    assert_close(embedding, seen["read"].mean((2, 3)), terms=13 * 13)


@pytest.mark.parametrize("architecture", ["efficientnet_lite0", "resnet18", "resnet50", "squeezenet"])
@torch.inference_mode()
def test_folding_batch_norms_into_convolutions_does_not_change_the_outputs(architecture):
    network = random_network(architecture, 11)
    before = network(photos())
    fold_batch_norms(network)
    assert not [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for folded, unfolded in zip(network(photos()), before, strict=True):
        assert_close(folded, unfolded, terms=terms_of(network))


# Files.


def published(network: nn.Module, path: Path, **options) -> Path:
    """Save weights in the format of Places365, written by PyTorch of 2017: without num_batches_tracked."""
    weights = {f"module.{name}": value for name, value in network.state_dict().items() if "num_batches" not in name}
    torch.save(
        {"epoch": 90, "arch": "resnet18", "state_dict": weights, "best_prec1": torch.tensor(54.7)}, path, **options
    )
    return path


def assert_same_weights(network: nn.Module, expected: nn.Module) -> None:
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=0, atol=0)


@pytest.mark.parametrize("is_zip", [True, False])
def test_published_checkpoint_loads(tmp_path, is_zip):
    network = random_network("resnet18", 365)
    path = published(network, tmp_path / "resnet18_places365.pth.tar", _use_new_zipfile_serialization=is_zip)
    assert_same_weights(load_network("resnet18", 365, path), network)


@pytest.mark.parametrize("architecture", ["efficientnet_lite0", "squeezenet"])
def test_state_dict_loads(tmp_path, architecture):
    network = random_network(architecture, 5)
    torch.save(network.state_dict(), tmp_path / "own.pth")
    assert_same_weights(load_network(architecture, 5, tmp_path / "own.pth"), network)


def test_npz_of_half_precision_loads(tmp_path):
    network = random_network("squeezenet", 5)
    half = {name: tensor.numpy().astype(np.float16) for name, tensor in network.state_dict().items()}
    np.savez(tmp_path / "own.npz", **half)
    loaded = load_network("squeezenet", 5, tmp_path / "own.npz").state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    np.testing.assert_array_equal(loaded["conv10.weight"].numpy(), half["conv10.weight"].astype(np.float32))


class Malicious:
    """An object that runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["torch", "torch of 2017", "pickle", "state dict", "npz"])
def test_malicious_pickle_is_refused_and_not_run(tmp_path, form):
    path, ran = tmp_path / ("own.npz" if form == "npz" else "own.pth"), tmp_path / "ran"
    malicious = Malicious(f"touch {ran}")
    if form == "npz":
        np.savez(path, **{"conv1.weight": np.array([malicious], object)})
    elif form == "pickle":
        path.write_bytes(pickle.dumps(malicious))
    else:
        content = {"state_dict": {"conv1.weight": malicious}} if form == "state dict" else malicious
        torch.save(content, path, _use_new_zipfile_serialization=form != "torch of 2017")
    with pytest.raises(ModelError, match=r"own\.(pth|npz) cannot be read as weights only .* save it as a state dict"):
        load_network("squeezenet", 5, path)
    assert not ran.exists()


def test_file_of_a_pickled_network_is_refused_with_the_next_step(tmp_path):
    torch.save(random_network("squeezenet", 5), tmp_path / "own.pth")
    with pytest.raises(ModelError, match=r"torch\.save\(network\.state_dict\(\), path\)"):
        load_network("squeezenet", 5, tmp_path / "own.pth")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".pth", ".npz"])
def test_damaged_file_is_an_error_that_names_it(tmp_path, suffix, share):
    path, network = tmp_path / f"own{suffix}", random_network("squeezenet", 5)
    if suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in network.state_dict().items()})
    else:
        torch.save(network.state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ModelError, match="cannot be read as weights only"):
        load_network("squeezenet", 5, path)


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": 3}, {"conv1.weight": 3}, torch.zeros(3)])
def test_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "own.pth")
    with pytest.raises(ModelError, match="must hold a state dict of tensors"):
        load_network("squeezenet", 5, tmp_path / "own.pth")


@pytest.mark.parametrize("architecture", ["efficientnet_lite0", "squeezenet"])
def test_wrong_number_of_labels_is_an_error_that_names_both_numbers(tmp_path, architecture):
    torch.save(random_network(architecture, 5).state_dict(), tmp_path / "own.pth")
    with pytest.raises(ConfigurationError, match=r"tagger\.labels: 6 labels, must be 5, one for each output of"):
        load_network(architecture, 6, tmp_path / "own.pth")


def test_weights_of_another_architecture_are_an_error_that_names_it(tmp_path):
    torch.save(random_network("resnet18", 5).state_dict(), tmp_path / "own.pth")
    with pytest.raises(ModelError, match=r"does not fit architecture 'squeezenet': .*choose the one that was trained"):
        load_network("squeezenet", 5, tmp_path / "own.pth")

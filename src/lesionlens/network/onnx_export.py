"""Export networks to ONNX with torch's exporter, including weights and metadata.

Opset 18 with explicit attention (the readable form), for compatibility with common runtimes. Needs
the extra `onnx`.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from lesionlens.base.errors import MissingPluginError
from lesionlens.base.files.atomic_file import write_atomically, write_error
from lesionlens.base.labels import WeightPrecision
from lesionlens.base.process.ignored_warnings import warnings_ignored
from lesionlens.network.attention import Form
from lesionlens.network.encoder import STRIDE
from lesionlens.network.model import LensNetwork, LensOutput
from lesionlens.network.prompt.model import FACTS, MAPS, PromptInput, PromptNetwork
from lesionlens.network.prompt.model import MULTIPLE as PROMPT_MULTIPLE
from lesionlens.network.prompt.weights import PromptNotes
from lesionlens.network.weights_metadata import ONNX_FORMAT, WeightsInfo, notes_of

OPSET = 18
PROMPT_FORMAT = "lesionlens-prompt-onnx-1"
_MAX_VOX = 512
_MIN_SHRUNK_SIZE = 64  # smaller tensors stay float32


class _Lens(nn.Module):
    """The Lens network with flat, named outputs."""

    def __init__(self, network: LensNetwork) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, x: Tensor, place: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of `_named_outputs`."""
        return tuple(_named_outputs(self.network(x, bounds=place, trace=True)).values())


class _GroupNorm(nn.Module):
    """Group norm with means taken axis by axis, so that each sum is short.

    The standard export of group norm is InstanceNormalization, which onnxruntime sums in float32
    over all voxels of a group: brain logits had errors of .003 on a CPU, .034 in a browser.
    """

    def __init__(self, like: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = like.num_groups, like.eps
        self.weight = nn.Parameter(like.weight.detach()[:, None, None, None])
        self.bias = nn.Parameter(like.bias.detach()[:, None, None, None])

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean of each channel's group, (B, C, 1, 1, 1)."""
        by_channel = x.mean(4).mean(3).mean(2).reshape(len(x), self.groups, -1)
        by_group = by_channel.mean(2, keepdim=True).expand_as(by_channel)
        return by_group.reshape(len(x), -1, 1, 1, 1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """(B, C, I, J, K) to the same."""
        centred = x - self.mean(x)
        scale = self.weight * torch.rsqrt(self.mean(centred * centred) + self.eps)
        return centred * scale + self.bias


def with_short_sums(network: nn.Module) -> nn.Module:
    """Return a copy of a network with axis-by-axis group norms, for export."""
    converted = copy.deepcopy(network)
    for module in list(converted.modules()):
        for name, norm in module.named_children():
            if isinstance(norm, nn.GroupNorm):
                setattr(module, name, _GroupNorm(norm))
    return converted


def _named_outputs(out: LensOutput) -> dict[str, Tensor]:
    outputs = {"logits": out.logits, "attention": out.attention}
    if out.trace is not None:
        for scale, weights in zip(
            ("quarter", "half", "full"), out.trace.cross_attention, strict=False
        ):
            outputs[f"attention_{scale}"] = weights
        if out.trace.self_attention:
            outputs["q"] = torch.stack([layer.q[0] for layer in out.trace.self_attention])
            outputs["k"] = torch.stack([layer.k[0] for layer in out.trace.self_attention])
    if out.lesions is not None:
        outputs["classes"] = out.lesions.class_probabilities()
    return outputs


def export_lens(
    network: LensNetwork,
    info: WeightsInfo,
    path: Path,
    precision: WeightPrecision = WeightPrecision.FP32,
) -> None:
    """Export the Lens network.

    Inputs: `x` (1, 8, I, J, K) float32 from `normalise.with_presence`, I, J, K multiples of 8 and
    at least 16; `place` (1, 3, 2) float32, `bounds` of `LensNetwork.forward`. Outputs, float32:
    `logits` and `attention` (1, R, I, J, K), R as in `LensOutput`; `attention_quarter`, `_half`,
    `_full` (1, heads, R, ...);
    `q`, `k` (layers, heads, N, d) of self-attention; `classes` (1, 3, I/2, J/2, K/2).

    Parameters
    ----------
    network : LensNetwork
        On the CPU, in evaluation mode; its memory layout and attention form are changed.
    info : WeightsInfo
        Stored in the file's metadata.
    path : Path
        Replaced only by a complete file.

    Raises
    ------
    MissingPluginError
        The extra `onnx` is not installed.
    ResourceError
        The file cannot be written.
    """
    network.set_attention(Form.READABLE)
    x = torch.zeros(1, network.config.inputs, 5 * STRIDE, 3 * STRIDE, 4 * STRIDE)
    place = torch.tensor([[[-1.0, 1.0]] * 3])
    with torch.inference_mode():
        names = list(_named_outputs(network(x, bounds=place, trace=True)))
    metadata = {
        "format": ONNX_FORMAT,
        "network": json.dumps(dataclasses.asdict(info.config)),
        "notes": json.dumps(notes_of(info)),
        "weights_sha256": info.sha256,
        "precision": precision.value,
    }
    write_model(onnx_model(_Lens(network), {"x": x, "place": place}, names, STRIDE), path, metadata,
           precision)  # fmt: skip


class _Prompted(nn.Module):
    """The prompt network with flat outputs."""

    def __init__(self, network: PromptNetwork) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, maps: Tensor, facts: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and the prompts' attention."""
        output = self.network(PromptInput(maps, facts), trace=True)
        return output.logits, output.attention


def export_prompt(network: PromptNetwork, notes: PromptNotes, digest: str, path: Path) -> None:
    """Export a prompt network in float16, like the shipped weights; raises as `export_lens`.

    Inputs, float32: `maps` (1, `MAPS`, I, J, K), multiples of 8, and `facts` (1, `FACTS`), both as
    `network.prompt.crop.network_input` makes them. Outputs, float32: `logits` (1, 1, I, J, K) and
    `attention` (1, I/4, J/4, K/4), which adds up to one.

    Parameters
    ----------
    network : PromptNetwork
        In evaluation mode.
    notes : PromptNotes
        Stored in the file's metadata, with `digest`.
    digest : str
        SHA-256 of the weights.
    path : Path
        Replaced only by a complete file.
    """
    maps = torch.zeros(1, MAPS, 5 * PROMPT_MULTIPLE, 3 * PROMPT_MULTIPLE, 4 * PROMPT_MULTIPLE)
    inputs = {"maps": maps, "facts": torch.zeros(1, FACTS)}
    model = onnx_model(_Prompted(network), inputs, ["logits", "attention"], PROMPT_MULTIPLE)
    fields = {name: str(value) for name, value in dataclasses.asdict(notes).items()}
    metadata = {"format": PROMPT_FORMAT, **fields, "weights_sha256": digest}
    write_model(model, path, metadata, WeightPrecision.FP16)


def onnx_model(
    network: nn.Module, inputs: Mapping[str, Tensor], outputs: list[str], multiple: int
) -> Any:
    """Return the ONNX model with dynamic axes of the first input, in multiples of `multiple`."""
    if find_spec("onnxscript") is None or find_spec("onnx") is None:
        raise MissingPluginError(
            found="no onnx and onnxscript, which write networks in the ONNX format",
            expected="both",
            next_step='Install them: pip install "lesionlens[onnx]"',
        )
    dynamic_axes = {
        2 + axis: multiple * torch.export.Dim(name, min=2, max=_MAX_VOX // multiple)
        for axis, name in enumerate("ijk")
    }
    first = next(iter(inputs))
    shapes = {name: dynamic_axes if name == first else None for name in inputs}
    logger = logging.getLogger("torch.onnx")
    previous_level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings_ignored():  # internal warnings of the exporter
            program = torch.onnx.export(
                with_short_sums(network)
                .to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
                .eval(),
                tuple(inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=shapes,
                input_names=list(inputs),
                output_names=outputs,
                verbose=False,
            )
    finally:
        logger.setLevel(previous_level)
    if program is None:
        raise RuntimeError("torch wrote no ONNX program")
    return program.model_proto


def write_model(
    model: Any, path: Path, metadata: Mapping[str, str], precision: WeightPrecision
) -> None:
    """Write a model with metadata, its large weights in `precision`."""
    import onnx

    if precision is not WeightPrecision.FP32:
        shrink(model, precision)
    for node in model.graph.node:
        node.ClearField("metadata_props")  # source location of each node
        node.ClearField("doc_string")
    model.graph.ClearField("metadata_props")  # sets in any order: each export would differ
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    try:
        write_atomically(path, model.SerializeToString())
    except OSError as error:
        raise write_error("a network", path, error) from error


def shrink(model: Any, precision: WeightPrecision) -> None:
    """Store large weights in fewer bits, each followed by a cast node."""
    from onnx import TensorProto, helper, numpy_helper

    graph, widened = model.graph, []
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _MIN_SHRUNK_SIZE:
            continue
        name, stored_name = tensor.name, f"{tensor.name}.{precision}"
        if precision is WeightPrecision.FP16:
            stored = [numpy_helper.from_array(values.astype(np.float16), stored_name)]
            node = helper.make_node("Cast", [stored_name], [name], to=TensorProto.FLOAT)
        elif values.ndim < 2:
            continue
        else:
            axis = 0 if values.ndim > 2 else values.ndim - 1  # output channels
            others = tuple(a for a in range(values.ndim) if a != axis)
            scale = np.maximum(np.abs(values).max(others), 1e-12).astype(np.float32) / 127
            shape = [-1 if a == axis else 1 for a in range(values.ndim)]
            quantised = np.rint(values / scale.reshape(shape)).astype(np.int8)
            stored = [
                numpy_helper.from_array(quantised, stored_name),
                numpy_helper.from_array(scale, f"{stored_name}.scale"),
            ]
            node = helper.make_node(
                "DequantizeLinear", [stored_name, f"{stored_name}.scale"], [name], axis=axis
            )
        graph.initializer.remove(tensor)
        graph.initializer.extend(stored)
        widened.append(node)
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*widened, *nodes])

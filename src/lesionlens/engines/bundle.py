"""MONAI bundles that segment brain tumours, as an engine; no code of a bundle is run.

A bundle's configuration may hold Python and name any class, and its weights are a pickle. Here only
networks of an allow-list are built, from plain values; transforms must be on a list of those that
are applied here or have no effect; weights are read as plain tensors.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer
from monai.networks import nets
from torch import Tensor, nn
from torch.nn import functional

from lesionlens.base.errors import UnusableInputError, WeightsError, is_out_of_memory
from lesionlens.base.geometry import Floats
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.provenance import sha256_of
from lesionlens.base.records.prediction import EngineInfo, Prediction, Trace
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import RunContext
from lesionlens.engines import device as devices
from lesionlens.engines.grid import InputFrame, make_network_input
from lesionlens.engines.transformer_attention import above, grad_cam, has_attention, rollout

GRAD_CAM = (
    "Grad-CAM at a quarter of the network's resolution: not attention, but what led to a region"
)
ATTENTION = "the network's self-attention, rolled out from the region; mean of all heads and stages"
_NETWORKS = (
    "AttentionUnet BasicUNet BasicUNetPlusPlus DynUNet HighResNet MedNeXt SegResNet SegResNetDS "
    "SegResNetDS2 SegResNetVAE SwinUNETR UNet UNETR ViTAutoEnc VNet"
)
"""Of `monai.networks.nets`: networks that segment, and that never download weights."""
_WITHOUT_EFFECT = (
    "AddChannel AsChannelFirst CastToType CopyItems DeleteItems EnsureChannelFirst EnsureType "
    "FromMetaTensor Identity LoadImage SelectItems ToDevice ToMetaTensor ToTensor BorderPad "
    "CropForeground DivisiblePad SpatialPad Decollate Invert SaveImage"
)
"""Transforms that neither move nor change voxels, crop around the head, or pad."""
_INPUTS = {
    **dict.fromkeys(("t1", "t1w", "t1n"), MrSequence.T1),
    **dict.fromkeys(("t1c", "t1ce", "t1gd", "t1post"), MrSequence.T1C),
    **dict.fromkeys(("t2", "t2w"), MrSequence.T2),
    **dict.fromkeys(("flair", "t2f", "t2flair"), MrSequence.FLAIR),
}
_OUTPUTS = {
    **dict.fromkeys(("wholetumor", "wholetumour", "wt", "tumor", "tumour", "lesion"), Region.WT),
    **dict.fromkeys(("tumorcore", "tumourcore", "tc"), Region.TC),
    **dict.fromkeys(("enhancingtumor", "enhancingtumour", "et"), Region.ET),
}
_CAVITY = {"resectioncavity", "surgicalcavity", "cavity", "rc"}
_CAM_MM, _CAM_STRIDE, _CAM_EDGE_VOX = 2.0, 4, 32
_RUN, _EXPLAIN = "running the bundle's network", "explaining the bundle's prediction"


class BundleEngine:
    """Runs a bundle's network on a prepared study, in half-overlapping windows.

    Inputs are z-scored in the brain as by MONAI's NormalizeIntensity(nonzero=True,
    channel_wise=True); absent ones are 0.
    """

    def __init__(self, device: str = "auto", *, bundle: str | Path) -> None:
        folder = Path(bundle)
        metadata, inference = _config(folder, "metadata"), _config(folder, "inference")
        weights = folder / "models" / "model.pt"
        self._inputs, self._outputs, self._cavity = _channels(metadata)
        self._spacing_mm = _check_transforms(inference, self._inputs)
        self._window = _window(inference.get("inferer", {}))
        self._network = _build(inference, len(self._inputs))
        _load_weights(self._network, weights)
        self._name, self._sha256 = metadata.get("name", folder.name), sha256_of(weights)
        self._version = str(metadata.get("version", "unknown"))
        self.placement = devices.Placement(device, self._move)
        self.placement.run(lambda: self._move(self.placement.device))

    def _move(self, device: torch.device) -> None:
        self._network.to(device)

    @property
    def info(self) -> EngineInfo:
        """Name, version, SHA-256 of the weights, device."""
        device = self.placement.device
        return EngineInfo(
            name=f"monai-bundle {self._name}",
            version=self._version,
            weights_sha256=self._sha256,
            device=devices.describe(device),
            precision=devices.precision_of(device),
            threads=torch.get_num_threads() if device.type == "cpu" else None,
        )

    @devices.placed
    def predict(self, prepared: PreparedStudy, *, context: RunContext) -> Prediction:
        """Predict on the working grid; see `engines.engine.Engine.predict`."""
        x, frame = self._input(prepared, self._spacing_mm)
        sides = zip(x.shape[2:], self._window, strict=True)
        passes = math.prod(max(1, math.ceil(2 * n / edge) - 1) for n, edge in sides)
        inferer = SlidingWindowInferer(self._window, overlap=0.5, mode="gaussian")
        with (
            devices.interruptible(self._network, _RUN, context, passes),
            torch.inference_mode(),
            devices.autocast(x.device),
        ):
            probabilities = torch.sigmoid(torch.as_tensor(inferer(x, self._run))[0].float())
        channels = {r: self._outputs.index(r) for r in Region if r in self._outputs}
        with devices.interruptible(self._network, _EXPLAIN, context):
            trace = self._trace(x, frame, probabilities, channels)
        inside, nested = prepared.brain.astype(np.float32), dict[Region, Floats]()
        for region, channel in channels.items():
            nested[region] = inside = np.minimum(inside, frame.to_working(probabilities[channel]))
        lacking = tuple(region for region in Region if region not in channels)
        return Prediction(
            probability=nested | dict.fromkeys(lacking, np.zeros_like(inside)),
            engine=self.info,
            trace=trace,
            unsegmented=lacking,
            notices=tuple(self._notices(prepared)),
            cavity=None if self._cavity is None else frame.to_working(probabilities[self._cavity]),
        )

    def _input(self, prepared: PreparedStudy, spacing_mm: float) -> tuple[Tensor, InputFrame]:
        """Return the (1, C, I, J, K) input of a study, and its frame."""
        made = make_network_input(prepared, spacing_mm, self.placement.device, robust=False)
        return made.channels[:, [list(MrSequence).index(s) for s in self._inputs]], made.frame

    def _run(self, x: Tensor) -> Tensor:
        """Return the network's logits; some MONAI networks return further outputs."""
        count, size = len(self._outputs), " x ".join(map(str, x.shape[2:]))
        try:
            outputs = self._network(x)
        except (RuntimeError, ValueError, AssertionError) as error:
            if is_out_of_memory(error) or "CUDA" in str(error):
                raise
            _refuse(f"its network does not accept {size} voxels ({error!s:.200})", error)
        logits: Tensor = outputs[0] if isinstance(outputs, list | tuple) else outputs
        if logits.shape[1:] != (count, *x.shape[2:]):
            _refuse(f"its network does not return {count} maps of {size} voxels")
        return logits

    def _trace(
        self, x: Tensor, frame: InputFrame, probabilities: Tensor, channels: Mapping[Region, int]
    ) -> Trace:
        """Return the map of each region: the network's own attention, else Grad-CAM."""
        network, numbers = self._network, list(channels.values())
        if has_attention(network):
            maps, method = self._attention(x, probabilities[numbers]), ATTENTION
            layer, coarseness = "all blocks", max(_list(network.patch_size))
        else:
            x, frame = self._input(frame.prepared, max(_CAM_MM, self._spacing_mm))
            i, j, k = x.shape[2:]
            padding = [n for size in (k, j, i) for n in (0, -size % _CAM_EDGE_VOX)]
            padded, coarseness = functional.pad(x, padding), _CAM_STRIDE
            maps, layer = grad_cam(network, self._run, padded, numbers, coarseness)
            maps, method = maps[:, :i, :j, :k], GRAD_CAM
        weights = {r: frame.to_working(found) for r, found in zip(channels, maps, strict=True)}
        for found in weights.values():
            found /= max(float(found.sum(dtype=np.float64)), 1e-12)
        return Trace(weights, method, (layer,), spacing_mm=coarseness * frame.spacing_mm)

    def _attention(self, x: Tensor, probabilities: Tensor) -> Tensor:
        """Return the (R, I, J, K) attention of the outlined voxels, over the windows with some."""
        focus = torch.stack([above(p, 0.5) for p in probabilities]).float()

        def of_window(part: Tensor) -> Tensor:
            image, here = part[:, : x.shape[1]], part[0, x.shape[1] :]
            if not bool(here.any()):
                return torch.zeros_like(here)[None]
            maps = rollout(self._network, self._run, image, here)
            return (maps * here.sum((1, 2, 3), keepdim=True))[None]

        inferer = SlidingWindowInferer(self._window, overlap=0.25)
        return torch.as_tensor(inferer(torch.cat([x, focus[None]], 1), of_window))[0]

    def _notices(self, prepared: PreparedStudy) -> Iterator[str]:
        """Report sequences that the study lacks, and regions that the bundle lacks."""
        missing = [s.display_name for s in self._inputs if s not in prepared.sequences]
        if missing:
            yield (
                f"The bundle expects {', '.join(missing)}, which this study lacks: it received an "
                "empty image instead, and its result may be wrong"
            )
        lacking = [region.display_name for region in Region if region not in self._outputs]
        if lacking:
            yield f"The bundle does not segment the {' or the '.join(lacking)}"
        yield from self.placement.notices


def _refuse(why: str, cause: BaseException | None = None) -> NoReturn:
    hint = "Correct its configs folder, or provide its network as an engine of your own."
    raise UnusableInputError(f"The bundle cannot be used: {why}.", hint=hint) from cause


def _config(folder: Path, name: str) -> Mapping[str, Any]:
    """Read a configuration as plain values; nothing in it is evaluated."""
    path = folder / "configs" / f"{name}.json"
    try:
        return _table(ConfigParser.load_config_file(str(path)))
    except (ValueError, OSError, RecursionError) as error:
        _refuse(f"{path.name} in {folder.name}/configs is missing or broken", error)


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _plain(name: object) -> str:
    return "".join(c for c in str(name).lower() if c.isalnum())


def _channels(
    metadata: Mapping[str, Any],
) -> tuple[list[MrSequence], list[Region | None], int | None]:
    """Return the sequence of each input, the region of each output, and the cavity's output."""
    named = []
    for kind in ("inputs", "outputs"):
        entries = _table(_table(metadata.get("network_data_format")).get(kind))
        entry = _table(_table(next(iter(entries.values()), None)).get("channel_def"))
        by_number = {str(key): _plain(name) for key, name in entry.items()}
        if len(entries) != 1 or set(by_number) != {str(n) for n in range(len(by_number))}:
            _refuse(f"its metadata do not name the channels of its {kind} from 0 on")
        named.append([by_number[str(n)] for n in range(len(by_number))])
    inputs, outputs = named
    sequences = [_INPUTS[name] for name in inputs if name in _INPUTS]
    if not inputs or len(set(sequences)) < len(inputs):
        _refuse(f"its inputs are {', '.join(inputs)}, not T1, T1c, T2 or FLAIR")
    regions = [_OUTPUTS.get(name) for name in outputs]
    known = [region for region in Region for found in regions if found is region]
    if "background" in outputs or not known or known != list(Region)[: len(known)]:
        _refuse(
            f"its outputs are {', '.join(outputs)}, not whole tumour, then core, then enhancing"
        )
    cavity = next((n for n, name in enumerate(outputs) if name in _CAVITY), None)
    return sequences, regions, cavity


def _steps(
    inference: Mapping[str, Any], entry: str, user: str, key: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the enabled transforms that `key` of the part `user` applies, by plain name."""
    steps = inference.get(entry, [])
    if isinstance(steps, Mapping) and "transforms" in steps:
        steps = steps["transforms"]
    is_applied = _table(inference.get(user)).get(key, f"@{entry}") == f"@{entry}"
    for step in _list(steps):
        disabled = _table(step).get("_disabled_", False)
        if not is_applied or "_target_" not in _table(step) or type(disabled) is not bool:
            _refuse(f"its {entry} is not a plain list of transforms that its {user} applies")
        name = str(step["_target_"]).rpartition(".")[2]
        if not disabled:
            yield name.removesuffix("Dict").removesuffix("d").removesuffix("D"), step


def _check_transforms(inference: Mapping[str, Any], sequences: list[MrSequence]) -> float:
    """Refuse transforms that are not applied here; return the voxel edge, 1 mm if none is named.

    Outputs may only become the sigmoid of each, from 0.5 on; what follows makes the label map.
    """
    spacing_mm, normalised, joined = 1.0, set[str](), dict[str, set[str]]()
    before = _steps(inference, "preprocessing", "dataset", "transform")
    after = _steps(inference, "postprocessing", "evaluator", "postprocessing")
    thresholded = False
    for name, step in (*before, *after):
        keys, accepted = (
            [str(key) for key in _list(step.get("keys", []))],
            name in _WITHOUT_EFFECT.split(),
        )
        if name == "Orientation":
            labels = step.get("labels") in (None, [["L", "R"], ["P", "A"], ["I", "S"]])
            axes = "RAS" if step.get("as_closest_canonical") else step.get("axcodes", "RAS")
            accepted = labels and axes in ("RAS", ["R", "A", "S"])
        elif name == "Spacing":
            edge, *others = _list(step.get("pixdim", 1.0))
            accepted = type(edge) in (int, float) and all(other == edge for other in others)
            accepted = accepted and 0.3 <= edge <= 10
            spacing_mm = float(edge) if accepted else spacing_mm
        elif name == "NormalizeIntensity":
            options = [step.get(o) for o in ("nonzero", "channel_wise", "subtrahend", "divisor")]
            accepted = options == [True, True, None, None]
            normalised.update(keys)
        elif name == "ConcatItems":
            order = [_INPUTS.get(_plain(key)) for key in keys]
            accepted = None in order or order == sequences
            joined[str(step.get("name"))] = set(keys)
        elif name == "Activations":
            accepted = not step.get("softmax") and step.get("other") is None
        elif name == "AsDiscrete":
            limits, thresholded = _list(step.get("threshold")), True
            accepted = not step.get("argmax") and all(limit in (None, 0.5) for limit in limits)
        if not (accepted or (name == "Lambda" and thresholded)):
            _refuse(f"{name} in its transforms is not applied here in this way")
    if normalised and any(keys - normalised and n not in normalised for n, keys in joined.items()):
        _refuse("its preprocessing normalises only some sequences")
    return spacing_mm


def _window(inferer: Any) -> tuple[int, int, int]:
    """Return the size of the windows, 128 voxels if none is named."""
    name = str(_table(inferer).get("_target_", "SimpleInferer")).rpartition(".")[2]
    size = inferer.get("roi_size", 128) if isinstance(inferer, Mapping) else None
    edges = _list(size) * (1 if isinstance(size, list | tuple) else 3)
    known = name in ("SlidingWindowInferer", "SlidingWindowInfererAdapt", "SimpleInferer")
    if not known or len(edges) != 3 or not all(type(n) is int and 0 < n <= 1024 for n in edges):
        _refuse(f"its inferer {inferer!s:.100} is not a SlidingWindowInferer with a roi_size")
    return edges[0], edges[1], edges[2]


def _build(inference: Mapping[str, Any], channels: int) -> nn.Module:
    """Build a network of the allow-list from plain values."""
    definition = _table(inference.get("network_def", inference.get("network")))
    module, _, name = str(definition.get("_target_")).rpartition(".")
    if name not in _NETWORKS.split() or not (
        module == "" or module.startswith("monai.networks.nets")
    ):
        _refuse(f"its network is {module}.{name:.50}, not one of {_NETWORKS}")
    options = {key: value for key, value in definition.items() if not key.startswith("_")}
    text = json.dumps(options)
    if any(f'"{mark}' in text for mark in ("$", "@", "%", "_target_")):
        _refuse("the definition of its network holds code")
    if options.get("in_channels", channels) != channels:
        _refuse(
            f"its network has {options['in_channels']} inputs, and its metadata name {channels}"
        )
    try:
        network: nn.Module = getattr(nets, name)(**options).eval()
    except Exception as error:  # whatever a network's constructor raises
        if is_out_of_memory(error):
            raise
        _refuse(f"{name} does not accept its definition ({error!s:.200})", error)
    return network


def _load_weights(network: nn.Module, path: Path) -> None:
    hint = "Save the network's state_dict() alone as models/model.pt."
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model"):
            state = state.get(key, state)
        network.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
    except (
        pickle.UnpicklingError, RuntimeError, LookupError, TypeError, ValueError, AttributeError,
        EOFError, OSError,
    ) as error:  # fmt: skip
        why = f"{path.name} does not hold plain tensors of the bundle's network."
        raise WeightsError(why, hint=hint) from error
    if not all(bool(values.isfinite().all()) for values in network.state_dict().values()):
        raise WeightsError(f"{path.name} holds values that are not finite.", hint=hint)

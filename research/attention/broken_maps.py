"""Count the attention maps that pass their checks, of trained and of randomised weights.

    python -m research.attention.broken_maps --data CASES --weights synthetic --json OUT.json

A check that no map fails tests nothing. The weights are randomised in four steps (Adebayo et al.
2018, arXiv 1810.03292): the query projections of the cross-attention, then the queries with all of
their parameters, then the decoder too, then the encoder. The maps of each randomised network are
checked twice: against its own outline, and as if they explained the outline of the trained network.
A study is prepared once, and each network predicts once. Cases in OUT.json are not measured again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from lesionlens.analysis.explain import maps as attention_maps
from lesionlens.analysis.explain.explain import check_maps
from lesionlens.analysis.explain.perturbation_runner import perturbation_runner
from lesionlens.analysis.findings.components import ComponentMask
from lesionlens.analysis.findings.find import find
from lesionlens.base.labels import Region
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.prediction import Prediction
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines import native_grid
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.imaging.preparation.prepare import prepare
from lesionlens.imaging.reading.readers import open_study
from lesionlens.network.build import build
from lesionlens.network.model import LensNetwork, channels_last
from research.attention.map_checks import PARTS, randomise_parts
from research.common.cases import sequence_files

TRAINED = "as it is"
OWN_OUTLINE, TRAINED_OUTLINE = "its own outline", "the unbroken network's outline"


class SwappableEngine(LensEngine):
    """The engine with a network that can be replaced."""

    def __init__(self, weights: str) -> None:
        super().__init__("cpu", weights)
        self.trained_network = self._network

    def use(self, network: LensNetwork) -> None:
        """Use a network for all further predictions."""
        self._network = network
        self.forget()


def randomise_query_projections(network: LensNetwork) -> LensNetwork:
    """Return the network with random query projections in its cross-attention."""
    torch.manual_seed(1)
    untrained, state = build(network.config).state_dict(), dict(network.state_dict())
    state |= {name: untrained[name] for name in state if ".cross.to_query." in name}
    randomised = channels_last(build(network.config)).eval()
    randomised.load_state_dict(state)
    return randomised


def randomised_networks(engine: SwappableEngine) -> dict[str, LensNetwork]:
    """Return the trained network and the randomised ones, by name."""
    names = ("attention", *(f"+ {part}" if n else part for n, part in enumerate(PARTS)))
    randomised = (
        randomise_query_projections(engine.trained_network),
        *randomise_parts(engine.trained_network),
    )
    return {TRAINED: engine.trained_network} | dict(zip(names, randomised, strict=True))


def flagged_components(prediction: Prediction, prepared: PreparedStudy) -> ComponentMask:
    """Return the components that an analysis flags from a prediction."""
    probability = native_grid.resample_regions(prediction.probability, prepared, nested=True)
    return find(prediction, probability, prepared.native).components


def check_attention_maps(
    engine: SwappableEngine,
    prepared: PreparedStudy,
    prediction: Prediction,
    components: ComponentMask,
) -> Mapping[Region, MapChecks]:
    """Check the attention maps of a prediction with the network in use."""
    assert prediction.trace is not None
    maps = attention_maps.draw(prediction.trace, prepared.brain).maps
    attention = native_grid.resample_regions(maps, prepared, nested=False)
    runner = perturbation_runner(engine, prepared, prediction, SILENT)
    return check_maps(prepared, prediction, components, attention, runner)


def measure_case(
    engine: SwappableEngine, networks: dict[str, LensNetwork], folder: Path
) -> Iterator[dict[str, object]]:
    """Yield a row for each map of a case for which the checks reached a verdict."""
    prepared = prepare(open_study(folder, named=sequence_files(folder)), RunContext())
    engine.use(engine.trained_network)
    trained_prediction = engine.predict(prepared, context=SILENT)
    trained_components = flagged_components(trained_prediction, prepared)
    for name, network in networks.items():
        engine.use(network)
        prediction = (
            trained_prediction if name == TRAINED else engine.predict(prepared, context=SILENT)
        )
        checks_by_outline = {
            OWN_OUTLINE: check_attention_maps(
                engine, prepared, prediction, flagged_components(prediction, prepared)
            )
        }
        if name != TRAINED:
            engine.use(engine.trained_network)
            prediction_with_map = replace(trained_prediction, trace=prediction.trace)
            checks_by_outline[TRAINED_OUTLINE] = check_attention_maps(
                engine, prepared, prediction_with_map, trained_components
            )
        for outline_source, checks in checks_by_outline.items():
            for region, check in checks.items():
                if check.reliable is not None:
                    yield {
                        "case": folder.name,
                        "weights": name,
                        "judged_by": outline_source,
                        "region": region.value,
                        "passed": check.reliable,
                        "verdict": check.verdict,
                        "checks": asdict(check),
                    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return how many maps failed, in Markdown."""
    lines = ["| weights | checked against | WT | TC | ET | failed |", "|---|---|---|---|---|---|"]
    for name, outline_source in dict.fromkeys((row["weights"], row["judged_by"]) for row in rows):
        selected = [
            row for row in rows if (row["weights"], row["judged_by"]) == (name, outline_source)
        ]
        cells = []
        for region in ("wt", "tc", "et", None):
            failures = [not row["passed"] for row in selected if region in {None, row["region"]}]
            cells.append(f"{sum(failures)} of {len(failures)}")
        lines.append(f"| {name} | {outline_source} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure every case; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", nargs="*", help="names of folders; all by default")
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    engine = SwappableEngine(options.weights)
    networks = randomised_networks(engine)
    rows: list[dict[str, Any]] = []
    if options.json.is_file():
        rows = json.loads(options.json.read_text())
    done = {row["case"] for row in rows}
    for name in options.cases or sorted(p.name for p in options.data.iterdir() if p.is_dir()):
        if name not in done:
            rows += measure_case(engine, networks, options.data / name)
            options.json.write_text(json.dumps(rows, indent=1))
            print(name, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()

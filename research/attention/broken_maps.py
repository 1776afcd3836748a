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
from research.attention.map_checks import PARTS, randomised
from research.common.cases import sequence_files

SHIPPED = "as it is"
OWN, LENT = "its own outline", "the unbroken network's outline"


class Exchangeable(LensEngine):
    """The engine, whose network can be exchanged."""

    def __init__(self, weights: str) -> None:
        super().__init__("cpu", weights)
        self.first = self._network

    def use(self, network: LensNetwork) -> None:
        """Predict by a network from now on."""
        self._network = network
        self.forget()


def without_asking(network: LensNetwork) -> LensNetwork:
    """Return the network with random projections to the cross-attention's queries."""
    torch.manual_seed(1)
    fresh, state = build(network.config).state_dict(), dict(network.state_dict())
    state |= {name: fresh[name] for name in state if ".cross.to_query." in name}
    broken = channels_last(build(network.config)).eval()
    broken.load_state_dict(state)
    return broken


def networks_of(engine: Exchangeable) -> dict[str, LensNetwork]:
    """Return the network as it is and the broken ones."""
    names = ("attention", *(f"+ {part}" if n else part for n, part in enumerate(PARTS)))
    broken = (without_asking(engine.first), *randomised(engine.first))
    return {SHIPPED: engine.first} | dict(zip(names, broken, strict=True))


def outlined(prediction: Prediction, prepared: PreparedStudy) -> ComponentMask:
    """Return what an analysis flags by a prediction."""
    probability = native_grid.resample_regions(prediction.probability, prepared, nested=True)
    return find(prediction, probability, prepared.native).components


def judged(
    engine: Exchangeable, prepared: PreparedStudy, prediction: Prediction, marked: ComponentMask
) -> Mapping[Region, MapChecks]:
    """Return the checks of a prediction's maps, asked of the network in use."""
    assert prediction.trace is not None
    maps = attention_maps.draw(prediction.trace, prepared.brain).maps
    attention = native_grid.resample_regions(maps, prepared, nested=False)
    questions = perturbation_runner(engine, prepared, prediction, SILENT)
    return check_maps(prepared, prediction, marked, attention, questions)


def rows_of(
    engine: Exchangeable, networks: dict[str, LensNetwork], folder: Path
) -> Iterator[dict[str, object]]:
    """Yield a row for each map that could be judged."""
    prepared = prepare(open_study(folder, named=sequence_files(folder)), RunContext())
    engine.use(engine.first)
    first = engine.predict(prepared, context=SILENT)
    flagged = outlined(first, prepared)
    for name, network in networks.items():
        engine.use(network)
        prediction = first if name == SHIPPED else engine.predict(prepared, context=SILENT)
        checks_by_judge = {
            OWN: judged(engine, prepared, prediction, outlined(prediction, prepared))
        }
        if name != SHIPPED:
            engine.use(engine.first)
            lent_prediction = replace(first, trace=prediction.trace)
            checks_by_judge[LENT] = judged(engine, prepared, lent_prediction, flagged)
        for judge, checks in checks_by_judge.items():
            for region, check in checks.items():
                if check.reliable is not None:
                    yield {
                        "case": folder.name,
                        "weights": name,
                        "judged_by": judge,
                        "region": region.value,
                        "passed": check.reliable,
                        "verdict": check.verdict,
                        "checks": asdict(check),
                    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return how many maps failed, in Markdown."""
    lines = ["| weights | judged by | WT | TC | ET | failed |", "|---|---|---|---|---|---|"]
    for name, judge in dict.fromkeys((row["weights"], row["judged_by"]) for row in rows):
        judged_rows = [row for row in rows if (row["weights"], row["judged_by"]) == (name, judge)]
        cells = []
        for region in ("wt", "tc", "et", None):
            failures = [not row["passed"] for row in judged_rows if region in {None, row["region"]}]
            cells.append(f"{sum(failures)} of {len(failures)}")
        lines.append(f"| {name} | {judge} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure every case, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", nargs="*", help="names of folders; all by default")
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    engine = Exchangeable(options.weights)
    networks = networks_of(engine)
    rows: list[dict[str, Any]] = []
    if options.json.is_file():
        rows = json.loads(options.json.read_text())
    done = {row["case"] for row in rows}
    for name in options.cases or sorted(p.name for p in options.data.iterdir() if p.is_dir()):
        if name not in done:
            rows += rows_of(engine, networks, options.data / name)
            options.json.write_text(json.dumps(rows, indent=1))
            print(name, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()

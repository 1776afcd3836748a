r"""Count the attention maps that pass their checks: of weights as they are, and of broken ones.

    python research/broken_maps.py --data CASES --weights synthetic --json OUT.json

A check that no map can fail is none. The weights are broken four ways (Adebayo et al. 2018, arXiv
1810.03292): the projections that ask in the cross-attention made random, then the queries with all
that belongs to them, then the decoder too, then the encoder. Each broken network is judged twice:
by its own outline, and as if its map explained what the unbroken network outlined.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from attention_checks import PARTS, randomised

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.prediction import Prediction
from lesionlens.engines.lens.engine import LensEngine
from lesionlens.imaging.reading.readers import open_study
from lesionlens.lens import Lens
from lesionlens.network.build import build
from lesionlens.network.model import LensNetwork, channels_last

SHIPPED = "as it is"
OWN, LENT = "its own outline", "the unbroken network's outline"


class Broken(LensEngine):
    """The engine with another network; with `lent`, its attention beside the first one's answer."""

    def __init__(self, weights: str) -> None:
        super().__init__("cpu", weights)
        self.first, self.lent = self._network, False

    def use(self, network: LensNetwork, *, lent: bool) -> None:
        """Predict by a network from now on."""
        self._network, self.lent = network, lent
        self.forget()

    def predict(self, *given: Any, **named: Any) -> Prediction:
        """Predict; where the attention is lent, the first network answers all but that."""
        found = super().predict(*given, **named)
        if not self.lent:
            return found
        self.use(self.first, lent=False)
        return replace(super().predict(*given, **named), trace=found.trace)


def without_asking(network: LensNetwork) -> LensNetwork:
    """Return the network with random projections to the cross-attention's queries."""
    torch.manual_seed(1)
    fresh, state = build(network.config).state_dict(), dict(network.state_dict())
    state |= {name: fresh[name] for name in state if ".cross.to_query." in name}
    made = channels_last(build(network.config)).eval()
    made.load_state_dict(state)
    return made


def networks_of(engine: Broken) -> dict[str, LensNetwork]:
    """Return the network as it is and the broken ones."""
    names = ("attention", *(f"+ {part}" if n else part for n, part in enumerate(PARTS)))
    made = (without_asking(engine.first), *randomised(engine.first))
    return {SHIPPED: engine.first} | dict(zip(names, made, strict=True))


def rows_of(engine: Broken, networks: dict[str, LensNetwork], folder: Path) -> Iterator[dict]:
    """Yield a row for each map that could be judged."""
    named = {s: str(folder / f"{s}.nii.gz") for s in MrSequence}
    named = {s: path for s, path in named.items() if Path(path).is_file()}
    study = open_study(folder, named=named)
    for name, network in networks.items():
        for lent in (False,) if name == SHIPPED else (False, True):
            engine.use(network, lent=lent)
            maps = Lens(engine=engine)(study).analysis.maps
            for region, checks in ({} if maps is None else maps.checks).items():
                if checks.reliable is not None:
                    yield {
                        "case": folder.name,
                        "weights": name,
                        "judged_by": LENT if lent else OWN,
                        "region": region.value,
                        "passed": checks.reliable,
                        "words": checks.words,
                        "left": [checks.deletion_half, checks.deletion],
                    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return how many maps failed, in Markdown."""
    lines = ["| weights | judged by | WT | TC | ET | failed |", "|---|---|---|---|---|---|"]
    for name, by in dict.fromkeys((row["weights"], row["judged_by"]) for row in rows):
        mine = [row for row in rows if (row["weights"], row["judged_by"]) == (name, by)]
        cells = []
        for region in ("wt", "tc", "et", None):
            some = [not row["passed"] for row in mine if region in {None, row["region"]}]
            cells.append(f"{sum(some)} of {len(some)}")
        lines.append(f"| {name} | {by} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure every case, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="synthetic")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    engine = Broken(options.weights)
    networks = networks_of(engine)
    rows: list[dict[str, Any]] = []
    for folder in sorted(p for p in options.data.iterdir() if p.is_dir()):
        rows += rows_of(engine, networks, folder)
        print(folder.name, flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()

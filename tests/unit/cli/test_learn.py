"""What `lesionlens learn` prints."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from lesionlens.cli import learn
from lesionlens.cli.console import StopRequest
from lesionlens.cli.main import _print
from lesionlens.training.learning.proposal import MetricChange

GATHERED = SimpleNamespace(
    reviews=("a",), counts={"accepted": 2, "edited": 1}, left_out=(("d", "not signed"),)
)
TRAINED = SimpleNamespace(step=5, steps=9, minutes=1.25)


@pytest.mark.parametrize(("stopped", "status"), [(True, 130), (False, 0)])
def test_a_training_that_is_not_finished_is_continued(monkeypatch, stopped, status):
    stop = StopRequest()
    if stopped:
        stop.set()
    monkeypatch.setattr(learn, "STOP", stop)
    outcome = SimpleNamespace(gathered=GATHERED, trained=TRAINED, proposal=None)
    done = learn._output(outcome, Path("out"))
    assert done.output == ("1 signed study: 2 accepted, 1 edited", "5 of 9 steps in 1.2 minutes")
    assert done.notes == (
        "d is not used for training: not signed",
        "stopped; the same command continues",
    )
    assert done.status == status


def test_a_proposal_is_compared_and_names_the_command_that_accepts_it(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")

    def change(title, interval):
        return MetricChange(
            title=title, better=1, key="k", cases=5, before=0.5, after=0.625, interval=interval
        )

    proposal = SimpleNamespace(
        patients=(change("Dice", (0.1, 0.15)),),
        drawn=(change("Dice", None),),
        cautions=("Few [b] patients",),
        proposed=SimpleNamespace(version="0.5.0+1"),
        parent=SimpleNamespace(version="0.5.0"),
    )
    outcome = SimpleNamespace(gathered=GATHERED, trained=TRAINED, proposal=proposal)
    _print(learn._output(outcome, Path("my out")), quiet=True, in_json=True)
    printed = capsys.readouterr().out
    held_out, synthetic = (line for line in printed.splitlines() if ": Dice" in line)
    assert held_out.split()[:8] == [
        "held",
        "out:",
        "Dice",
        "5",
        "0.500",
        "0.625",
        "+0.125",
        "+0.100",
    ]
    assert synthetic.split()[:7] == ["synthetic:", "Dice", "5", "0.500", "0.625", "+0.125", "–"]
    assert "CAUTION  Few [b] patients" in printed
    assert "Proposed: 0.5.0+1, in place of 0.5.0" in printed
    assert 'lesionlens weights accept "my out" --by "YOUR NAME"' in printed

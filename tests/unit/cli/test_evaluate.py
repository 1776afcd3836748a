"""`lesionlens evaluate`: how its tables look."""

import pytest

from lesionlens.analysis.evaluation.summary import CaseScore
from lesionlens.cli import main
from lesionlens.cli.console import CommandOutput
from lesionlens.cli.evaluate import _case_table

SCORES = {"wt": 0.886, "tc": 0.68, "et": 0.724, "hd95_wt": 11.2, "ece": 0.007}
COUNTS = {"found": 1.0, "lesions": 1.0, "fp": 0.0, "point_wt": 1.0}


@pytest.mark.parametrize("name", ["BraTS-PED-00002-000", "BraTS20_Training_002"])
def test_a_case_takes_one_line_on_a_terminal_of_80_columns(name, capsys, monkeypatch):
    """The gaps between its nine numbers left the name eleven letters."""
    monkeypatch.setenv("COLUMNS", "80")
    table = _case_table([CaseScore(name, healthy=False, metrics=SCORES | COUNTS)])
    main._print(CommandOutput((table,)), quiet=False, in_json=False)
    (row,) = (line for line in capsys.readouterr().out.splitlines() if name in line)
    assert row.split() == [name, "0.886", "0.680", "0.724", "11.2", *"1101", "0.007"]

"""Units are read in a thread and taken on the main one, never half read."""

import subprocess
import sys

import pytest

pytest.importorskip("pint")

READ_ASIDE = """
import threading
from pint import get_application_registry
from pint.registry import LazyRegistry
from lesionlens.napari.controllers.units import read_units, install_units

found = []
thread = threading.Thread(target=lambda: found.append(read_units()))
thread.start()
thread.join()
used = {used}
if used:
    before = get_application_registry().pixel
assert (type(get_application_registry().get()) is LazyRegistry) is not used
install_units(found[0])
assert (get_application_registry().get() is found[0]) is not used
if used:
    assert 2 * before == 2 * get_application_registry().pixel
assert str(get_application_registry().Quantity("1 mm").to("m").units) == "meter"
"""


@pytest.mark.parametrize("used", [False, True])
def test_units_that_were_read_aside_are_taken_unless_some_are_in_use(used):
    code = READ_ASIDE.replace("{used}", str(used))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""For tests of brain and head, whose images have the right names."""

import pytest

from lesionlens.imaging.preparation.checks import single_name


@pytest.fixture
def name_unchecked(monkeypatch):
    """Prepare a single image without the check of its name, which registers a template to it.

    `test_sequence_from_image` tests the check, `test_from_mask` that its result is reported, and
    `test_prepare` prepares single images with it.
    """
    monkeypatch.setattr(single_name, "check", lambda *_: None)

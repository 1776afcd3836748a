"""Plugins that are missing."""

from __future__ import annotations

import pytest

from lesionlens.base import errors, plugins


def test_a_missing_plugin_names_what_is_installed():
    with pytest.raises(errors.MissingPluginError, match=r"(?s)'toaster'.*dicom.*nifti"):
        plugins.load(plugins.READERS, "toaster")

"""The number of CPU threads for computation."""

from __future__ import annotations

import os
import sys


def use_threads(count: int | None) -> None:
    """Set the number of threads for registration and for an engine that is loaded next.

    Results do not depend on it. numpy reads its number from the environment when imported.

    Parameters
    ----------
    count : int or None
        None for each library's default.
    """
    if count is None:
        return
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)
    else:
        os.environ["OMP_NUM_THREADS"] = str(count)  # read when torch is imported
        os.environ["MKL_DYNAMIC"] = "FALSE"  # else no more than physical cores

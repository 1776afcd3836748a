"""What the network reads does not hang on a rounding error."""

import numpy as np
import torch

from lesionlens.engines import network_input


def test_a_mask_that_half_covers_voxels_is_read_alike_by_torch_and_numpy(make_prepared):
    prepared = make_prepared()
    for spacing in (1.0, 2.0, 3.0):
        spacing_mm = spacing * prepared.working.spacing_mm[0]
        ours = network_input.make_network_input(prepared, spacing_mm, torch.device("cpu"))
        theirs = network_input.make_network_input(prepared, spacing_mm, None)
        np.testing.assert_array_equal(ours.brain.numpy(), theirs.brain)
        np.testing.assert_allclose(ours.channels.numpy(), theirs.channels, atol=1e-4)

"""The resection cavity, from networks that outline it beside the three regions."""

from __future__ import annotations

from lesionlens.base.array_ops import Array, floats, namespace, sigmoid
from lesionlens.base.labels import Region
from lesionlens.engines.lens.pass_output import PassOutput

NOTICE = (
    "The resection cavity is outlined where its probability is at least .5; this probability is "
    "not calibrated"
)


def mean_probability(out: PassOutput, mirrored: PassOutput) -> Array | None:
    """Return the (1, I, J, K) mean of two passes, the second mirrored; None without that channel.

    The three regions' temperatures do not apply to it.
    """
    if out.logits.shape[1] == len(Region):
        return None
    original, reflected = (
        sigmoid(floats(output.logits[0, len(Region) :])) for output in (out, mirrored)
    )
    return (original + namespace(original).flip(reflected, (1,))) / 2

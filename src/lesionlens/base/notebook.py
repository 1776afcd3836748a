"""For notebooks: data frames, and tables and images as HTML, in which all text is escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lesionlens.base.errors import MissingPluginError
from lesionlens.base.grid import Grid

if TYPE_CHECKING:
    import pandas as pd

_WIDTH = 180
"""Image width in CSS pixels."""
_WINDOW_PERCENT = (1.0, 99.5)
_OUTLINE = (230, 159, 0)


def data_frame(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Return rows as a data frame.

    Raises
    ------
    MissingPluginError
        pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingPluginError(
            "pandas, which creates data frames, is not installed.",
            hint='Install it: pip install "lesionlens[cohort]"',
        ) from error
    return pd.DataFrame(rows, columns=columns)


def table(rows: Mapping[str, str]) -> str:
    """Return a two-column HTML table.

    Examples
    --------
    >>> table({"name": "<b>"})
    '<table><tr><th style="text-align:left">name</th><td>&lt;b&gt;</td></tr></table>'
    """
    cells = (
        f'<tr><th style="text-align:left">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f"<table>{''.join(cells)}</table>"


def pictures(shown: Sequence[tuple[str, NDArray[np.uint8], float]]) -> str:
    """Return images side by side as HTML.

    Parameters
    ----------
    shown : sequence of (str, (rows, columns, 3) array, float)
        A caption, the pixels, and the height of a pixel divided by its width.
    """
    from PIL import Image

    figures = []
    for caption, pixels, ratio in shown:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        height = round(_WIDTH * ratio * pixels.shape[0] / pixels.shape[1])
        figures.append(
            '<figure style="display:inline-block;margin:4px">'
            f'<img width="{_WIDTH}" height="{height}" alt="{escape(caption)}" '
            f'src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    return "".join(figures)


def axial_picture(
    voxels: NDArray[Any], grid: Grid, mask: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.uint8], float]:
    """Render one axial slice in radiological convention: the patient's right is on the left.

    Parameters
    ----------
    mask : (I, J, K) bool array or None
        Outlined, on the slice where its area is largest; None renders the middle slice.

    Returns
    -------
    pixels, ratio
        (rows, columns, 3) uint8, and the height of a pixel divided by its width.
    """
    from nibabel.orientations import apply_orientation, io_orientation
    from scipy.ndimage import binary_erosion

    axes = io_orientation(grid.affine)
    image = apply_orientation(voxels, axes)
    oriented_mask = np.zeros(image.shape, bool) if mask is None else apply_orientation(mask, axes)
    areas = oriented_mask.sum(axis=(0, 1))
    slice_index = int(areas.argmax()) if areas.any() else image.shape[2] // 2
    grey = _windowed(image[:, :, slice_index])
    shape = oriented_mask[:, :, slice_index]
    rgb = np.repeat(grey[..., None], 3, axis=2)
    rgb[shape & ~binary_erosion(shape)] = _OUTLINE
    oriented: NDArray[np.uint8] = np.ascontiguousarray(rgb[::-1, ::-1].transpose(1, 0, 2))
    across, along, _ = grid.spacing_mm[np.argsort(axes[:, 0])]
    return oriented, float(along / across)


def _windowed(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = np.nanpercentile(values, _WINDOW_PERCENT)
    scaled = (np.nan_to_num(values) - low) / max(float(high - low), 1e-9)
    grey: NDArray[np.uint8] = (np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return grey

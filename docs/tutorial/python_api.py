# %% [markdown]
# # From Python
# Open a study, analyse it, examine the candidates and the attention of the network. Every cell was run when this page was
# built. LesionLens is for research: it flags regions and does not exclude disease.

# %%
from pathlib import Path
from tempfile import mkdtemp

from lesionlens import Lens, Region, Result, open_study
from lesionlens.testing import SAMPLE_STUDY

study = open_study(SAMPLE_STUDY)
study

# %% [markdown]
# A study holds at most one series for each sequence. `study["t1c"].load()` returns the voxels, `.grid` their
# position in the patient.

# %%
study["t1c"].grid

# %% [markdown]
# `Lens` loads the network once and analyses any number of studies. `Lens("cuda")` uses a GPU.

# %%
result = Lens("cpu")(study)
result

# %% [markdown]
# Candidates are plain records: measurements in millimetres and millilitres, in the patient's RAS+ frame.

# %%
candidate = result.candidates[0]
candidate

# %%
result.to_dataframe().T

# %% [markdown]
# ## Maps
# `labels`, `probability` and `attention` are volumes on the grid of the reference sequence. Keys may be strings.

# %%
import matplotlib.pyplot as plt
import numpy as np

image, labels = study["t1c"].load(), np.asarray(result.labels)
level = int((labels > 0).sum(axis=(0, 1)).argmax())
figure, axes = plt.subplots(1, 3, figsize=(11, 4))
shown = {"T1c": image, "probability": result.probability["wt"], "attention": result.attention["wt"]}
for axis, (title, volume) in zip(axes, shown.items(), strict=True):
    axis.imshow(
        np.rot90(np.asarray(volume)[:, :, level]), cmap="gray" if title == "T1c" else "inferno"
    )
    axis.set_title(title)
    axis.axis("off")

# %% [markdown]
# ## Ask the network
# Where does one voxel attend? How much did each sequence contribute? What is outlined from a prompt at one voxel?

# %%
i, j, k = (int(v) for v in np.rint(result.labels.grid.to_voxel(candidate.peak_mm)))
attended = result.probe(voxel=(i, j, k))
float(np.asarray(attended).max()), candidate.sequence_relevance

# %%
outline = result.prompt(points=[((i, j, k), True)], region=Region.TC)
float((outline.data >= 0.5).sum() * result.labels.grid.voxel_ml)

# %% [markdown]
# ## Save, and open again
# From the folder alone you get candidates, maps and readers' decisions; with the study, everything.

# %%
folder = result.save(Path(mkdtemp()) / "demo")
Result.open(folder)

# %%
sorted(path.name for path in folder.iterdir())

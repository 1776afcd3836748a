# %% [markdown]
# # Many studies and their scores
# Analyse a folder of studies, read the table of all results, and score them against references. The two patients here are
# synthetic and small: their figures do not show how good the network is. For that, read the model card, and test it on
# cases of your own.

# %%
import shutil
from pathlib import Path
from tempfile import mkdtemp

import nibabel as nib
import pandas as pd

import lesionlens
from lesionlens.testing import Lesion, make_patient

place = Path(mkdtemp())
for name, lesion in (("case_01", Lesion()), ("case_02", Lesion((30.0, -40.0, 12.0), 14.0))):
    patient = make_patient(spacing_mm=2.0, lesions=(lesion,))
    case = place / "cases" / name
    case.mkdir(parents=True)
    for kind, image in (*patient.sequences.items(), ("seg", patient.labels)):
        nib.save(
            nib.Nifti1Image(image.data.round().astype("int16"), image.affine),
            case / f"{kind}.nii.gz",
        )
sorted(str(path.relative_to(place)) for path in (place / "cases").rglob("*.nii.gz"))

# %% [markdown]
# ## Analyse all
# `batch` writes a result folder for each study and one table. A study that fails is recorded and does not stop
# the others; `resume=True` skips complete results.

# %%
done = lesionlens.batch(place / "cases", place / "results", device="cpu")
[(outcome.name, outcome.status.value, round(outcome.seconds, 1)) for outcome in done.outcomes]

# %%
table = pd.read_csv(place / "results" / "cohort.csv")
table[["study", "status", "score", "volume_ml_wt", "location_region"]]

# %% [markdown]
# ## Score against references
# The reference segmentation of each case lies beside it, as in BraTS. `evaluate` measures Dice, distances, lesions found and missed,
# calibration, and whether the attention lies in the tumour. Intervals are bootstrapped over cases: with two cases they mean little.

# %%
scores = lesionlens.evaluate(place / "results", place / "cases")
scores

# %%
scores.to_dataframe()[["wt", "tc", "et", "found", "lesions", "fp", "point_wt"]]

# %%
from IPython.display import Image

Image(scores.plot(place / "scores.png"), width=760)

# %% [markdown]
# `scores.to_json()` holds everything, as `lesionlens evaluate --json FILE` writes it.

# %%
shutil.rmtree(place)

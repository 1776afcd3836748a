"""The browser's page reads the names of files as the program does."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from lesionlens.imaging.reading.sequences import from_name

NAMES_JS = Path(__file__).parents[2] / "web" / "page" / "names.js"
NAMES = [
    "t1.nii.gz", "T1w_Gd.nii", "t1post.nii.gz", "BraTS-PED-00003-000-t1n.nii.gz", "a_T2_FLAIR.nii",
    "t1_pre_contrast.nii.gz", "t1_ohne_gd.nii.gz", "AX_T1_W_O_CONTRAST.nii.gz", "t1_sans_gado.nii",
    "AX_T1_POST_WO_FS.nii.gz", "sub-01_ses-post_T1w.nii.gz", "sub-01_ses-pre_ce-gd_T1w.nii.gz",
    "centre_t1.nii.gz", "t1_seg.nii.gz", "t2w.nii", "пациент t1c.nii.gz", "t1_before_gd.nii.gz",
    "t1_gd_before_surgery.nii.gz",
]  # fmt: skip


@pytest.mark.skipif(shutil.which("node") is None, reason="not installed: node")
def test_the_page_reads_names_as_the_program_does():
    code = (
        f"import {{ sequenceOf }} from {json.dumps(NAMES_JS.as_uri())};"
        f"console.log(JSON.stringify({json.dumps(NAMES)}.map(sequenceOf)))"
    )
    done = subprocess.run(
        ["node", "--input-type=module", "-e", code], capture_output=True, text=True, check=True
    )
    wanted = [found.value if (found := from_name(name).sequence) else "" for name in NAMES]
    assert dict(zip(NAMES, json.loads(done.stdout), strict=True)) == dict(
        zip(NAMES, wanted, strict=True)
    )

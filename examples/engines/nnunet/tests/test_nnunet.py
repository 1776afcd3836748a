"""The engine keeps the contract, with a tiny trained folder; its sides and labels are right."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

nnunetv2 = pytest.importorskip("nnunetv2")
torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
pytestmark = pytest.mark.filterwarnings("ignore")  # of nnU-Net's own parts

from lesionlens_nnunet import engine as nnunet

from lesionlens.plugin import SILENT, LesionLensError, Region, UnusableInputError, WeightsError
from lesionlens.testing import check_engine, prepared_head

ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 2,
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
_RESAMPLE = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
_TO_SHAPE = "resample_data_or_seg_to_shape"
LABELS = {"background": 0, "necrosis": 1, "oedema": 2, "enhancing tumor": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("nnUNetTrainer__nnUNetPlans__3d_fullres")
    how = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [32, 32, 32],
        "median_image_size_in_voxels": [40.0, 48.0, 40.0],
        "spacing": [4.0, 4.0, 4.0],
        "normalization_schemes": ["ZScoreNormalization"] * 2,
        "use_mask_for_norm": [False, False],
        "resampling_fn_data": _TO_SHAPE,
        "resampling_fn_seg": _TO_SHAPE,
        "resampling_fn_probabilities": _TO_SHAPE,
        "resampling_fn_data_kwargs": _RESAMPLE,
        "resampling_fn_seg_kwargs": {**_RESAMPLE, "is_seg": True},
        "resampling_fn_probabilities_kwargs": _RESAMPLE,
        "architecture": ARCHITECTURE,
        "batch_dice": True,
    }
    plans = {
        "dataset_name": "Dataset001_Tiny",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [4.0, 4.0, 4.0],
        "original_median_shape_after_transp": [42, 53, 44],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": how},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}, "1": {}},
    }
    about = {
        "channel_names": {"0": "T1ce", "1": "FLAIR"},
        "labels": LABELS,
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (made / "plans.json").write_text(json.dumps(plans))
    (made / "dataset.json").write_text(json.dumps(about))
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    torch.manual_seed(0)
    kwargs = dict(ARCHITECTURE["arch_kwargs"])
    kwargs |= {"conv_op": torch.nn.Conv3d, "norm_op": torch.nn.InstanceNorm3d}
    kwargs["nonlin"] = torch.nn.LeakyReLU
    network = PlainConvUNet(input_channels=2, num_classes=4, deep_supervision=False, **kwargs)
    (made / "fold_0").mkdir()
    kept = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(kept, made / "fold_0" / nnunet.CHECKPOINT)
    return made


@pytest.fixture(scope="module")
def engine(folder):
    return nnunet.NnUNetEngine("cpu", folder)


def test_it_keeps_the_contract(engine):
    check_engine(engine)


def test_a_sequence_that_it_needs_is_asked_for(engine):
    with pytest.raises(UnusableInputError, match="FLAIR"):
        engine.predict(prepared_head(["t1c"]), context=SILENT)


def test_left_stays_left():
    image = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    np.testing.assert_array_equal(nnunet.from_itk(nnunet.as_itk(image)), image)
    assert nnunet.as_itk(image)[0, 4, 3, 0] == image[0, 2, 0, 4]


def test_labels_are_told_by_their_names():
    whole = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "ET": [3]}
    nested = {Region.WT: [0], Region.TC: [1], Region.ET: [2]}
    parts = {Region.WT: [1, 2, 3], Region.TC: [1, 3], Region.ET: [3]}
    treated = {"background": 0, "NETC": 1, "SNFH": 2, "ET": 3, "RC": 4}
    assert nnunet.regions_of(whole) == (nested, None)
    assert nnunet.regions_of(whole | {"resection cavity": [4]}) == (nested, 3)
    assert nnunet.regions_of(LABELS) == (parts, None)
    assert nnunet.regions_of(treated) == (parts, 4)
    with pytest.raises(LesionLensError, match="liver"):
        nnunet.regions_of({"background": 0, "liver": 1})
    with pytest.raises(LesionLensError, match="ct"):
        nnunet.sequences_of({"0": "CT"})


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="nnUNetv2_train"):
        nnunet.NnUNetEngine("cpu", tmp_path)

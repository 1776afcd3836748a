"""What OHIF makes of our objects: every voxel of SEG and map, the list of measures, from Orthanc.

    OHIF_DIST=…/@ohif/app/dist pytest -m slow tests/nightly  # from `npm pack @ohif/app@3.13.2`

Pictures go where OHIF_PICTURES says, of what has been drawn after OHIF_PICTURES_AFTER seconds.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from tests.nightly import ohif
from tests.nightly.frames import in_frames
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis
from tests.phantoms.files import write_dicom

from lesionlens.base.labels import MapExtent, MrSequence
from lesionlens.base.records.export import ExportOptions
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.testing import Lesion, make_patient

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(ohif.missing()), reason=f"not installed: {ohif.missing()}"),
]
SETS = "services.displaySetService.getActiveDisplaySets()"
LOAD = (
    "const ds = services.displaySetService.getDisplaySetByUID('{uid}');"
    "await ds.load({{headers: {{}}}});"
)


KINDS = {
    "classic": Acquisition("LPS", matrix_step=8),
    "oblique": Acquisition("LPS", (2.0, 3.0, 4.0), 17.0, matrix_step=2),
    "5 mm": Acquisition("LPS", (2.0, 2.0, 5.0), matrix_step=2),
    "enhanced": Acquisition("LPS", None, 8.0, matrix_step=2),
}


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    """A study of two lesions and the objects of its result; maps at the source's size."""
    place = tmp_path_factory.mktemp(request.param.replace(" ", "-"), numbered=False)
    patient = make_patient(spacing_mm=2.0, lesions=(Lesion(), Lesion((30.0, -40.0, 12.0), 12.0)))
    both = (MrSequence.T1C, MrSequence.FLAIR)
    write_dicom(patient, place / "study", sequences=both, how=KINDS[request.param])
    if request.param == "enhanced":
        in_frames(place / "study", enhanced=True)
    analysis = make_analysis(patient, open_study(place / "study"))
    analysis = replace(analysis, options=ExportOptions(maps=MapExtent.FULL))
    assert DicomExporter().write(analysis, place).left_out == {}
    return place


@pytest.fixture(scope="module")
def page(folder):
    """The study in OHIF's viewer."""
    files = [p for part in ("study", "dicom") for p in (folder / part).rglob("*") if p.is_file()]
    ours = len(list((folder / "dicom").iterdir()))
    uid = pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID
    (folder / "archive").mkdir()
    with ohif.orthanc(folder / "archive") as port:
        ohif.store(port, files)
        with ohif.pages(port) as web, ohif.browser(folder / "browser") as found:
            address = f"http://127.0.0.1:{web}/viewer?StudyInstanceUIDs={uid}"
            found.call("Page.navigate", url=address)
            found.until(f"{SETS}.length >= {2 + ours}", 180)
            found.until("cornerstone.getEnabledElements().length > 0", 60)
            yield found


def _uid(page, words):
    """Return OHIF's identifier of the series whose description has these words."""
    script = f"return {SETS}.find(d => (d.SeriesDescription || '').includes('{words}'))"
    return page.run(script + ".displaySetInstanceUID")


def _picture(page, folder, name):
    if "OHIF_PICTURES" in os.environ:
        time.sleep(float(os.environ.get("OHIF_PICTURES_AFTER", "3")))
        pictures = Path(os.environ["OHIF_PICTURES"])
        pictures.mkdir(parents=True, exist_ok=True)
        page.picture(pictures / f"{name}-{folder.name}.png")


def test_every_voxel_of_the_segmentation_is_where_it_was_drawn(page, folder):
    found = page.run(
        LOAD.format(uid=_uid(page, "regions"))
        + """
        const out = [];
        ds.labelMapImages.flat().forEach(image => {
            const data = image.voxelManager.getScalarData(), held = {};
            for (let i = 0; i < data.length; i++)
                if (data[i]) (held[data[i]] = held[data[i]] || []).push(i);
            const [instance, , frame] = image.referencedImageId.split('/instances/')[1].split('/');
            for (const [number, places] of Object.entries(held))
                out.push([Number(number), instance, Number(frame), places]);
        });
        return out;"""
    )
    ds = pydicom.dcmread(folder / "dicom" / "seg.dcm")
    meant = {}
    for frame, groups in zip(ds.pixel_array, ds.PerFrameFunctionalGroupsSequence, strict=True):
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        if frame.any():
            places = np.flatnonzero(frame.ravel()).tolist()
            of_source = int(source.get("ReferencedFrameNumber", 1))
            meant[number, source.ReferencedSOPInstanceUID, of_source] = places
    assert {(number, uid, n): places for number, uid, n, places in found} == meant
    _skip_the_tour(page)
    page.click("LesionLens regions", times=2)
    page.until("document.body.innerText.includes('open this Segmentation')")
    page.click("Yes")
    shown = "services.segmentationService.getSegmentations()"
    page.until(f"{shown}.length === 1")
    names = page.run(f"return Object.values({shown}[0].segments).map(s => s.label)")
    assert names == [segment.SegmentLabel for segment in ds.SegmentSequence]
    page.run(
        "const shown = cornerstone.getEnabledElements()[0].viewport;"
        "await shown.setImageIdIndex(Math.floor(0.48 * shown.getImageIds().length));"
    )
    _picture(page, folder, "ohif-seg")


def _show(page, uid):
    page.run(
        "const viewportId = services.viewportGridService.getActiveViewportId();"
        "await commandsManager.run('setDisplaySetsForViewports', {viewportsToUpdate:"
        f" [{{viewportId, displaySetInstanceUIDs: ['{uid}']}}]}});"
    )


def _skip_the_tour(page):
    time.sleep(1)
    page.run(
        "document.querySelectorAll('button, a').forEach(b => "
        "{ if (/Skip all/.test(b.textContent)) b.click() })"
    )


def test_a_map_at_the_sources_size_has_every_value(page, folder):
    places, planes, window = page.run(
        f"const ds = services.displaySetService.getDisplaySetByUID('{_uid(page, 'whole tumour')}');"
        """
        const id = ds.getReferencedVolumeId();
        const sets = services.displaySetService;
        const source = sets.getDisplaySetByUID(ds.referencedDisplaySetInstanceUID);
        if (!cornerstone.cache.getVolume(id)) {
            const imageIds = source.imageIds ?? source.images.map(i => i.imageId);
            (await cornerstone.volumeLoader.createAndCacheVolume(id, {imageIds})).load();
        }
        await ds.load({headers: {}});
        const volume = cornerstone.cache.getVolume(ds.displaySetInstanceUID);
        const data = volume.voxelManager.getCompleteScalarDataArray();
        const places = cornerstone.cache.getVolume(id).imageIds.map(
            each => cornerstone.metaData.get('imagePlaneModule', each).imagePositionPatient);
        const size = data.length / places.length;
        const planes = places.map((_, k) => Array.from(data.slice(k * size, (k + 1) * size)));
        return [places.map(p => Array.from(p)), planes, volume.metadata.voiLut[0]];"""
    )
    ds = pydicom.dcmread(folder / "dicom" / "attention.dcm")
    meant = np.frombuffer(ds.FloatPixelData, "<f4").reshape(int(ds.NumberOfFrames), -1)
    np.testing.assert_allclose(planes, 100 * meant, atol=1e-4)
    of_frames = [
        [float(v) for v in groups.PlanePositionSequence[0].ImagePositionPatient]
        for groups in ds.PerFrameFunctionalGroupsSequence
    ]
    np.testing.assert_allclose(places, of_frames, atol=0.01)  # where OHIF puts each plane
    assert window["windowWidth"] == pytest.approx(100 * meant.max(), abs=1.5)


def _plane(source, frame):
    """Return position, row direction and column direction (mm a pixel) of a source's frame."""
    groups = [source]
    if "PerFrameFunctionalGroupsSequence" in source:
        of_frame = source.PerFrameFunctionalGroupsSequence[frame - 1]
        shared = source.SharedFunctionalGroupsSequence[0]
        groups = [e.value[0] for part in (of_frame, shared) for e in part if e.VR == "SQ"]
    position, orientation, spacing = (
        np.array(next(g[k].value for g in groups if k in g), float)
        for k in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    return position, orientation[:3] * spacing[1], orientation[3:] * spacing[0]


def _positions_mm(folder):
    """Return every position of the report's diameters, LPS+ mm, sorted."""
    report = pydicom.dcmread(folder / "dicom" / "sr.dcm")
    sources = {}
    for path in (folder / "study").rglob("*"):
        if path.is_file():
            ds = pydicom.dcmread(path, stop_before_pixels=True)
            sources[ds.SOPInstanceUID] = ds
    found = []
    for item in report.iterall():
        if item.keyword != "ContentSequence":
            continue
        for line in item.value:
            if line.ValueType == "SCOORD3D":
                found += np.reshape(line.GraphicData, (-1, 3)).tolist()
            elif line.ValueType == "SCOORD":
                image = line.ContentSequence[0].ReferencedSOPSequence[0]
                source = sources[image.ReferencedSOPInstanceUID]
                corner, right, down = _plane(source, int(image.get("ReferencedFrameNumber", 1)))
                for column, row in np.reshape(line.GraphicData, (-1, 2)):
                    found.append((corner + (column - 0.5) * right + (row - 0.5) * down).tolist())
    return sorted(found)


def test_the_report_lists_its_measures_and_jumps_to_the_longest_diameter(page, folder):
    uid = _uid(page, "measurements")
    found = page.run(
        LOAD.format(uid=uid) + "return ds.measurements.map(m => [m.TrackingIdentifier, m.loaded,"
        " m.labels.map(l => [l.label, l.value])])"
    )
    assert [name for name, _, _ in found] == [
        "Candidate 1, enhancing tumour",
        "Candidate 2, enhancing tumour",
    ]
    for _, loaded, rows in found:
        assert loaded
        assert [name for name, value in rows if value] == [
            "Volume", "Long axis", "Short axis", "Whole tumour volume", "Tumour core volume",
        ]  # fmt: skip
        assert "research use only" in rows[0][0]
    _show(page, uid)
    if folder.name != "oblique":  # of pixels that are not square OHIF lists the measures alone
        page.until("cornerstone.getEnabledElements()[0].viewport.getCurrentImageIdIndex() > 0", 30)
    _picture(page, folder, "ohif-sr")
    drawn_mm = page.run(
        """
        return cornerstoneTools.annotation.state.getAllAnnotations()
            .filter(each => each.metadata.toolName === 'DICOMSRDisplay')
            .flatMap(each => Object.values(each.data.renderableData).flat(2))
            .map(point => Array.from(point));"""
    )
    meant_mm = _positions_mm(folder)
    assert len(meant_mm) >= 4
    np.testing.assert_allclose(sorted(drawn_mm), meant_mm, atol=2.0)
    _show(page, _uid(page, "whole tumour"))
    _picture(page, folder, "ohif-map")

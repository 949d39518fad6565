"""The simulated active-stereo camera against geometry that is known by hand (no renderer needed)."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from realdiff_core.camera import CameraModel
from realdiff_core.errors import CameraError
from realdiff_sim_bridge.stereo.arrays import make_arrays
from realdiff_sim_bridge.stereo.infrared import ImagerView, Optics, stack_views
from realdiff_sim_bridge.stereo.sensor import StereoFrame, StereoSensor
from realdiff_sim_bridge.stereo.settings import PURPOSES, StereoSettings, load_ranges
from realdiff_sim_bridge.stereo.statistics import statistics_of
from realdiff_sim_bridge.stereo.unit import make_unit

CAMERA = CameraModel(width=640, height=480, fx=384.0, fy=384.0, cx=319.5, cy=239.5)
BASELINE = 0.05
FACTOR = CAMERA.fx * BASELINE
SETTINGS = load_ranges("evaluation").middle()
ALBEDO, GLOSS = 0.5, 0.02
U = (np.arange(640) - 319.5) / 384.0
V = (np.arange(480) - 239.5) / 384.0


def _full(value: float) -> np.ndarray:
    return np.full((480, 640), value, np.float32)


def _tilted_wall(z: float, slope: float, imager_x: float, albedo: np.ndarray | None = None) -> ImagerView:
    """The plane Z = z + slope · X seen from `imager_x`."""
    row = (z + slope * imager_x) / (1 - slope * U)
    depth = np.repeat(row[None].astype(np.float32), 480, axis=0)
    return ImagerView(depth, _full(ALBEDO) if albedo is None else albedo, _full(GLOSS))


def _patch(z: float, imager_x: float, *, patch_z: float, albedo: float = ALBEDO, gloss: float = GLOSS) -> ImagerView:
    """A wall at z with a square of 0.3 m at `patch_z`, centred on the left imager's axis."""
    depth, reflect, shine = _full(z), _full(ALBEDO), _full(GLOSS)
    x = U * patch_z + imager_x
    y = V * patch_z
    inside = (np.abs(x)[None, :] < 0.15) & (np.abs(y)[:, None] < 0.15)
    depth[inside], reflect[inside], shine[inside] = patch_z, albedo, gloss
    return ImagerView(depth, reflect, shine)


def _measure_wall(z: float, slope: float, unit: int, seed: int = 1) -> StereoFrame:
    views = (_tilted_wall(z, slope, x) for x in (0.0, BASELINE))
    return StereoSensor(CAMERA, SETTINGS, unit).measure(*views, seed)


@pytest.mark.parametrize("z", [0.6, 1.0, 2.0])
def test_flat_wall_noise_follows_the_square_law(z: float) -> None:
    """σ = z² · s / (f · B) with s = 0.08 px, within ±40 %; mean over the units' calibration errors near the truth."""
    sigmas, offsets = [], []
    for unit in range(2):
        frame = _measure_wall(z, 0.15, unit)
        clean = _tilted_wall(z, 0.15, 0.0).depth
        error = (frame.depth - clean)[40:-40, 100:-40]
        error = error[np.isfinite(error)]
        assert error.size > 0.95 * 400 * 500
        offsets.append(np.median(error))
        sigmas.append(1.4826 * np.median(np.abs(error - np.median(error))))
    expected = z * z * 0.08 / FACTOR
    assert 0.6 * expected < np.mean(sigmas) < 1.4 * expected
    assert abs(np.mean(offsets)) < 1.5 * expected


def test_residual_is_smooth_and_mostly_static() -> None:
    frames = [_measure_wall(1.0, 0.15, unit=0, seed=seed) for seed in (1, 2)]
    clean = _tilted_wall(1.0, 0.15, 0.0).depth
    camera = dataclasses.replace(CAMERA, baseline_m=BASELINE)
    found = statistics_of([(clean, frames[0].depth)], camera)
    along_rows, along_columns = found["correlation_x"], found["correlation_y"]
    assert along_rows["1"] > 0.9
    assert 0.3 < along_rows["8"] < 0.9  # blobs of 10-20 px, not white noise
    assert along_rows["8"] > along_columns["8"]  # elongated along the rows
    change = (frames[0].disparity - frames[1].disparity) / np.sqrt(2)
    error = frames[0].disparity - FACTOR / clean
    assert 0 < np.nanstd(change) < 0.65 * np.nanstd(error)  # pattern, speckle and calibration stay, image noise doesn't


def test_disparity_and_depth_are_quantised() -> None:
    frame = _measure_wall(0.9, 0.2, unit=0)
    disparity = frame.disparity[np.isfinite(frame.disparity)] * 32
    assert np.array_equal(disparity, np.rint(disparity))
    millimetres = frame.depth[np.isfinite(frame.depth)] * 1000
    assert np.allclose(millimetres, np.rint(millimetres), atol=1e-3)
    assert np.array_equal(np.isfinite(frame.depth), np.isfinite(frame.disparity))


@pytest.mark.parametrize("purpose", PURPOSES)
def test_difficult_surfaces_drop_out(purpose: str) -> None:
    """Dark (2 % reflectance) and specular surfaces become holes, glass is not measured; matt mid-grey is."""
    sensor = StereoSensor(CAMERA, load_ranges(purpose).middle(), 0)
    inside = np.zeros((480, 640), bool)
    inside[205:275, 285:355] = True

    def shares(albedo: float, gloss: float, transmission: float = 0.0) -> tuple[float, float]:
        """Shares of the patch that become holes and that are measured where the patch is."""
        views = []
        for x in (0.0, BASELINE):
            view = _patch(1.2, x, patch_z=1.1, albedo=albedo, gloss=gloss)
            pane = np.where(view.depth < 1.15, np.float32(transmission), np.float32(0))
            views.append(dataclasses.replace(view, transmission=pane, behind=_tilted_wall(1.2, 0.0, x)))
        depth = sensor.measure(views[0], views[1], 1, _full(1.2) if transmission else None).depth[inside]
        return float(np.isnan(depth).mean()), float((np.abs(depth - 1.1) < 0.03).mean())

    grey_holes, grey_measured = shares(0.2, 0.0)
    assert grey_holes < 0.02
    assert grey_measured > 0.97
    for albedo, gloss in ((0.02, 0.0), (0.1, 0.97)):
        holes, measured = shares(albedo, gloss)
        assert holes > 0.6
        assert measured < 0.35
    _, measured = shares(0.05, 0.95, transmission=0.85)
    assert measured < 0.1


def test_what_is_mirrored_is_not_scattered() -> None:
    """The mirrored share rises with gloss and towards grazing incidence, and takes the light from the diffuse part."""
    dark = SETTINGS.model_copy(update={"highlight": 0.0, "reflection": 0.0})  # nothing bright is mirrored
    optics = Optics(make_arrays("numpy"), CAMERA, dark, make_unit(dark, CAMERA, 0))
    arrays = make_arrays("numpy")

    def light(gloss: float, slope: float) -> float:
        view = dataclasses.replace(_tilted_wall(1.0, slope, 0.0), gloss=_full(gloss))
        return float(optics.radiance(stack_views(arrays, [view]), 0, None)[0, 200:280, 280:360].mean())

    frontal = [light(gloss, 0.0) / light(0.0, 0.0) for gloss in (0.3, 0.6, 0.97)]
    for gloss, found in zip((0.3, 0.6, 0.97), frontal, strict=True):
        assert found == pytest.approx((1 - gloss * (0.04 + 0.8 * gloss**2)) ** 2, rel=0.02)
    assert light(0.3, 5.0) / light(0.0, 5.0) < 0.9 * frontal[0]


@pytest.mark.parametrize("transmission", [0.5, 0.85])
def test_glass_is_seen_through_or_not_at_all(transmission: float) -> None:
    """The matcher sees the wall behind a pane, with more holes than without; the pane itself hardly ever."""
    views = []
    for x in (0.0, BASELINE):
        front, behind = _patch(1.2, x, patch_z=1.0, albedo=0.05, gloss=0.95), _tilted_wall(1.2, 0.0, x)
        pane = np.where(front.depth < 1.1, np.float32(transmission), np.float32(0))
        views.append(ImagerView(front.depth, front.albedo, front.gloss, pane, behind))
    frame = StereoSensor(CAMERA, SETTINGS, 0).measure(views[0], views[1], 1, _full(1.2))
    inside = np.zeros((480, 640), bool)
    inside[205:275, 285:355] = True
    valid = inside & np.isfinite(frame.depth)
    assert (np.abs(frame.depth - 1.0) < 0.03)[inside].mean() < 0.05
    if transmission > 0.8:
        assert valid[inside].mean() > 0.2
        assert np.median(frame.depth[valid]) > 1.1  # nearer to the wall than to the pane, whose highlight is in view


def test_views_with_transmission_need_what_is_behind() -> None:
    with pytest.raises(ValueError, match="view behind"):
        ImagerView(_full(1.0), _full(0.5), _full(0.0), _full(0.5))


def test_occlusion_shadow_lies_left_of_a_near_object() -> None:
    """The right imager looks from the right, so what it can't see behind an object lies to the object's left."""
    near, far = 0.7, 1.6
    frame = StereoSensor(CAMERA, SETTINGS, 0).measure(*[_patch(far, x, patch_z=near) for x in (0.0, BASELINE)], 1)
    half = 0.15 / near * CAMERA.fx
    left_edge, right_edge = round(CAMERA.cx - half), round(CAMERA.cx + half)
    shadow = round(FACTOR / near - FACTOR / far)  # pixels of background that only the left imager sees
    assert shadow > 12
    rows = slice(200, 280)
    background = np.abs(frame.depth - far) < 0.1
    assert background[rows, left_edge - shadow + 2 : left_edge - 2].mean() < 0.1
    assert background[rows, right_edge + 10 : right_edge + 10 + shadow].mean() > 0.8
    assert background[rows, left_edge - 2 * shadow - 10 : left_edge - shadow - 10].mean() > 0.8


def test_projector_shadow_follows_its_depth_map() -> None:
    """With a blocker in front of the projector only, no dots fall on the wall, and little is measured."""
    wall = [_tilted_wall(1.0, 0.0, x) for x in (0.0, BASELINE)]
    sensor = StereoSensor(CAMERA, SETTINGS, 0)
    lit = sensor.measure(*wall, 1, _full(1.0))
    blocked = sensor.measure(*wall, 1, _full(0.3))
    assert np.isfinite(lit.depth[:, 60:]).mean() > 0.95
    assert np.isfinite(blocked.depth).mean() < 0.3
    assert np.diff(lit.left.astype(float), axis=1).std() > 3 * np.diff(blocked.left.astype(float), axis=1).std()


def test_nothing_is_measured_nearer_than_the_limit_or_outside_the_right_image() -> None:
    near = StereoSensor(CAMERA, SETTINGS, 0).measure(*[_tilted_wall(0.22, 0.0, x) for x in (0.0, BASELINE)], 1)
    assert np.isfinite(near.depth).mean() < 0.25  # chance matches, as in the real camera
    assert not (near.depth < 0.27).any()
    frame = _measure_wall(0.8, 0.0, unit=0)
    assert np.isnan(frame.depth[:, : round(FACTOR / 0.8) - 2]).all()
    assert np.isfinite(frame.depth[:, round(FACTOR / 0.8) + 15 :]).mean() > 0.95


def test_same_seeds_same_bytes() -> None:
    a, b = (_measure_wall(1.0, 0.3, unit=3, seed=7) for _ in range(2))
    assert a.left.tobytes() == b.left.tobytes()
    assert a.depth.tobytes() == b.depth.tobytes()
    assert _measure_wall(1.0, 0.3, unit=3, seed=8).left.tobytes() != a.left.tobytes()
    assert _measure_wall(1.0, 0.3, unit=4, seed=7).left.tobytes() != a.left.tobytes()


def test_normals_of_a_tilted_wall() -> None:
    slope = 0.5
    optics = Optics(make_arrays("numpy"), CAMERA, SETTINGS, make_unit(SETTINGS, CAMERA, 0))
    normals = optics.normals(_tilted_wall(1.0, slope, 0.0).depth[None])
    for found, expected in zip(normals, np.array([slope, 0.0, -1.0]) / np.hypot(slope, 1.0), strict=True):
        assert np.allclose(found[0, 5:-5, 5:-5], expected, atol=0.02)


def test_views_of_the_wrong_size_are_refused() -> None:
    small = ImagerView(*(np.ones((10, 10), np.float32) for _ in range(3)))
    with pytest.raises(CameraError, match="size"):
        StereoSensor(CAMERA, SETTINGS, 0).measure(small, small, 1)
    with pytest.raises(ValueError, match="one size"):
        ImagerView(np.ones((4, 4), np.float32), np.ones((4, 5), np.float32), np.ones((4, 4), np.float32))


def test_a_distorted_camera_is_refused() -> None:
    bent = CameraModel(width=640, height=480, fx=384, fy=384, cx=320, cy=240, distortion=(0.1, 0, 0, 0, 0))
    with pytest.raises(CameraError, match="rectified"):
        StereoSensor(bent, StereoSettings(), 0)

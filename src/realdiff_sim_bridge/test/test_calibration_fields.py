"""Distance fields, silhouettes and the derivatives of the alignment, each against an independent reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from realdiff_core.camera import CameraModel
from realdiff_sim_bridge.calibration.fields import MaskFields, signed_distance
from realdiff_sim_bridge.calibration.fit import PARAMETERS, Contours, Estimate, Problem
from realdiff_sim_bridge.calibration.silhouettes import RobotRenderer, contour_pixels
from realdiff_sim_bridge.calibration.synthetic import MaskNoise, MeshRobot, fill_triangles, silhouette
from realdiff_sim_bridge.geometry import Pose, look_at
from scipy.spatial.transform import Rotation
from sim_fixtures import needs_gl

ROWS, COLUMNS = np.mgrid[0:200, 0:260]
CENTRE = np.array([120.3, 95.6])


def _disc(radius: float) -> np.ndarray:
    return np.hypot(COLUMNS - CENTRE[0], ROWS - CENTRE[1]) < radius


def test_signed_distance_of_a_disc() -> None:
    distance = signed_distance(_disc(50.0))
    truth = np.hypot(COLUMNS - CENTRE[0], ROWS - CENTRE[1]) - 50.0
    assert np.abs(distance - truth).max() < 0.8
    assert abs(float((distance - truth)[np.abs(truth) < 20].mean())) < 0.05  # the contour itself isn't shifted


@pytest.mark.parametrize("full", [False, True])
def test_signed_distance_without_a_contour(full: bool) -> None:
    distance = signed_distance(np.full((30, 40), full))
    assert np.all(distance == (-50 if full else 50))


@pytest.mark.parametrize("offset", [-4.0, -0.7, 0.0, 1.3, 5.0])
def test_distance_along_the_normal_is_not_shortened_by_a_ragged_outline(offset: float) -> None:
    noise = MaskNoise(jitter_px=1.0, correlation_px=2.0)
    masks = [noise.apply(_disc(50.0), np.random.default_rng(k)) for k in range(40)]
    fields = MaskFields(masks, [np.ones_like(masks[0])] * len(masks))
    angle = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    normals = np.tile(np.stack([np.cos(angle), np.sin(angle)], axis=1), (len(masks), 1))
    views = np.repeat(np.arange(len(masks)), len(angle))
    pixels = CENTRE + (50.0 + offset) * normals
    along = fields.sample_along(views, pixels, normals, 9)
    assert along.known.all()
    assert along.distance.mean() == pytest.approx(offset, abs=0.12)
    near = fields.sample(views, CENTRE + 51.0 * normals).distance.mean()
    assert near < 0.9  # which is why the fine stages don't use the nearest point


def test_what_was_not_observed_has_no_say() -> None:
    mask = _disc(50.0)
    known = np.ones_like(mask)
    known[:, 150:] = False
    fields = MaskFields([mask], [known])
    beside = np.array([[165.0, 95.0], [CENTRE[0] - 52.0, 95.0], [-3.0, 10.0], [np.nan, 4.0], [259.5, 50.0]])
    sample = fields.sample(np.zeros(5, dtype=np.intp), beside)
    assert sample.known.tolist() == [False, True, False, False, False]
    assert sample.distance[[0, 2, 3, 4]].tolist() == [0.0] * 4
    assert sample.distance[1] == pytest.approx(2.0, abs=0.6)


def test_contour_pixels_lie_between_inside_and_outside() -> None:
    mask = np.zeros((5, 6), dtype=bool)
    mask[2, 3] = True
    pixels, inside = contour_pixels(mask)
    assert {tuple(p) for p in pixels.tolist()} == {(2.5, 2.0), (3.5, 2.0), (3.0, 1.5), (3.0, 2.5)}
    assert {tuple(p) for p in inside.tolist()} == {(3, 2)}


def test_jacobian_against_finite_differences() -> None:
    """Points before a large disc, whose distance field is smooth: all ten derivatives, at a step that isn't zero."""
    camera = CameraModel(260, 200, 300.0, 310.0, 70.0, 60.0, frame_id="c")
    mask = _disc(70.0)
    truth = np.hypot(COLUMNS - CENTRE[0], ROWS - CENTRE[1]) - 70.0
    fields = MaskFields([mask], [np.ones_like(mask)])
    fields.distance[0] = truth.astype(np.float32)
    rng = np.random.default_rng(1)
    points = np.column_stack([rng.uniform(-0.15, 0.5, 200), rng.uniform(-0.15, 0.35, 200), rng.uniform(0.9, 1.5, 200)])
    contours = Contours(np.zeros(200, dtype=np.intp), points, np.zeros((200, 2)))
    renderer: RobotRenderer = None  # type: ignore[assignment]  # no views: nothing is rendered
    problem = Problem(camera, [], fields, renderer)
    step = np.array([0.01, -0.008, 0.012, 0.004, -0.006, 0.01, 0.3, 0.004, 1.0, -1.5])
    start = Estimate(Pose.identity())
    sample, jacobian = problem.residuals(contours, start, step, 0)
    far = np.abs(sample.distance) > 5  # the field has a kink in the disc's centre
    assert far.sum() > 80
    for k in range(PARAMETERS):
        change = np.zeros(PARAMETERS)
        change[k] = {6: 1e-2, 8: 0.5, 9: 0.5}.get(k, 1e-3)
        after, before = (problem.residuals(contours, start, step + s * change, 0)[0] for s in (1, -1))
        numeric = (after.distance - before.distance) / (2 * change[k])
        both = far & sample.known & after.known & before.known
        scale = np.abs(numeric[both]).max()
        error = np.abs(jacobian[both, k] - numeric[both]) / scale
        assert np.median(error) < 0.01, k
        assert np.percentile(error, 95) < 0.06, k


def test_moving_the_estimate_moves_the_points_as_the_step_says() -> None:
    rng = np.random.default_rng(2)
    pose = Pose.from_rotation(rng.normal(size=3), Rotation.random(rng=rng).as_matrix())
    points = rng.normal(size=(20, 3))
    step = np.zeros(PARAMETERS)
    step[:6] = rng.normal(size=6) * 0.1
    before = (points - pose.position) @ pose.rotation
    expected = before @ Rotation.from_rotvec(step[:3]).as_matrix().T + step[3:6]
    moved = Estimate(pose).moved(step).base_camera
    assert np.allclose((points - moved.position) @ moved.rotation, expected)


def test_fill_triangles_covers_pixel_centres_exactly() -> None:
    corners = np.array(
        [
            [[2.0, 2.0], [8.0, 2.0], [2.0, 8.0]],
            [
                [
                    np.nan,
                    0,
                ],
                [0, 0],
                [1, 1],
            ],
        ]
    )
    mask = fill_triangles(corners, 12, 10)
    rows, columns = np.mgrid[0:10, 0:12]
    assert np.array_equal(mask, (columns >= 2) & (rows >= 2) & (columns + rows <= 10))


@needs_gl
@pytest.mark.parametrize(
    ("shift", "distortion"),
    [((0.0, 0.0), (0.0,) * 5), ((17.0, -11.0), (0.0,) * 5), ((4.0, 3.0), (0.09, -0.15, 0.002, -0.001, 0.0))],
)
def test_rendered_silhouettes_equal_projected_meshes(shift: tuple[float, float], distortion: tuple[float, ...]) -> None:
    """OpenGL against a rasteriser of our own: principal point, lens distortion, joints, hand."""
    camera = CameraModel.from_fov(320, 240, 60.0)
    camera = replace(camera, cx=camera.cx + shift[0], cy=camera.cy + shift[1], distortion=distortion)
    pose = look_at((1.1, 0.5, 0.7), (0.3, 0.0, 0.35))
    joints = np.array([0.3, -0.5, 0.2, -2.1, 0.1, 1.8, 0.9, 0.03, 0.03])
    renderer = RobotRenderer(camera)
    try:
        rendered = renderer.image_mask(renderer.render(renderer.articulate(joints), pose))
    finally:
        renderer.close()
    truth = silhouette(MeshRobot(), joints, camera, pose)
    assert truth.mean() > 0.1
    differing = np.count_nonzero(rendered != truth) / len(contour_pixels(truth)[0])
    assert differing < (0.03 if not any(distortion) else 0.15)  # px: distorted pictures are resampled to whole pixels

"""Camera model against OpenCV, alignment against a plain loop."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realdiff_core.camera import CameraModel, _align_with_numpy, align_depth_to_colour
from realdiff_core.errors import CameraError
from realdiff_core.messages import CAMERA_INFO, deserialize, make, make_header, serialize

DISTORTED = CameraModel(640, 480, 615.2, 613.7, 321.2, 244.2, (0.12, -0.24, 0.001, -0.0007, 0.09), "optical")
COEFFICIENT = st.floats(-0.1, 0.1)


@settings(max_examples=50)
@given(st.tuples(COEFFICIENT, COEFFICIENT, st.floats(-0.01, 0.01), st.floats(-0.01, 0.01), COEFFICIENT))
def test_projection_is_opencvs(distortion):
    camera = CameraModel(640, 480, 600, 610, 318.5, 242.25, distortion)
    rng = np.random.default_rng(1)
    points = rng.uniform([-0.4, -0.3, 0.8], [0.4, 0.3, 3.0], (200, 3))
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.K, np.array(distortion))
    np.testing.assert_allclose(camera.project(points), expected.reshape(-1, 2), atol=1e-9)


@pytest.mark.parametrize("camera", [DISTORTED, CameraModel.from_fov(64, 48, 69)], ids=["distorted", "pinhole"])
def test_back_projection_inverts_projection(camera):
    rng = np.random.default_rng(2)
    depth = rng.uniform(0.3, 3, (camera.height, camera.width)).astype(np.float32)
    depth[3, 5] = np.nan
    points = camera.back_project(depth)
    assert points.dtype == np.float32
    assert np.isnan(points[3, 5]).all()
    rows, columns = np.indices(depth.shape)
    pixels = camera.project(points)
    valid = ~np.isnan(depth)
    np.testing.assert_allclose(pixels[valid], np.stack([columns, rows], -1)[valid], atol=2e-3)
    np.testing.assert_array_equal(points[valid][:, 2], depth[valid])


def test_undistortion_is_opencvs():
    pixels = np.random.default_rng(3).uniform([0, 0], [640, 480], (100, 2))
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-14)
    expected = cv2.undistortPoints(
        pixels.reshape(-1, 1, 2), DISTORTED.K, np.array(DISTORTED.distortion), None, None, None, criteria
    )
    np.testing.assert_allclose(DISTORTED.undistort(pixels), expected.reshape(-1, 2), atol=1e-6)


def test_points_behind_the_camera_have_no_pixel():
    assert np.isnan(DISTORTED.project([[0, 0, -1], [0.1, 0.2, 0.0]])).all()


def test_scaling_keeps_the_field_of_view():
    camera = CameraModel.from_fov(848, 480, 87)
    half = camera.scaled(424, 240)
    assert camera.hfov_deg == pytest.approx(87)
    assert half.hfov_deg == pytest.approx(camera.hfov_deg)
    # The corner of the image, half a pixel outside the outer pixel's centre, looks the same way.
    np.testing.assert_allclose(half.undistort([-0.5, -0.5]), camera.undistort([-0.5, -0.5]))


def test_camera_info_round_trip():
    header = make_header(1, "optical")
    message = make(CAMERA_INFO, header=header, **DISTORTED.to_camera_info_fields())
    assert CameraModel.from_camera_info(deserialize(serialize(message), CAMERA_INFO)) == DISTORTED


def test_disparity_factor_needs_the_baseline():
    assert CameraModel.from_fov(848, 480, 87, baseline_m=0.05).disparity_factor == pytest.approx(22.34, abs=0.01)
    with pytest.raises(CameraError, match="baseline"):
        _ = DISTORTED.disparity_factor


@pytest.mark.parametrize(
    "change",
    [{"k": [0.0] * 9}, {"k": [np.nan, 0, 1, 0, 1, 1, 0, 0, 1]}, {"width": 0}, {"distortion_model": "equidistant"}],
)
def test_nonsense_is_refused(change):
    fields = {**DISTORTED.to_camera_info_fields(), **change}
    with pytest.raises(CameraError):
        CameraModel.from_camera_info(make(CAMERA_INFO, **fields))


def align_by_loops(depth, depth_camera, colour_camera, transform):
    """What librealsense does, pixel by pixel: project both corners of each depth pixel, fill the rectangle between."""
    out = np.full((colour_camera.height, colour_camera.width), np.nan, np.float32)
    for v in range(depth_camera.height):
        for u in range(depth_camera.width):
            z = depth[v, u]
            if not z > 0:
                continue
            corners = []
            for offset in (-0.5, 0.5):
                x = (u + offset - depth_camera.cx) / depth_camera.fx * z
                y = (v + offset - depth_camera.cy) / depth_camera.fy * z
                point = transform[:3, :3] @ [x, y, z] + transform[:3, 3]
                distortion = np.array(colour_camera.distortion)
                pixel, _ = cv2.projectPoints(point.reshape(1, 3), np.zeros(3), np.zeros(3), colour_camera.K, distortion)
                corners.append([int(value + 0.5) for value in pixel.ravel()])
            (x0, y0), (x1, y1) = corners
            if x0 < 0 or y0 < 0 or x1 >= colour_camera.width or y1 >= colour_camera.height:
                continue
            for row in range(y0, y1 + 1):
                for column in range(x0, x1 + 1):
                    if np.isnan(out[row, column]) or z < out[row, column]:
                        out[row, column] = z
    return out


@pytest.mark.parametrize(
    "distortion", [(0.0,) * 5, (0.05, -0.02, 0.001, -0.002, 0.01)], ids=["pinhole", "distorted colour"]
)
@pytest.mark.parametrize("colour_focal", [40.0, 90.0], ids=["colour wider", "colour narrower"])
def test_alignment_is_the_plain_loop(distortion, colour_focal):
    rng = np.random.default_rng(5)
    depth_camera = CameraModel(40, 30, 55.3, 54.9, 19.7, 14.1)
    colour_camera = CameraModel(48, 36, colour_focal, colour_focal + 1, 23.1, 18.4, distortion)
    angle = cv2.Rodrigues(np.array([0.01, -0.02, 0.015]))[0]
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = angle, [0.015, -0.001, 0.002]
    depth = np.full((30, 40), 1.5, np.float32) + rng.normal(0, 0.01, (30, 40)).astype(np.float32)
    depth[8:20, 10:22] = 0.6  # an object in front: it must hide what lies behind
    depth[rng.random((30, 40)) < 0.1] = np.nan
    aligned = align_depth_to_colour(depth, depth_camera, colour_camera, transform)
    expected = align_by_loops(depth, depth_camera, colour_camera, transform)
    assert aligned.dtype == np.float32
    assert (~np.isnan(expected)).mean() > 0.3
    np.testing.assert_array_equal(aligned, expected)


def test_alignment_is_the_same_compiled_and_with_numpy():
    pytest.importorskip("numba", reason="numba isn't installed")
    rng = np.random.default_rng(6)
    depth_camera, colour_camera = CameraModel.from_fov(212, 120, 87), CameraModel.from_fov(160, 120, 55)
    transform = np.eye(4)
    transform[:3, :3] = cv2.Rodrigues(np.array([0.003, -0.002, 0.004]))[0]
    transform[:3, 3] = [0.015, 0.0002, -0.0003]
    depth = rng.uniform(0.2, 4.0, (120, 212)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.2] = np.nan
    compiled = align_depth_to_colour(depth, depth_camera, colour_camera, transform)
    plain = _align_with_numpy(depth.astype(np.float64).ravel(), depth_camera, colour_camera, transform)
    np.testing.assert_array_equal(compiled, plain)


def test_alignment_with_itself_changes_nothing_but_fills_neighbours_nearest():
    camera = CameraModel(32, 24, 30, 30, 15.5, 11.5)
    depth = np.full((24, 32), 2.0, np.float32)
    aligned = align_depth_to_colour(depth, camera, camera, np.eye(4))
    # The outermost footprints leave the image and are dropped, as in the driver.
    assert (aligned[1:-1, 1:-1] == 2).all()


def test_alignment_of_nothing_is_nothing():
    camera = CameraModel(32, 24, 30, 30, 15.5, 11.5)
    behind = np.eye(4)
    behind[2, 3] = -10
    for depth, transform in ((np.full((24, 32), np.nan), np.eye(4)), (np.full((24, 32), 1.0), behind)):
        assert np.isnan(align_depth_to_colour(depth, camera, camera, transform)).all()


def test_alignment_checks_sizes():
    camera = CameraModel(32, 24, 30, 30, 15.5, 11.5)
    with pytest.raises(CameraError, match="differ in size"):
        align_depth_to_colour(np.zeros((32, 24)), camera, camera, np.eye(4))
    with pytest.raises(CameraError, match="wrong shape"):
        align_depth_to_colour(np.zeros((24, 32)), camera, camera, np.eye(3))
    with pytest.raises(CameraError, match="differ in size"):
        camera.back_project(np.zeros((32, 24), np.float32))

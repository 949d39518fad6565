"""Registration, fusion and the gate on a ray-cast room whose depth and camera motion are known exactly."""

from pathlib import Path

import numpy as np
import pytest
from realdiff_core.errors import RealdiffError
from realdiff_enhancer.data import open3d_import
from realdiff_enhancer.data.fusion import FusionConfig, WindowVolume
from realdiff_enhancer.data.gap_filling import fill_gaps
from realdiff_enhancer.data.pair_maker import DepthSequence, PairConfig, make_pairs, views_to_leave_out, window_starts
from realdiff_enhancer.data.pair_quality import GateConfig, drop_wrong_places, measure
from realdiff_enhancer.data.registration import RegistrationConfig, prepare, refine_jointly, se3_exp, track

HEIGHT, WIDTH, BASELINE = 120, 160, 0.05
K = np.array([[96.0, 0, 79.5], [0, 96.0, 59.5], [0, 0, 1]])
FACTOR = K[0, 0] * BASELINE
SPHERES = (((-0.35, 0.1, 1.1), 0.22), ((0.3, 0.15, 0.9), 0.16), ((0.05, -0.25, 1.4), 0.25))
PLANES = (((0, -1, 0), -0.45), ((0, 0, -1), -1.8), ((1, 0, 0), -1.0), ((-1, 0, 0), -1.0))  # n·x = d
VOXEL = 0.012
# The small image has a quarter of a D435's disparities, so limits in px shrink likewise.
REGISTRATION = RegistrationConfig(strides=(4, 3, 2), gates_px=(1.0, 0.4, 0.15), edge_px=0.3, smooth_px=3)
FUSION = FusionConfig(voxel_m=VOXEL, far_m=2.4, truncation_voxels=6)


def room(pose: np.ndarray, scale: int = 1) -> np.ndarray:
    """Exact depth of spheres in a room: float64 [H,W], m, each side `scale` times as many pixels."""
    height, width = HEIGHT * scale, WIDTH * scale
    v, u = np.mgrid[:height, :width].astype(np.float64)
    v, u = (v + 0.5) / scale - 0.5, (u + 0.5) / scale - 0.5
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1) @ pose[:3, :3].T
    origin = pose[:3, 3]
    depth = np.full((height, width), np.inf)
    for centre, radius in SPHERES:
        offset = origin - np.array(centre)
        a, b, c = (rays**2).sum(-1), rays @ offset, offset @ offset - radius**2
        root = b**2 - a * c
        t = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
        depth = np.minimum(depth, np.where(t > 0, t, np.inf))
    for normal, distance in PLANES:
        with np.errstate(divide="ignore"):
            t = (distance - origin @ np.array(normal)) / (rays @ np.array(normal))
        depth = np.minimum(depth, np.where(t > 0, t, np.inf))
    return depth


def poses(count: int, step: float = 1.0) -> list[np.ndarray]:
    """Camera poses along a bend."""
    return [
        se3_exp(np.array([0.02 * i * step, 0.004 * i * step, 0.01 * i * step, 0.0, -0.02 * i * step, 0.005 * i * step]))
        for i in range(count)
    ]


def sense(depth: np.ndarray, seed: int, sigma_px: float = 0.02) -> np.ndarray:
    """Measured depth: blobs of noise in disparity and a dead patch, float32 [H,W] m."""
    import cv2

    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=depth.shape), (0, 0), 2.0)
    measured = FACTOR / (FACTOR / depth + noise / noise.std() * sigma_px)
    measured[40:52, 30 + seed % 5 : 42 + seed % 5] = np.nan
    return measured.astype(np.float32)


def motion_error(estimated: list[np.ndarray], true: list[np.ndarray]) -> tuple[float, float]:
    """Largest error of the poses relative to the first one: m, rad."""
    errors = [
        np.linalg.inv(np.linalg.inv(true[0]) @ t) @ np.linalg.inv(estimated[0]) @ e
        for e, t in zip(estimated, true, strict=True)
    ]
    angles = [np.arccos(np.clip((np.trace(e[:3, :3]) - 1) / 2, -1, 1)) for e in errors]
    return max(float(np.linalg.norm(e[:3, 3])) for e in errors), max(float(a) for a in angles)


def test_track_and_refine_find_the_motion() -> None:
    true = poses(8)
    config = REGISTRATION
    frames = [prepare(sense(room(p), i), K, BASELINE, config) for i, p in enumerate(true)]
    first = track(frames, config)
    refined = refine_jointly(frames, first, config)
    assert motion_error(first, true)[0] < 0.02
    metres, radians = motion_error(refined, true)
    assert metres < 0.006, "0.17 m travelled"
    assert radians < 0.006


def test_one_plane_leaves_sliding_at_the_prediction() -> None:
    """A plane does not tell how the camera slides along it; the estimate must stay put instead of running away."""
    config = REGISTRATION
    frames = [prepare(sense(np.full((HEIGHT, WIDTH), 1.0), i), K, BASELINE, config) for i in range(4)]
    estimated = refine_jointly(frames, track(frames, config), config)
    assert motion_error(estimated, [np.eye(4)] * 4)[0] < 0.03


def test_window_starts_cover_every_frame() -> None:
    assert window_starts(5, 14, 7) == [0]
    assert window_starts(30, 14, 7) == [0, 7, 14, 16]
    for count in range(4, 60):
        covered = {i for s in window_starts(count, 10, 7) for i in range(s, min(s + 10, count))}
        assert covered == set(range(count))


def test_near_views_are_left_out_too() -> None:
    path = poses(6)
    path.insert(3, path[2] @ se3_exp(np.array([0.001, 0, 0, 0, 0, 0])))
    frame = prepare(room(path[2]), K, BASELINE, RegistrationConfig())
    assert views_to_leave_out(frame, path, 2, 0.0) == [2]
    assert views_to_leave_out(frame, path, 2, 0.3) == [2, 3]


def test_gap_beside_an_edge_continues_the_background() -> None:
    """The background slopes along the row; only what the sensor left empty is filled."""
    disparity = np.broadcast_to(6.0 + 0.01 * np.arange(80.0), (4, 80)).copy()
    disparity[:, 50:] = 20.0
    clean = FACTOR / disparity
    noisy = clean.copy()
    truth = clean.copy()
    clean[:, 38:50] = np.nan
    noisy[:, 38:49] = np.nan
    clean[3, :20] = noisy[3, :20] = np.nan
    filled = fill_gaps(clean, noisy, FACTOR, max_gap_px=16, step_px=0.5)
    np.testing.assert_allclose(filled[:3, :49], truth[:3, :49], rtol=1e-4)
    assert np.isnan(filled[:, 49]).all(), "the sensor measured something there"
    assert np.isnan(filled[3, :20]).all(), "one side is not known"
    assert np.isnan(fill_gaps(clean, noisy, FACTOR, max_gap_px=8, step_px=0.5)[:, 38:50]).all(), "too long"


def test_gate_names_what_is_wrong() -> None:
    gate = GateConfig(edge_margin_px=2)
    clean = room(np.eye(4)).astype(np.float32)
    good = measure(clean, sense(clean, 1, 0.1), FACTOR, (0.2, 2.4), gate)
    assert good.failures(gate) == []
    assert good.sigma_px == pytest.approx(0.1, rel=0.1)
    assert abs(good.bias_px) < 0.02
    nearer = measure(
        clean, (FACTOR / (FACTOR / sense(clean, 1, 0.1) + 0.3)).astype(np.float32), FACTOR, (0.2, 2.4), gate
    )
    assert nearer.bias_px == pytest.approx(0.3, abs=0.03)
    assert [f.split()[0] for f in nearer.failures(gate)] == ["bias_px"]
    moved = room(se3_exp(np.array([0.02, 0, 0.03, 0, 0.02, 0]))).astype(np.float32)
    small = gate.model_copy(update={"low_frequency_px": 0.05})
    slipped = measure(clean, moved, FACTOR, (0.2, 2.4), small).failures(small)
    assert [f.split()[0] for f in slipped] == ["low_frequency_px"], "a camera that slipped by 4 cm and a degree"
    patchy = np.where(np.arange(WIDTH) < 100, np.nan, clean).astype(np.float32)
    assert [f.split()[0] for f in measure(patchy, clean, FACTOR, (0.2, 2.4), gate).failures(gate)] == ["coverage"]
    nothing = measure(np.full_like(clean, np.nan), clean, FACTOR, (0.2, 2.4), gate)
    assert len(nothing.failures(gate)) == 5, "NaN never passes"


def test_a_thing_that_moved_becomes_unknown() -> None:
    clean = np.full((HEIGHT, WIDTH), 1.0, np.float32)
    noisy = sense(clean, 3, 0.1)
    noisy[20:70, 90:140] = FACTOR / (FACTOR + 1.2)
    kept = drop_wrong_places(clean, noisy, FACTOR, GateConfig())
    assert np.isnan(kept[25:65, 95:135]).all()
    assert np.isfinite(kept[:, :60]).all(), "the sensor's own noise stays"


def test_errors_beside_a_hole_are_the_sensors_own() -> None:
    """A strip of edge fattening and the shadow beside it teach the model; they must stay."""
    clean = np.full((HEIGHT, WIDTH), 1.0, np.float32)
    noisy = sense(clean, 3, 0.1)
    noisy[20:100, 70:110] = np.nan
    noisy[20:100, 66:70] = FACTOR / (FACTOR + 1.4)
    assert np.isfinite(drop_wrong_places(clean, noisy, FACTOR, GateConfig())).all()


def test_missing_open3d_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "open3d", None)
    with pytest.raises(RealdiffError, match="Open3D") as caught:
        open3d_import.import_open3d()
    assert "requirements/fusion.txt" in str(caught.value)


def test_too_few_frames_are_refused() -> None:
    depth = room(np.eye(4)).astype(np.float32)
    with pytest.raises(RealdiffError, match="too few"):
        next(make_pairs(DepthSequence([depth] * 3, [0, 1, 2], K, BASELINE), PairConfig()))


class TestWithOpen3D:
    """What needs Open3D; skipped where it is not installed."""

    @pytest.fixture(autouse=True)
    def _open3d(self) -> None:
        pytest.importorskip("open3d", reason="pip install -r requirements/fusion.txt")

    def test_fused_depth_is_exact_within_a_voxel(self) -> None:
        path = poses(7)
        volume = WindowVolume([sense(room(p), i, 0.005) for i, p in enumerate(path)], K, path, FUSION)
        scene = volume.scene_without([3])
        assert scene is not None
        clean, truth = volume.cast(scene, path[3]), room(path[3])
        known = np.isfinite(clean)
        assert known[truth < 2.2].mean() > 0.9
        error = np.abs(clean - truth)[known]
        assert np.median(error) < VOXEL / 3
        assert np.quantile(error, 0.9) < VOXEL

    def test_left_out_frame_is_really_left_out(self) -> None:
        """A frame that says something absurd changes nothing about its own clean depth, but that of the others."""
        path = poses(6)
        frames = [room(p).astype(np.float32) for p in path]
        absurd = [*frames[:2], np.full_like(frames[2], 0.5), *frames[3:]]
        sane_volume, volume = WindowVolume(frames, K, path, FUSION), WindowVolume(absurd, K, path, FUSION)
        without = volume.cast(volume.scene_without([2]), path[2])
        np.testing.assert_allclose(without, sane_volume.cast(sane_volume.scene_without([2]), path[2]), atol=1e-4)
        others = [i for i in range(6) if i != 2]
        fresh = WindowVolume([frames[i] for i in others], K, [path[i] for i in others], FUSION)
        np.testing.assert_allclose(without, fresh.cast(fresh.scene_without([]), path[2]), atol=1e-4)
        with_it = volume.cast(volume.scene_without([4]), path[4])
        assert np.nanmax(np.abs(with_it - room(path[4]))) > 0.1
        again = volume.cast(volume.scene_without([2]), path[2])
        np.testing.assert_array_equal(again, without, err_msg="leaving out must not change the volume")

    def test_nothing_left_gives_no_scene(self) -> None:
        path = poses(3)
        volume = WindowVolume([room(p).astype(np.float32) for p in path], K, path, FUSION)
        assert volume.scene_without([0, 1]) is None, "one view is fewer than min_views"

    def test_pairs_of_a_sequence(self) -> None:
        """Unknown motion: every frame gets a clean depth near the truth; one of another place is rejected."""
        path = poses(10)
        depths = [sense(room(p), i, 0.03) for i, p in enumerate(path)]
        depths[4] = sense(room(se3_exp(np.array([0, 0, 0.5, 0, 1.2, 0]))), 4)
        config = PairConfig(
            window=10,
            step=10,
            apart_px=0.5,
            clean_far_m=2.2,
            registration=REGISTRATION,
            fusion=FUSION,
            gate=GateConfig(edge_margin_px=2, coverage=0.5, edge_px=0.2, sigma_px=0.1, low_frequency_px=0.08),
        )
        finished: list[int] = []
        true_poses = [np.array(p) for p in path]
        sequence = DepthSequence(depths, [10 * i for i in range(10)], K, BASELINE, true_poses)
        pairs = list(make_pairs(sequence, config, finished.append))
        assert sum(finished) == 10
        assert [p.number for p in pairs] == [10 * i for i in range(10)]
        rejected = [p.number for p in pairs if p.failures]
        assert rejected == [40]
        for pair, pose in zip(pairs, path, strict=True):
            if not pair.failures:
                error = np.abs(pair.clean_m - room(pose))
                assert np.nanmedian(error) < VOXEL / 2

    def test_command(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Frames on disk → pair folder → pack."""
        from realdiff_enhancer.commands import make_pairs as make
        from realdiff_enhancer.commands import pack_pairs as pack
        from realdiff_enhancer.data.pair_folder import write_png16
        from realdiff_enhancer.data.pairs import PairPack

        (tmp_path / "raw" / "depth").mkdir(parents=True)
        path = poses(6, step=2.5)
        for i, pose in enumerate(path):
            write_png16(tmp_path / "raw" / "depth" / f"{i}.png", sense(room(pose, 2), i, 0.03), 0.001)
        np.savetxt(tmp_path / "raw" / "K.txt", [[192, 0, 159.5], [0, 192, 119.5], [0, 0, 1]])
        output = tmp_path / "pairs"
        arguments = [str(tmp_path / "raw"), "-o", str(output), "--window", "6", "--voxel", "0.012", "--far", "2"]
        assert make.run([*arguments, "--licence", "CC0"]) == 0
        assert "of 6 frames accepted" in capsys.readouterr().out
        assert pack.run([str(output), "-o", str(tmp_path / "pack.npz"), "--validation-windows", "0"]) == 0
        loaded = PairPack.load(tmp_path / "pack.npz")
        assert loaded.licence == "CC0"
        assert len(loaded) >= 4
        for index, number in enumerate(loaded.frames):
            assert np.nanmedian(np.abs(loaded.clean_m(index) - room(path[number], 2))) < 0.008
        with pytest.raises(RealdiffError, match="exists"):
            make.run(arguments)

    def test_scene_without_overlap_leaves_no_output(self, tmp_path: Path) -> None:
        from realdiff_enhancer.commands import make_pairs as make
        from realdiff_enhancer.data.pair_folder import write_png16

        (tmp_path / "raw" / "depth").mkdir(parents=True)
        for i in range(5):
            turned = se3_exp(np.array([0, 0, 0, 0, 1.25 * i, 0]))
            write_png16(tmp_path / "raw" / "depth" / f"{i}.png", sense(room(turned), i), 0.001)
        np.savetxt(tmp_path / "raw" / "K.txt", K)
        with pytest.raises(RealdiffError, match="overlap"):
            make.run([str(tmp_path / "raw"), "-o", str(tmp_path / "out"), "--window", "5", "--voxel", "0.012"])
        assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]

"""`fit_disparity` finds the parameters of noise that was made with known ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from realdiff_core.camera import CameraModel
from realdiff_core.config import camera_profile
from realdiff_core.depth import depth_to_metres
from realdiff_core.errors import ConfigError, OutputError
from realdiff_enhancer.commands import fit_disparity as command
from realdiff_enhancer.data.pairs import PairPack
from realdiff_enhancer.disparity_fitting import fit_disparity
from realdiff_enhancer.models.base import DepthFrames
from realdiff_enhancer.models.disparity import DisparityModel, DisparityParameters
from realdiff_enhancer.models.parameters import load_parameters
from realdiff_enhancer.synthetic_camera import depth_scene

PROFILE = camera_profile("d435")
SIZE = (480, 640)
FX = 400.0
START = load_parameters(DisparityParameters, "disparity", PROFILE)
TRUE = START.model_copy(
    update={
        "sigma_px": 0.25,
        "sigma_relative": 0.004,
        "fine_scale_px": 9.0,
        "coarse_scale_px": 40.0,
        "fine_share": 0.8,
        "anisotropy": 1.3,
        "hole_edge_rate": [0.8, 0.7, 0.55, 0.3, 0.12, 0.05],
        "hole_incidence_rate": [0.5, 0.4, 0.3, 0.2, 0.05],
        "shadow_rate": 0.85,  # the larger rate wins: beside an edge, too, it is this one
        "fattening_px": 0,
        "warp_px": 0.0,
    }
)


def _camera() -> CameraModel:
    height, width = SIZE
    return CameraModel(width=width, height=height, fx=FX, fy=FX, cx=width / 2, cy=height / 2, baseline_m=0.05)


@pytest.fixture(scope="module")
def pack() -> PairPack:
    """Scenes of the synthetic camera with the noise of `TRUE`; the last pair, for validation, with none."""
    millimetres = np.stack([depth_scene(index, *SIZE) for index in range(0, 24, 2)])
    clean = np.stack([depth_to_metres(image, "16UC1") for image in millimetres])
    frames = DepthFrames(clean, None, _camera(), tuple(range(len(clean))), stream_seed=3)
    noisy = DisparityModel(TRUE.model_copy(update={"static_share": 0.0}), PROFILE).enhance(frames).depth
    noisy[-1] = clean[-1]
    count = len(clean)
    validation = np.arange(count) == count - 1
    numbers = np.arange(count)
    camera = _camera()
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])

    def stored(depth: np.ndarray, unit_m: float) -> np.ndarray:
        return np.rint(np.nan_to_num(depth, nan=0.0) / unit_m).astype(np.uint16)

    return PairPack(
        stored(clean, 1e-4), stored(noisy, 1e-3), matrix, 0.05, "synthetic", numbers, numbers, validation, "MIT"
    )


def test_the_parameters_of_the_noise_are_found(pack: PairPack) -> None:
    found = fit_disparity([pack], START, PROFILE)
    at = np.array([10.0, 20.0, 40.0])  # the sum counts: over few disparities its parts are hard to tell apart
    np.testing.assert_allclose(
        found.sigma_px + found.sigma_relative * at, TRUE.sigma_px + TRUE.sigma_relative * at, rtol=0.1
    )
    lags = np.array([2.0, 6.0, 12.0, 24.0, 48.0])

    def correlation(p: DisparityParameters, stretch: float) -> np.ndarray:
        fine, coarse = (np.exp(-(lags**2) / (4 * w**2 * stretch)) for w in (p.fine_scale_px, p.coarse_scale_px))
        return p.fine_share * fine + (1 - p.fine_share) * coarse

    for power in (1, -1):
        np.testing.assert_allclose(
            correlation(found, found.anisotropy**power), correlation(TRUE, TRUE.anisotropy**power), atol=0.08
        )
    np.testing.assert_allclose(found.hole_edge_rate, TRUE.hole_edge_rate, atol=0.08)
    np.testing.assert_allclose(found.shadow_rate, TRUE.shadow_rate, atol=0.08)
    assert found.warp_px == START.warp_px and found.static_share == START.static_share


def test_validation_pairs_and_what_is_rare_change_nothing(pack: PairPack) -> None:
    one = PairPack(**{**vars(pack), "validation": np.arange(len(pack)) > 0})
    other = PairPack(**{**vars(one), "noisy_mm": np.concatenate([one.noisy_mm[:1], one.noisy_mm[1:] // 2])})
    assert fit_disparity([one], START, PROFILE) == fit_disparity([other], START, PROFILE)
    noisy = np.random.default_rng(0).integers(1_195, 1_206, one.noisy_mm.shape).astype(np.uint16)
    wall = PairPack(**{**vars(one), "clean_01mm": np.full_like(one.clean_01mm, 12_000), "noisy_mm": noisy})
    found = fit_disparity([wall], START, PROFILE)
    assert found.shadow_rate == START.shadow_rate  # a wall has none
    assert found.hole_edge_rate == [0.0] * 6  # all of it is far from edges, whose rates have no neighbours but that


def test_a_start_beyond_what_can_be_fitted_is_no_obstacle(pack: PairPack) -> None:
    start = START.model_copy(
        update={
            "fine_scale_px": 60.0,
            "coarse_scale_px": 2.0,
            "hole_incidence_cos": [0.5],
            "hole_incidence_rate": [0.1],
        }
    )
    assert len(fit_disparity([pack], start, PROFILE).hole_incidence_rate) == 1


def test_pairs_without_depth_are_refused(pack: PairPack) -> None:
    empty = PairPack(**{**vars(pack), "noisy_mm": np.zeros_like(pack.noisy_mm)})
    with pytest.raises(ConfigError, match="too little depth"):
        fit_disparity([empty], START, PROFILE)


def test_the_command_writes_what_the_model_reads(
    pack: PairPack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack.save(tmp_path / "pack.npz")
    file = tmp_path / "new" / "fitted.yaml"
    arguments = [str(tmp_path / "pack.npz"), "-o", str(file)]
    assert command.run(arguments) == 0
    told = capsys.readouterr().out
    assert "shadow_rate: 0.92 → " in told and f"--weights {file}" in told
    model = DisparityModel.from_config(PROFILE, file)
    assert model.parameters == fit_disparity([pack], START, PROFILE)
    assert "11 pairs of synthetic" in file.read_text()
    assert [path.name for path in file.parent.iterdir()] == ["fitted.yaml"]
    assert "--profile d435" in told
    with pytest.raises(OutputError, match="--overwrite"):
        command.run(arguments)
    with pytest.raises(ConfigError, match=r"another camera[\s\S]*55 mm[\s\S]*50 mm"):
        command.run([str(tmp_path / "pack.npz"), "-o", str(tmp_path / "other.yaml"), "--profile", "d415"])
    file.write_text("before")
    assert command.run([*arguments, "--overwrite"]) == 0
    assert yaml.safe_load(file.read_text())["shadow_rate"] == model.parameters.shadow_rate


def test_held_out_frames_are_refused(pack: PairPack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from realdiff_enhancer.data import splits

    scene = splits.HeldOutScene(name="mine", description="", frames=splits.frame_digest(pack.noisy_mm[0]))
    monkeypatch.setattr(splits, "load_splits", lambda: splits.Splits(train=(), held_out=(scene,)))
    pack.save(tmp_path / "pack.npz")
    with pytest.raises(ConfigError, match=r"held-out scenes[\s\S]*1 frames of mine"):
        command.run([str(tmp_path / "pack.npz"), "-o", str(tmp_path / "out.yaml")])
    assert not (tmp_path / "out.yaml").exists()

"""Training: the whole run, exact resume after a kill, the time limit, several processes, distillation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tiny_training  # noqa: E402
from realdiff_core.camera import CameraModel  # noqa: E402
from realdiff_core.errors import ConfigError  # noqa: E402
from realdiff_enhancer.data.pairs import PairPack  # noqa: E402
from realdiff_enhancer.models.base import DepthFrames  # noqa: E402
from realdiff_enhancer.two_stage.camera import on_stream  # noqa: E402
from realdiff_enhancer.two_stage.conditioning import Scene, SceneFeatures, scene_features  # noqa: E402
from realdiff_enhancer.two_stage.config import TwoStageConfig  # noqa: E402
from realdiff_enhancer.two_stage.model_folder import load_config, load_model  # noqa: E402
from realdiff_enhancer.two_stage.networks import as_denoiser  # noqa: E402
from realdiff_enhancer.two_stage.pipeline import TwoStageModel  # noqa: E402
from realdiff_enhancer.two_stage.solver import ddim_step  # noqa: E402
from realdiff_enhancer.two_stage.training import PairStore, TrainConfig, train, train_run  # noqa: E402
from realdiff_enhancer.two_stage.training.calibration import calibrate  # noqa: E402
from realdiff_enhancer.two_stage.training.objectives import Distillation  # noqa: E402
from realdiff_enhancer.two_stage.training.store import draw_batch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from test_two_stage import frames  # noqa: E402
from torch import Tensor  # noqa: E402

PROGRAM = Path(tiny_training.__file__)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packs") / "tiny.npz"
    tiny_training.make_pack(path)
    return path


@pytest.fixture(scope="module")
def finished(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an undisturbed training."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    config = TrainConfig.model_validate(tiny_training.settings(pack, checkpoint_every_s=1e-6))
    assert train_run(config, run, report=lambda line: None).finished
    return run


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def weights(run: Path) -> dict[str, Tensor]:
    return {
        f"{file.name}:{key}": value
        for file in sorted((run / "model").glob("*.safetensors"))
        for key, value in load_file(file).items()
    }


def test_a_run_leaves_a_model_that_works(finished: Path) -> None:
    config = json.loads((finished / "model" / "config.json").read_text())
    assert config["few_steps"] == [4, 2, 1]
    assert [c["steps"] for c in config["calibration"]] == [2, 3]
    assert 0 < config["guidance"]["discrepancy_scale"] != 1.0
    assert 0.0 < config["style"]["edge_holes"] < 1.0
    assert list((finished / "curves").glob("events*"))
    few = TwoStageModel.from_pretrained(finished / "model", steps=2, device="cpu")
    base = TwoStageModel.from_pretrained(finished / "model", steps=3, device="cpu")
    assert few.weights_sha256 != base.weights_sha256
    for model in (few, base):
        depth = model.enhance(frames(1)).depth
        assert np.array_equal(depth[0, -4:], frames(1).depth[0, -4:])
        assert np.isfinite(depth).any()


def test_gain_and_hole_levels_are_measured_on_the_pairs_asked_for(pack: Path, tmp_path: Path) -> None:
    """By default on those of the training; a model that is fitted on few pairs remembers them."""
    found = {}
    for where in ("training", "validation"):
        config = TrainConfig.model_validate(tiny_training.settings(pack, distil_steps=0, calibrate_on=where))
        assert train_run(config, tmp_path / where, report=lambda line: None).finished
        model = load_model(tmp_path / where / "model")
        assert model.coarse is not None
        stages = [as_denoiser(network.eval()) for network in (model.coarse, model.fine)]
        store = PairStore.load(config, torch.device("cpu"), validation=where == "validation")
        assert store is not None
        for calibration in model.config.calibration:
            again = calibrate(store, model.config, *stages, calibration.steps, config.calibration_frames, config.seed)
            assert again.gain == pytest.approx(calibration.gain, rel=0.02)  # the weights on disk are fp16
            assert again.hole_offset == pytest.approx(calibration.hole_offset, abs=0.02)
        found[where] = model.config.calibration
    assert found["training"] != found["validation"]
    assert TrainConfig.model_validate(tiny_training.settings(pack)).calibrate_on == "training"


@pytest.mark.parametrize("where", ["coarse:3", "fine:2", "few_coarse:4", "few_fine:5"])
@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bytes(finished: Path, pack: Path, tmp_path: Path, where: str) -> None:
    run = tmp_path / "killed"
    command = [sys.executable, str(PROGRAM), str(pack), str(run)]
    killed = subprocess.run([*command, where], env=environment(), capture_output=True, timeout=120, check=False)
    assert killed.returncode == 9
    assert not (run / "model").exists()
    assert (run / where.split(":")[0] / "checkpoint.safetensors").is_file()
    subprocess.run(command, env=environment(), check=True, capture_output=True, timeout=120)
    assert (run / "model" / "config.json").read_bytes() == (finished / "model" / "config.json").read_bytes()
    whole, resumed = weights(finished), weights(run)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_the_time_limit_stops_with_a_checkpoint_and_the_same_call_continues(pack: Path, tmp_path: Path) -> None:
    settings = tiny_training.settings(pack, distil_steps=0, calibration_frames=0)
    config = TrainConfig.model_validate(settings)
    run = tmp_path / "limited"
    assert not train_run(config, run, report=lambda line: None, time_limit_s=0.0).finished
    assert (run / "coarse" / "checkpoint.safetensors").is_file()
    lines: list[str] = []
    assert train_run(config, run, report=lines.append).finished
    assert any("continuing after step 1 of 4" in line for line in lines)
    other = TrainConfig.model_validate({**settings, "learning_rate": 1e-3})
    with pytest.raises(ConfigError, match="other settings"):
        train_run(other, run, report=lambda line: None)


def test_batches_depend_on_seed_and_step_alone_and_are_shared_out_without_rest(pack: Path) -> None:
    config = TrainConfig.model_validate(tiny_training.settings(pack))
    store = PairStore.load(config, torch.device("cpu"))
    assert store is not None
    whole = draw_batch(store, config, "fine", 7, 0, 1)
    halves = [draw_batch(store, config, "fine", 7, part, 2) for part in range(2)]
    for name in ("depth", "label", "grey", "style"):
        expected = getattr(whole.scene, name)
        got = torch.cat([getattr(half.scene, name) for half in halves])
        torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)
    shape = torch.Size((2, 3, 5, 5))
    torch.testing.assert_close(torch.cat([h.randn(shape) for h in halves]), whole.randn(shape), rtol=0, atol=0)
    other = draw_batch(store, config, "fine", 8, 0, 1)
    assert not torch.equal(other.crops.frames * 1000 + other.crops.top, whole.crops.frames * 1000 + whole.crops.top)


def test_crops_keep_depth_and_targets_together(pack: Path) -> None:
    config = TrainConfig.model_validate(tiny_training.settings(pack, depth_scale=[1.0, 1.0]))
    store = PairStore.load(config, torch.device("cpu"))
    assert store is not None
    batch = draw_batch(store, config, "coarse", 3, 0, 1)
    crops = batch.crops
    for i in range(len(crops.frames)):
        rows, columns = slice(crops.top[i], crops.top[i] + 64), slice(crops.left[i], crops.left[i] + 64)
        clean = store.clean[crops.frames[i], rows, columns]
        noisy = store.noisy[crops.frames[i], rows, columns]
        if crops.flip[i]:
            clean, noisy = clean.flip(0), noisy.flip(0)
        torch.testing.assert_close(batch.scene.depth[i], clean)
        assert torch.equal(batch.targets.hole[i, 0] > 0, torch.isnan(noisy))
        both = batch.targets.both[i, 0] > 0
        expected = torch.asinh((19.2 / noisy - 19.2 / clean)[both] / 0.15)
        torch.testing.assert_close(batch.targets.code[i, 0][both], expected, rtol=1e-4, atol=1e-4)
    assert crops.flip.any()
    assert not crops.flip.all()


def test_distillation_of_a_linear_teacher_is_exact(pack: Path) -> None:
    """A teacher that predicts v = a z has a closed form under DDIM: the product of the steps' factors."""
    config = TrainConfig.model_validate(tiny_training.settings(pack))
    schedule = config.model.schedule

    def linear(sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        return 0.3 * sample[:, :1]

    distillation = Distillation(linear, config, sources=2)
    noisy = torch.randn((2, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(2, dtype=torch.int64)
    for index, segment in ((0, 0), (0, 3), (1, 1), (2, 0)):
        v = distillation.target(linear, noisy, noisy[:, :0], labels, index, segment)
        start, end = distillation.times[config.distil_to[index]][segment : segment + 2]
        if index == 0:
            inner = [round(start + (end - start) * i / config.distil_substeps) for i in range(config.distil_substeps)]
        else:
            inner = distillation.times[config.distil_to[index - 1]][2 * segment : 2 * segment + 2]
        factor = 1.0
        for time, after in zip(inner, [*inner[1:], end], strict=True):
            step = ddim_step(schedule, time, after)
            factor *= step.keep + step.new * (step.alpha - 0.3 * step.sigma)
        whole = ddim_step(schedule, start, end)
        reached = whole.keep * noisy + whole.new * (whole.alpha * noisy - whole.sigma * v)
        torch.testing.assert_close(reached, factor * noisy, rtol=1e-4, atol=1e-4)


def test_fine_tuning_starts_from_a_model_and_refuses_another_shape(finished: Path, pack: Path, tmp_path: Path) -> None:
    model = load_model(finished / "model", steps=3)
    changes = {"initial": str(finished / "model"), "distil_steps": 0, "learning_rate": 1e-9, "calibration_frames": 0}
    tuned = tmp_path / "tuned"
    train(TrainConfig.model_validate(tiny_training.settings(pack, **changes)), tuned, report=lambda line: None)
    after = load_model(tuned, steps=3)
    probe = torch.randn((1, model.fine.state_dict()["conv_in.weight"].shape[1], 16, 16))
    time, label = torch.tensor([500]), torch.tensor([0])
    with torch.no_grad():
        expected, got = (as_denoiser(m.fine.eval())(probe, time, label) for m in (model, after))
    torch.testing.assert_close(got, expected, rtol=2e-3, atol=2e-3)
    wrong = tiny_training.settings(pack, **changes, model={"holes": {"target": "bits"}})
    with pytest.raises(ConfigError, match=r"key model\.holes"):
        train(TrainConfig.model_validate(wrong), tmp_path / "wrong", report=lambda line: None)


@pytest.mark.slow
def test_two_processes_follow_the_curve_of_one(finished: Path, pack: Path, tmp_path: Path) -> None:
    run = tmp_path / "two"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29617"]
    done = subprocess.run(
        [*command, str(PROGRAM), str(pack), str(run)],
        env=environment(), capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (json.loads((r / "model" / "train.json").read_text())["history"] for r in (finished, run))
    assert [(row["stage"], row["step"]) for row in one] == [(row["stage"], row["step"]) for row in two]
    for a, b in zip(one, two, strict=True):
        if "loss" in a:
            assert b["loss"] == pytest.approx(a["loss"], rel=1e-4), (a["stage"], a["step"])


def rescaled(pack: Path, path: Path, factor: int) -> Path:
    """The same pairs as a camera of `factor` times the focal length sees them: every pixel as a block."""
    packed = PairPack.load(pack)
    assert packed.grey is not None

    def blocks(images: np.ndarray) -> np.ndarray:
        return images.repeat(factor, axis=1).repeat(factor, axis=2)

    twin = replace(
        packed,
        clean_01mm=blocks(packed.clean_01mm),
        noisy_mm=blocks(packed.noisy_mm),
        grey=blocks(packed.grey),
        K=packed.K * np.array([[factor], [factor], [1]]),
    )
    twin.save(path)
    return path


def test_pairs_of_another_focal_length_are_learned_on_the_sensors_grid(pack: Path, tmp_path: Path) -> None:
    stores = []
    for path in (pack, rescaled(pack, tmp_path / "twice.npz", 2)):
        settings = {
            **tiny_training.settings(path),
            "dequantise": False,
        }  # it works on the recorded pixels, whose number differs
        store = PairStore.load(TrainConfig.model_validate(settings), torch.device("cpu"))
        assert store is not None
        stores.append(store)
    own, twice = stores
    assert own.grey is not None
    for name in ("clean", "noisy", "factor", "style", "grey"):
        got, expected = getattr(twice, name), getattr(own, name)
        torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)
    for name in own.targets.__dataclass_fields__:
        got, expected = getattr(twice.targets, name), getattr(own.targets, name)
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
    raw = PairPack.load(pack)
    np.testing.assert_array_equal(np.nan_to_num(own.clean.numpy()), np.float32(raw.clean_01mm[:4]) * np.float32(1e-4))


@pytest.mark.parametrize("fx", [615.0, 200.0])
def test_training_and_use_see_the_same_scene(
    finished: Path, pack: Path, tmp_path: Path, fx: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store gives the networks of a frame is what the model makes of the same image when it is used."""
    packed = PairPack.load(pack)
    other = replace(packed, K=packed.K * np.array([[fx / 384], [fx / 384], [1]]))
    assert other.grey is not None
    other = replace(other, grey=other.grey.repeat(2, axis=1).repeat(2, axis=2))  # at full resolution, as in use
    other.save(tmp_path / "other.npz")
    config = TrainConfig.model_validate(tiny_training.settings(tmp_path / "other.npz", dequantise=False))
    store = PairStore.load(config, torch.device("cpu"))
    assert store is not None

    seen: list[Scene] = []

    def watched(scene: Scene, settings: TwoStageConfig) -> SceneFeatures:
        seen.append(scene)
        return scene_features(scene, settings)

    monkeypatch.setattr("realdiff_enhancer.two_stage.pipeline.scene_features", watched)
    model = TwoStageModel.from_pretrained(finished / "model", steps=2, device="cpu")
    height, width = tiny_training.SIZE
    camera = CameraModel(width, height, fx, fx, width / 2, height / 2, baseline_m=0.05)
    assert other.grey is not None
    colour = np.repeat(other.grey[:1, :, :, None], 3, axis=3)
    model.enhance(DepthFrames(other.clean_m(0)[None], colour, camera, (1,)))
    scene, _ = store.frames(torch.tensor([0]))
    torch.testing.assert_close(scene.depth, seen[0].depth, rtol=1e-6, atol=0, equal_nan=True)
    torch.testing.assert_close(scene.factor, seen[0].factor, rtol=0, atol=0)
    assert scene.grey is not None
    assert seen[0].grey is not None
    torch.testing.assert_close(scene.grey, seen[0].grey, rtol=0, atol=0.51 / 255)

    # nearest neighbours, by hand; float32, as pixels half-way between two are a matter of rounding
    size = [round(side * 384 / fx) for side in tiny_training.SIZE]
    rows, columns = (
        np.floor(np.float32(full / n) * (np.arange(n, dtype=np.float32) + 0.5)).astype(int)
        for n, full in zip(size, tiny_training.SIZE, strict=True)
    )
    noisy = other.noisy_m(0)[rows[:, None], columns]
    np.testing.assert_allclose(store.noisy[0, : size[0], : size[1]].numpy(), noisy, rtol=1e-6)
    assert torch.isnan(store.noisy[0, size[0] :]).all()
    both = store.targets.both[0, 0, : size[0], : size[1]].numpy() > 0
    residual = np.arcsinh((19.2 / noisy - 19.2 / other.clean_m(0)[rows[:, None], columns])[both] / 0.15)
    code = store.targets.code[0, 0, : size[0], : size[1]].numpy()[both]
    np.testing.assert_allclose(code, residual, rtol=1e-3, atol=1e-3)


def test_pairs_of_another_baseline_need_a_model_of_their_own(pack: Path, finished: Path, tmp_path: Path) -> None:
    replace(PairPack.load(pack), baseline_m=0.055).save(tmp_path / "d415.npz")
    d435 = TrainConfig.model_validate(tiny_training.settings(tmp_path / "d415.npz"))
    with pytest.raises(ConfigError, match=r"codec\.baseline_m: 0\.055"):
        PairStore.load(d435, torch.device("cpu"))
    changes = {"initial": str(finished / "model"), "distil_steps": 0, "calibration_frames": 0}
    codec = {"codec": {"baseline_m": 0.055}}
    own = TrainConfig.model_validate(tiny_training.settings(tmp_path / "d415.npz", model=codec, **changes))
    store = PairStore.load(own, torch.device("cpu"))
    assert store is not None
    assert store.factor.tolist() == pytest.approx([384 * 0.055] * 4)
    train(own, tmp_path / "tuned", report=lambda line: None)  # the codec's baseline is no obstacle to fine-tuning
    assert load_model(tmp_path / "tuned", steps=3).config.codec.baseline_m == 0.055
    scaled = on_stream(load_config(finished / "model"), baseline_m=0.055).codec
    assert scaled.scale_px == pytest.approx(0.15 * 1.1)
    same_in_metres = {"codec": {"baseline_m": 0.055, "scale_px": scaled.scale_px, "limit_px": scaled.limit_px}}
    own = TrainConfig.model_validate(tiny_training.settings(tmp_path / "d415.npz", model=same_in_metres, **changes))
    train(own, tmp_path / "scaled", report=lambda line: None)
    wrong = tiny_training.settings(pack, **changes, model={"codec": {"scale_px": 0.2}})
    with pytest.raises(ConfigError, match=r"key model\.codec"):
        train(TrainConfig.model_validate(wrong), tmp_path / "wrong", report=lambda line: None)


def test_crops_larger_than_the_resampled_frames_are_cut_to_them(pack: Path, tmp_path: Path) -> None:
    path = rescaled(pack, tmp_path / "twice.npz", 2)
    config = TrainConfig.model_validate(tiny_training.settings(path, crop=[352, 480]))
    store = PairStore.load(config, torch.device("cpu"))
    assert store is not None
    batch = draw_batch(store, config, "fine", 0, 0, 1)
    assert batch.scene.depth.shape == (4, 96, 128)

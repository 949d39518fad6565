"""The `train` command: layered settings, exit codes, going on after the time limit; its curves and pictures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")

import tiny_training  # noqa: E402
from realdiff_enhancer.commands import train  # noqa: E402
from realdiff_enhancer.data.pairs import PairPack  # noqa: E402
from realdiff_enhancer.two_stage.pipeline import TwoStageModel  # noqa: E402
from realdiff_enhancer.two_stage.training.config import TrainConfig  # noqa: E402
from realdiff_enhancer.two_stage.training.loop import CHECKPOINT_NAME  # noqa: E402
from realdiff_enhancer.two_stage.training.state_file import read_state  # noqa: E402
from realdiff_enhancer.two_stage.training.store import PairStore, read_packs  # noqa: E402

HEIGHT, WIDTH = tiny_training.SIZE
RED = (204, 25, 25)


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two layers of settings; the second one changes some of the first."""
    folder = tmp_path_factory.mktemp("layers")
    tiny_training.make_pack(folder / "tiny.npz")
    base = tiny_training.settings(folder / "tiny.npz", seed=3, distil_steps=2, sample_every=2)
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    mine = {"coarse_steps": 3, "fine_steps": 9, "model": {"guidance": {"sigma_px": 5.0}}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(mine))
    return folder / "base.yaml", folder / "mine.yaml"


def command(layers: tuple[Path, ...], run: Path, *more: object) -> int:
    """Exit code of the command in this process."""
    configs = [part for layer in layers for part in ("--config", str(layer))]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["train", *configs, "-o", str(run), *map(str, more)])
        train.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture(scope="module")
def finished(layers: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that its time limit has stopped once, and that the same command has finished."""
    run = tmp_path_factory.mktemp("runs") / "run"
    rest = ("fine_steps=4", "model.guidance.edge_weight=0.5", "--seed", 7)
    assert command(layers, run, *rest, "--time-limit-s", 0) == train.EXIT_UNFINISHED == 3
    assert (run / "coarse" / CHECKPOINT_NAME).is_file() and not (run / "model").exists()
    assert command(layers, run, *rest) == 0
    return run


def test_later_layers_and_the_command_line_win(finished: Path) -> None:
    settings = json.loads((finished / "train_config.json").read_text())
    assert (settings["coarse_steps"], settings["fine_steps"], settings["batch"], settings["seed"]) == (3, 4, 4, 7)
    guidance = settings["model"]["guidance"]
    assert (guidance["sigma_px"], guidance["edge_weight"]) == (5.0, 0.5)
    assert settings["model"]["holes"]["target"] == "distance"  # mappings are merged, not replaced
    model = json.loads((finished / "model" / "config.json").read_text())
    assert (model["guidance"]["sigma_px"], model["guidance"]["edge_weight"]) == (5.0, 0.5)


def test_the_command_says_where_the_model_is_and_that_it_can_be_used(
    finished: Path, layers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ("fine_steps=4", "model.guidance.edge_weight=0.5", "--seed", 7)
    before = (finished / "model" / "model.safetensors").read_bytes()
    assert command(layers, finished, *rest) == 0
    printed = capsys.readouterr().out
    assert f"trained model: {finished / 'model'}" in printed
    assert f"enhance BAG -o OUT --weights {finished / 'model'}" in printed
    assert (finished / "model" / "model.safetensors").read_bytes() == before
    assert TwoStageModel.from_pretrained(finished / "model", steps=2, device="cpu").steps == 2


def test_the_seed_decides_the_weights(layers: tuple[Path, Path], tmp_path: Path) -> None:
    states = []
    for name, seed in (("a", 7), ("b", 8), ("c", 7)):
        assert command(layers, tmp_path / name, "--seed", seed, "--time-limit-s", 0) == train.EXIT_UNFINISHED
        states.append(read_state(tmp_path / name / "coarse" / CHECKPOINT_NAME)["network"])
    first, other, again = states
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_wrong_settings_end_with_code_2_and_are_named(
    finished: Path, layers: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("fine_stepps: 3\n")
    assert command((*layers, wrong), tmp_path / "run") == 2
    told = capsys.readouterr().err
    assert "fine_stepps" in told and str(wrong) in told
    assert command(layers, tmp_path / "run", "crop=[50,64]") == 2
    assert "multiples of 32" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert command(layers, finished, "fine_steps=4", "model.guidance.edge_weight=0.5", "--seed", 8) == 2
    told = capsys.readouterr().err
    assert "other settings" in told and "seed" in told


# TensorBoard


@pytest.fixture(scope="module")
def events(finished: Path) -> Any:
    """What TensorBoard reads of the run."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(finished / "curves"), size_guidance={"images": 0, "scalars": 0})
    return found.Reload()


def test_curves_hold_every_step_of_every_stage_across_the_stop(finished: Path, events: Any) -> None:
    losses = ("residual_unsatisfactory", "residual_satisfactory", "holes_unsatisfactory", "holes_satisfactory")
    parts = {"coarse": (3, ("v", "discrepancy")), "fine": (4, losses)}
    parts |= {"few_coarse": (2, parts["coarse"][1]), "few_fine": (2, losses)}
    for stage, (steps, names) in parts.items():
        for name in (*names, "loss", "learning_rate", "steps_per_s"):
            points = events.Scalars(f"{stage}/{name}")
            assert [point.step for point in points] == list(range(1, steps + 1)), (stage, name)
    for point in events.Scalars("coarse/loss"):
        terms = {name: events.Scalars(f"coarse/{name}")[point.step - 1].value for name in ("v", "discrepancy")}
        assert point.value == pytest.approx(terms["v"] + 0.1 * terms["discrepancy"], rel=1e-5)
    history = json.loads((finished / "model" / "train.json").read_text())["history"]
    rows = [row for row in history if "loss" in row]
    steps_of = [(row["stage"], row["step"]) for row in rows]
    assert steps_of == [(stage, step + 1) for stage, (steps, _) in parts.items() for step in range(steps)]
    for row in rows:
        curve = {point.step: point.value for point in events.Scalars(f"{row['stage']}/loss")}
        assert curve[row["step"]] == pytest.approx(row["loss"], rel=1e-5)


def _grids(events: Any, name: str, rows: int, steps: list[int]) -> list[np.ndarray]:
    """The pictures of a name, one a step: int [rows,H,W,3]."""
    tag = next(tag for tag in events.Tags()["images"] if tag.endswith(name))
    assert [image.step for image in events.Images(tag)] == steps
    grids = []
    for image in events.Images(tag):
        grid = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        grids.append(grid.reshape(rows, HEIGHT, WIDTH, 3).astype(int))
    return grids


def _validation(finished: Path) -> PairStore:
    record = json.loads((finished / "model" / "train.json").read_text())
    config = TrainConfig.model_validate(record["config"])
    store = PairStore.load(config, torch.device("cpu"), validation=True, packs=read_packs(config))
    assert store is not None
    return store


def test_pictures_of_stage_one_show_structural_noise_and_regions(
    events: Any, layers: tuple[Path, Path], finished: Path
) -> None:
    """One above the other: clean depth, the camera's n_L, a sample of it, D."""
    (grid,) = _grids(events, "clean, real n_L, ours, D", 4, [2])
    clean, real, ours, regions = grid
    store = _validation(finished)
    targets = store.frames(torch.tensor([0]))[1]
    assert targets.low is not None and targets.low_weight is not None
    stride = tiny_training.SETTINGS["model"]["coarse"]["stride"]
    wanted = np.kron(targets.low[0, 0].numpy(), np.ones((stride, stride)))[:HEIGHT, :WIDTH]
    known = np.kron(targets.low_weight[0, 0].numpy() > 0, np.ones((stride, stride)))[:HEIGHT, :WIDTH] > 0
    shade = 255 * np.clip(wanted / 4 + 0.5, 0, 1)
    assert known.any() and np.abs(real[..., 0] - shade)[known].max() <= 1.5
    assert np.ptp(shade[known]) > 3  # something to see
    assert np.ptp(ours) > 0 and not np.array_equal(ours, real)
    depth = store.clean[0].numpy()
    near = depth < 1.0
    for surface in (near, ~near):  # the box is nearer than the wall, so darker; both are even
        assert np.ptp(clean[surface][:, 0]) <= 1
    assert clean[~near][0, 0] - clean[near][0, 0] > 20
    blocks = regions[..., 0].reshape(HEIGHT // 16, 16, WIDTH // 16, 16)
    assert np.ptp(blocks, axis=(1, 3)).max() == 0 and np.ptp(blocks) > 0


def test_pictures_show_the_validation_frame_and_a_sample(
    events: Any, layers: tuple[Path, Path], finished: Path
) -> None:
    """One above the other: clean depth, real residual, ours; red where there is no depth."""
    grids = _grids(events, "clean, real, ours", 3, [2, 4])
    clean, real, ours = grids[-1]
    pack = PairPack.load(layers[0].with_name("tiny.npz"))
    frame = int(pack.validation_indices()[0])
    truth, holes = pack.clean_01mm[frame] * 1e-4, pack.noisy_mm[frame] == 0
    noisy = _validation(finished).noisy[0].numpy()
    assert holes.any() and np.array_equal((real == RED).all(-1), holes)
    code = np.arcsinh((19.2 / np.where(holes, 1, noisy) - 19.2 / truth) / 0.15)
    shade = 255 * np.clip(code / 8 + 0.5, 0, 1)
    assert np.abs(real[..., 0] - shade)[~holes].max() <= 1.5
    box = truth < 1.0
    assert np.ptp(clean[box][:, 0]) <= 1 and np.ptp(clean[~box][:, 0]) <= 1
    assert abs(int(clean[box][0, 0]) - int(clean[~box][0, 0])) > 20
    drawn = ours[~(ours == RED).all(-1)]
    assert len(drawn) > 100 and drawn.std() > 1 and not np.array_equal(ours, real)
    assert not np.array_equal(grids[0][2], grids[1][2])  # the network has gone on

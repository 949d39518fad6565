"""Training, export, loading: real files, a tiny network."""

from __future__ import annotations

import importlib
import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from policy_bags import RATE_HZ, SIZE, TINY, write_episodes
from realdiff_core.errors import ConfigError, OutputError, RealdiffError
from realdiff_policy.bundle import load_bundle
from realdiff_policy.contract import Observation
from realdiff_policy.data.episode_arrays import read_episode
from realdiff_policy.data.store import _sha256 as store_sha256
from realdiff_policy.export import export_policy
from realdiff_policy.parity import random_observation
from realdiff_policy.policies.diffusion_policy.checkpoint import read_record
from realdiff_policy.policies.diffusion_policy.configuration_diffusion_policy import DiffusionPolicyConfig
from realdiff_policy.policies.diffusion_policy.modeling_diffusion_policy import DiffusionPolicyModel, noise_scheduler
from realdiff_policy.policies.diffusion_policy.sampling import sample_rows
from realdiff_policy.policies.unet1d import ConditionalUnet1d
from realdiff_policy.training.run_data import training_observations
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_episodes(tmp_path_factory.mktemp("data") / "bags")


@dataclass
class Ended:
    """What a command printed."""

    stdout: str
    stderr: str


def command(name: str, *arguments: object, code: int = 0) -> Ended:
    """Runs a command of the package in this process, with one thread: rounding must not depend on the load."""
    module = importlib.import_module(f"realdiff_policy.commands.{name}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    printed, error = io.StringIO(), ""
    try:
        with redirect_stdout(printed):
            ended = module.run(module.build_parser().parse_args(list(map(str, arguments))))
    except RealdiffError as failure:
        ended, error = failure.exit_code, str(failure)
    finally:
        torch.set_num_threads(threads)
    assert ended == code, error
    return Ended(printed.getvalue(), error)


def settings_file(folder: Path, **changes: object) -> Path:
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump(_plain(TINY | changes)))
    return file


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


@pytest.fixture(scope="module")
def run(bags: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training run."""
    folder = tmp_path_factory.mktemp("run")
    result = command("train", "--config", settings_file(folder), "--data", bags, "-o", folder / "run")
    assert "2 episodes" in result.stdout  # the third one validates
    return folder / "run"


@pytest.fixture(scope="module")
def bundle(run: Path) -> Path:
    output = run.parent / "bundle"
    result = command("export", run, "-o", output)
    assert "parity" in result.stdout
    return output


def test_a_run_holds_curves_checkpoint_and_policy(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(run / "curves" / "train"))
    curves.Reload()
    assert [point.step for point in curves.Scalars("loss")] == [2, 4, 6]
    assert {"validation/loss", "validation/action_error"} <= set(curves.Tags()["scalars"])
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_00000006"]
    contract = read_record(run / "policy").contract
    assert contract.task == "can_to_plate" and contract.colour.width == SIZE[1]
    assert contract.trained_on == {"clean_sim": 1.0}


def test_a_killed_run_ends_with_the_same_weights(run: Path, bags: Path, tmp_path: Path) -> None:
    """The run is ended by its evaluation hook after a checkpoint; the second start finishes it."""
    hook = tmp_path / "killer.py"
    hook.write_text("import os\ndef kill(folder, step):\n    os._exit(9)\n")
    file = settings_file(tmp_path, validate_every=4)
    again = tmp_path / "again"
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import torch; torch.set_num_threads(1); "
        "from realdiff_policy.commands.train import entry; entry()"
    )
    arguments = ["--config", str(file), "--data", str(bags), "-o", str(again)]
    killed = subprocess.run([sys.executable, "-c", program, *arguments, "--evaluate", "killer:kill"], timeout=240)
    assert killed.returncode == 9
    assert [path.name for path in (again / "checkpoints").iterdir()] == ["step_00000003"]
    command("train", *arguments, "--resume")
    whole, resumed = (load_file(str(folder / "policy" / "model.safetensors")) for folder in (run, again))
    assert whole.keys() == resumed.keys()
    for name, values in whole.items():
        torch.testing.assert_close(resumed[name], values, rtol=0, atol=0, msg=name)


def test_two_processes_train_the_same_as_one(bags: Path, tmp_path: Path) -> None:
    """As on two GPUs: each computes half of every batch, the gradients are averaged."""
    still = dict.fromkeys(("brightness", "contrast", "saturation", "camera_shift", "camera_rotation_deg"), 0)
    augmentation = still | {"crop": False, "camera_scale": 0}
    file = settings_file(
        tmp_path, augmentation=augmentation, steps=4, noise_draws=3, checkpoint_every=4, validate_every=4
    )
    command("train", "--config", file, "--data", bags, "-o", tmp_path / "one")
    shared = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["--config", str(file), "--data", str(bags), "-o", str(tmp_path / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*shared, "-m", "realdiff_policy.commands.train", *arguments],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-6000:]
    one, two = (load_file(str(tmp_path / name / "policy" / "model.safetensors")) for name in ("one", "two"))
    for name, values in one.items():
        torch.testing.assert_close(two[name], values, rtol=1e-4, atol=2e-5, msg=name)


def test_reading_from_disk_trains_the_same(run: Path, bags: Path, tmp_path: Path) -> None:
    file = settings_file(tmp_path, memory="device")
    command("train", "--config", file, "--data", bags, "-o", tmp_path / "run")
    for name, values in load_file(str(run / "policy" / "model.safetensors")).items():
        other = load_file(str(tmp_path / "run" / "policy" / "model.safetensors"))[name]
        torch.testing.assert_close(other, values, rtol=0, atol=0)


def test_existing_runs_are_not_overwritten(run: Path, bags: Path, tmp_path: Path) -> None:
    file = settings_file(tmp_path)
    assert "output exists" in command("train", "--config", file, "--data", bags, "-o", run, code=2).stderr
    other = command("train", "--config", file, "--data", bags, "-o", run, "--resume", "--seed", "9", code=2).stderr
    assert "other settings" in other


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": 0}, "batch"),
        ({"stepps": 3}, "stepps"),
        ({"steps": 1}, "warmup_steps"),
        ({"policy": TINY["policy"] | {"crop": (90, 56)}}, "crop"),
        ({"policy": TINY["policy"] | {"denoiser": {"channels": (12, 32)}}}, "groups"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, changes: dict, words: str) -> None:
    result = command(
        "train", "--config", settings_file(tmp_path, **changes), "--data", tmp_path, "-o", tmp_path / "run", code=2
    )
    assert words in result.stderr and not (tmp_path / "run").exists()


def test_the_bundle_is_small_names_no_path_and_acts_like_the_policy(bundle: Path, run: Path) -> None:
    files = {file.name: file.stat().st_size for file in bundle.iterdir()}
    assert files.keys() == {"policy.json", "model.safetensors", "encoder.onnx", "denoiser.onnx"}
    weights = load_file(str(bundle / "model.safetensors"))
    assert all(values.dtype == torch.float16 for values in weights.values())
    assert files["model.safetensors"] < 0.55 * (run / "policy" / "model.safetensors").stat().st_size
    for file in bundle.iterdir():
        assert str(Path(__file__).parents[3]).encode() not in file.read_bytes(), f"{file.name} names a path"
    trained, exported = load_bundle(run / "policy", "cpu"), load_bundle(bundle, "cpu", "onnx")
    again = load_bundle(bundle, "cpu", "torch")
    observation = random_observation(read_record(bundle), 3)
    chunk = exported.predict(observation, 7)
    assert chunk.shape == (7, 8) and chunk.dtype == np.float64
    np.testing.assert_allclose(chunk, trained.predict(observation, 7), atol=5e-3)
    np.testing.assert_allclose(chunk, again.predict(observation, 7), atol=1e-4)
    np.testing.assert_array_equal(chunk, exported.predict(observation, 7))
    assert np.abs(chunk - exported.predict(observation, 8)).max() > 1e-3


def test_the_graphs_share_the_weights_of_the_safetensors_file(bundle: Path, tmp_path: Path) -> None:
    """Convolutions and linear layers are in one file only: other weights there, other actions."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bundle.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    weights = load_file(str(copy / "model.safetensors"))
    save_file({name: values * 0.5 for name, values in weights.items()}, str(copy / "model.safetensors"))
    unsigned(copy)
    observation = random_observation(read_record(bundle), 3)
    halved = load_bundle(copy, "cpu", "onnx").predict(observation, 7)
    assert np.abs(halved - load_bundle(bundle, "cpu", "onnx").predict(observation, 7)).max() > 1e-2
    graphs = sum((bundle / name).stat().st_size for name in ("encoder.onnx", "denoiser.onnx"))
    assert graphs < 200_000 < (bundle / "model.safetensors").stat().st_size


def test_actions_depend_on_depth_and_colour(bundle: Path) -> None:
    policy = load_bundle(bundle, "cpu")
    seen = random_observation(read_record(bundle), 3)
    chunk = policy.predict(seen, 7)
    blind = Observation(seen.colour, np.full_like(seen.depth, np.nan), seen.state, 0)
    dark = Observation(np.zeros_like(seen.colour), seen.depth, seen.state, 0)
    for other in (blind, dark):
        changed = policy.predict(other, 7)
        assert np.all(np.isfinite(changed)) and np.abs(changed - chunk).max() > 1e-5


def test_the_bundle_states_both_errors_and_their_limits_on_observations_of_the_training(bundle: Path) -> None:
    parity = read_record(bundle).training["parity"]
    assert parity["observations"] == "training" and parity["count"] == 24
    assert 0.0 < parity["max_error"] <= parity["max_error_limit"] == 1e-3
    assert 0.0 < parity["p99_rounding"] <= parity["p99_rounding_limit"] == 5e-3
    text = command("inspect", bundle).stdout
    assert "weights rounded" in text and "both on 24 training observations" in text


@pytest.mark.parametrize("older", [False, True])
def test_observations_of_the_training_are_those_of_the_bags(run: Path, bags: Path, tmp_path: Path, older: bool) -> None:
    """Of the two bags that were trained on; an older run doesn't say where its store is, but where its bags are."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    if older:
        (copy / "stores.json").unlink()
    record = read_record(copy / "policy")
    seen = training_observations(record, copy / "policy", 18)
    trained = [
        arrays
        for bag in sorted(bags.glob("episode_*"))
        if (arrays := read_episode(bag, width=SIZE[1], height=SIZE[0], rate_hz=RATE_HZ)) is not None
        and store_sha256(bag) in record.training["bags_sha256"]
    ]
    assert len(trained) == 2
    for number, observation in enumerate(seen):
        episode, frame = trained[number // 9], number % 9
        frames = [max(frame - 1, 0), frame]
        np.testing.assert_array_equal(observation.colour, episode.colour[frames])
        depth = episode.depth[frames].astype(float) * 0.00025
        np.testing.assert_allclose(observation.depth, np.where(depth > 0, depth, np.nan), rtol=1e-6)
        np.testing.assert_allclose(observation.state, episode.state[frames], rtol=1e-6)


@pytest.mark.parametrize("gone", ["store", "run"])
def test_without_the_training_data_random_observations_are_used_and_stated(
    run: Path, tmp_path: Path, gone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run if gone == "store" else run / "policy", copy)
    if gone == "store":
        (copy / "stores.json").write_text(json.dumps([str(tmp_path / "elsewhere")]))
    result = command("export", copy, "-o", tmp_path / "bundle")
    assert "24 random observations" in result.stdout
    assert "the training data aren't here; parity was checked on random observations" in capsys.readouterr().err
    parity = read_record(tmp_path / "bundle").training["parity"]
    assert parity["observations"] == "random" and parity["missing"] == "the training data aren't here"
    assert str(tmp_path) not in (tmp_path / "bundle" / "policy.json").read_text()


def test_others_may_read_what_was_written(bundle: Path, run: Path) -> None:
    for folder in (bundle, run / "policy"):
        assert len({file.stat().st_mode for file in folder.iterdir()}) == 1


@pytest.mark.parametrize("limit", ["parity_limit", "rounding_limit"])
def test_a_bundle_is_refused_when_it_differs_too_much(run: Path, tmp_path: Path, limit: str) -> None:
    with pytest.raises(ConfigError, match="differs from the trained one"):
        export_policy(run, tmp_path / "bundle", **{limit: 1e-9})
    assert list(tmp_path.iterdir()) == []


def test_existing_bundles_are_kept(run: Path, bundle: Path) -> None:
    before = (bundle / "policy.json").read_bytes()
    with pytest.raises(OutputError):
        export_policy(run, bundle)
    assert (bundle / "policy.json").read_bytes() == before


def test_inspect_says_what_a_bundle_expects(bundle: Path) -> None:
    text = command("inspect", bundle).stdout
    for words in ("can_to_plate", "64×48", "clean_sim 100%", "10 a second", "7 rows", "fr3_joint7"):
        assert words in text


def unsigned(bundle: Path) -> None:
    """Takes the sums of the files out of a bundle's record, as if it came from before they were written."""
    record = json.loads((bundle / "policy.json").read_text())
    record["sha256"] = {}
    (bundle / "policy.json").write_text(json.dumps(record))


@pytest.mark.parametrize("sums", [True, False])
@pytest.mark.parametrize("damage", ["bit", "weights", "record", "missing", "onnx", "without onnx", "other"])
def test_damaged_bundles_are_refused(bundle: Path, tmp_path: Path, damage: str, sums: bool) -> None:
    if damage in ("bit", "without onnx") and not sums:
        pytest.skip("only the sums tell")
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bundle.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    if not sums:
        unsigned(copy)
    if damage == "bit":
        content = bytearray((bundle / "model.safetensors").read_bytes())
        content[-100] ^= 1
        (copy / "model.safetensors").write_bytes(content)
    elif damage == "without onnx":
        (copy / "encoder.onnx").unlink()
    elif damage == "weights":
        (copy / "model.safetensors").write_bytes((bundle / "model.safetensors").read_bytes()[:-100])
    elif damage == "record":
        (copy / "policy.json").write_text((copy / "policy.json").read_text().replace("fr3", "ur5"))
    elif damage == "missing":
        (copy / "policy.json").unlink()
    elif damage == "onnx":
        (copy / "encoder.onnx").write_bytes(b"nonsense")
    else:
        save_file({"a": torch.zeros(3)}, str(copy / "model.safetensors"))
    with pytest.raises(ConfigError) as error:
        load_bundle(copy, "cpu", "torch" if damage in ("weights", "other") else "auto")
    assert str(copy) in str(error.value)


def test_observations_of_another_camera_are_refused(bundle: Path) -> None:
    policy = load_bundle(bundle, "cpu")
    seen = random_observation(read_record(bundle), 3)
    with pytest.raises(ConfigError, match="depth is missing"):
        policy.predict(Observation(seen.colour, None, seen.state, 0), 1)
    with pytest.raises(ConfigError, match="colour has shape"):
        policy.predict(Observation(seen.colour[:, :-1], seen.depth, seen.state, 0), 1)


def test_the_default_policy_has_the_sizes_of_the_field() -> None:
    """Parameter counts worked out by hand from the published architecture."""
    config = DiffusionPolicyConfig()
    with torch.device("meta"):
        model = DiffusionPolicyModel(config)
    trunk = sum(p.numel() for p in model.encoder.colour.trunk.parameters())
    assert trunk == 11_176_512  # torchvision's resnet18 without its classifier: 11 689 512 − 513 000
    block = 2 * 2048 * 2048 * 5 + 2 * 2048 + 4 * 2048 + (model.encoder.size + 128 + 1) * 4096
    assert sum(p.numel() for p in model.denoiser.middle.parameters()) == 2 * block


def test_the_sampler_finds_a_known_distribution() -> None:
    """With the exact denoiser of a single point the samples are that point."""
    config = DiffusionPolicyConfig()
    scheduler = noise_scheduler(config.diffusion)
    from realdiff_policy.policies.diffusion_policy.modeling_diffusion_policy import sampling_scheduler

    target = torch.linspace(-0.9, 0.9, 8).expand(3, 16, 8)

    def exact(rows: torch.Tensor, step: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        alpha = scheduler.alphas_cumprod[step].view(-1, 1, 1)
        return (rows - alpha.sqrt() * target) / (1 - alpha).sqrt()

    condition = torch.zeros(3, 1)
    rows = sample_rows(
        exact, condition, (3, 16, 8), sampling_scheduler(config.diffusion), torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(rows, target.contiguous(), atol=1e-4, rtol=0)


def test_the_condition_scales_and_shifts() -> None:
    """FiLM: without condition weights the network can't depend on the condition; with them it does."""
    torch.manual_seed(0)
    network = ConditionalUnet1d(8, 5, (16, 32), 3, 8, 16)
    rows, step = torch.randn(2, 8, 8), torch.tensor([3, 50])
    first, second = (network(rows, step, condition) for condition in (torch.zeros(2, 5), torch.ones(2, 5)))
    assert (first - second).abs().max() > 1e-3
    assert first.shape == rows.shape

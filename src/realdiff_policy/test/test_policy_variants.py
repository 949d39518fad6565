"""Other policies through the same commands: hand poses as actions, colour alone; the evaluation hook; the bench."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from policy_bags import TINY, write_episodes
from realdiff_core.errors import ConfigError
from realdiff_policy.bundle import load_bundle
from realdiff_policy.commands import export, train
from realdiff_policy.parity import random_observation
from realdiff_policy.policies.diffusion_policy.checkpoint import read_record

from realdiff_policy import bench


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_episodes(tmp_path_factory.mktemp("data") / "bags")


def settings_file(folder: Path, **policy: object) -> Path:
    """TINY with changes of the policy."""
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(TINY | {"policy": TINY["policy"] | policy}))))
    return file


def run(module, *arguments: object) -> None:
    assert module.run(module.build_parser().parse_args(list(map(str, arguments)))) == 0


def trained(folder: Path, bags: Path, **policy: object) -> Path:
    run(train, "--config", settings_file(folder, **policy), "--data", bags, "-o", folder / "run")
    run(export, folder / "run", "-o", folder / "bundle")
    return folder / "bundle"


def test_hand_poses_as_actions(tmp_path: Path, bags: Path) -> None:
    bundle = trained(tmp_path, bags, action=TINY["policy"]["action"] | {"space": "end_effector"})
    record = read_record(bundle)
    assert record.contract.action.space == "end_effector" and record.contract.action.size == 10
    # Rotations are left as they are; positions and the width are scaled to their ranges.
    assert record.statistics.action.lowest[3:9] == (-1.0,) * 6 and record.statistics.action.highest[3:9] == (1.0,) * 6
    assert record.statistics.action.lowest[0] == pytest.approx(0.4, abs=2e-3)
    chunk = load_bundle(bundle, "cpu").predict(random_observation(record, 1), 2)
    assert chunk.shape == (7, 10) and np.all(np.isfinite(chunk))


def test_colour_alone(tmp_path: Path, bags: Path) -> None:
    bundle = trained(tmp_path, bags, depth=None)
    record = read_record(bundle)
    assert record.contract.depth is None
    observation = random_observation(record, 1)
    assert observation.depth is None
    exported, torch = (load_bundle(bundle, "cpu", runtime) for runtime in ("onnx", "torch"))
    np.testing.assert_allclose(exported.predict(observation, 2), torch.predict(observation, 2), atol=1e-4)


def test_what_the_evaluation_hook_finds_is_in_the_curves(
    tmp_path: Path, bags: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "my_trials.py").write_text(
        "from realdiff_policy.bundle import load_bundle\n"
        "def tried(folder, step):\n"
        "    return {'success_rate': step / 10, 'rows': load_bundle(folder, 'cpu').contract.action.chunk}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    file = settings_file(tmp_path)
    run(train, "--config", file, "--data", bags, "-o", tmp_path / "run", "--evaluate", "my_trials:tried")
    curves = EventAccumulator(str(tmp_path / "run" / "curves" / "train"))
    curves.Reload()
    assert [(point.step, point.value) for point in curves.Scalars("validation/success_rate")] == [
        (6, pytest.approx(0.6))
    ]
    assert curves.Scalars("validation/rows")[0].value == 7


def test_a_hook_that_is_none_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    file = settings_file(tmp_path)
    with pytest.raises(ConfigError, match="no such function"):
        run(train, "--config", file, "--data", tmp_path, "-o", tmp_path / "run", "--evaluate", "json:no_function")
    assert not (tmp_path / "run").exists()


def test_the_bench_times_chunks_and_training_steps(
    tmp_path: Path, bags: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = trained(tmp_path, bags)
    capsys.readouterr()
    run(
        bench, "--bundle", bundle, "--data", bags, "--config", tmp_path / "settings.yaml", "--repeat", 3, "--json"
    )  # fmt: skip
    figures = {figure["name"]: figure for figure in json.loads(capsys.readouterr().out)}
    p50, p99 = (figures[f"policy: one chunk on cpu, {name}"] for name in ("p50", "p99"))
    assert 0.0 < p50["value"] <= p99["value"] and p50["baseline"] == 100.0 and p50["unit"] == "ms"
    assert p50["ratio"] == pytest.approx(p50["value"] / 100.0, abs=1e-3)
    assert figures["diffusion_policy: RGB-D, training"]["value"] > 0.0

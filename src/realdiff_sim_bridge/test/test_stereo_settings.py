"""Setting ranges of the simulated stereo camera and the guard between training and evaluation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from realdiff_core.errors import ConfigError, ProvenanceError
from realdiff_sim_bridge.stereo.pairs import simulate_pairs
from realdiff_sim_bridge.stereo.settings import PURPOSES, StereoRanges, load_ranges, require_trainable


def test_both_purposes_ship_and_say_what_they_are_for() -> None:
    for purpose in PURPOSES:
        assert load_ranges(purpose).purpose == purpose


def test_training_pairs_refuse_evaluation_settings(tmp_path: Path) -> None:
    with pytest.raises(ProvenanceError, match="must not produce training pairs"):
        simulate_pairs(tmp_path / "pairs", 1, load_ranges("evaluation"))
    assert not (tmp_path / "pairs").exists()
    require_trainable(load_ranges("train"))


def test_renaming_the_file_does_not_open_the_guard(tmp_path: Path) -> None:
    from realdiff_core.config import find_config

    copy = tmp_path / "stereo_train.yaml"
    copy.write_text(find_config("cameras/stereo_evaluation.yaml").read_text())
    with pytest.raises(ProvenanceError):
        require_trainable(load_ranges(str(copy)))


def test_the_command_refuses_and_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "realdiff_sim_bridge.commands.simulate_pairs", "-o", str(tmp_path / "pairs")]
    done = subprocess.run(
        [*command, "--settings", "evaluation"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "--purpose evaluation" in done.stderr
    assert not (tmp_path / "pairs").exists()


def test_camera_units_of_the_two_purposes_never_coincide() -> None:
    rng = np.random.default_rng(0)
    ranges = [load_ranges(purpose) for purpose in PURPOSES]
    units = [{each.unit_seed(rng) for _ in range(500)} for each in ranges]
    assert all(len(seeds) > 1 for seeds in units)
    assert not units[0] & units[1]


def test_samples_stay_inside_and_depend_only_on_the_generator() -> None:
    ranges = load_ranges("train")
    samples = [ranges.sample(np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert samples[0] == samples[1] != samples[2]
    for sample in samples:
        for name, (low, high) in ranges.ranges.items():
            slack = 1 if name == "confidence_window_px" else 0.5  # rounding to whole or odd numbers
            assert low - slack <= getattr(sample, name) <= high + slack
        assert sample.confidence_window_px % 2 == 1


def test_the_order_of_keys_does_not_matter() -> None:
    ranges = load_ranges("train")
    turned = ranges.model_copy(update={"ranges": dict(reversed(ranges.ranges.items()))})
    assert turned.sample(np.random.default_rng(5)) == ranges.sample(np.random.default_rng(5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("purpose: train\nranges: {blur: [0, 1]}", "unknown setting"),
        ("purpose: train\nranges: {blur_px: [1, 0]}", "not an interval"),
        ("purpose: train\nranges: {ambient: [0, 1]}", "lower end must be > 0"),
        ("purpose: train\nranges: {confidence: [0, 2]}", "less than or equal to 1"),
        ("purpose: train\nfixed: {blur_px: 1}\nranges: {blur_px: [0, 1]}", "given twice"),
        ("purpose: demo", "train"),
        ("units: 3", "purpose"),
    ],
)
def test_invalid_files_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "stereo.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_ranges(str(path))


def test_middle_is_inside() -> None:
    ranges = StereoRanges(purpose="train", ranges={"ambient": [0.1, 0.9], "blur_px": [0.2, 0.4]})
    assert ranges.middle().ambient == pytest.approx(0.3)
    assert ranges.middle().blur_px == pytest.approx(0.3)

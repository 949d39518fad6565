"""Task configurations: the shipped one is valid, wrong ones say what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from realdiff_core.config import find_config
from realdiff_core.errors import ConfigError
from realdiff_sim_bridge.resets import draw_start
from realdiff_sim_bridge.tasks import available_tasks, load_task


def _changed(tmp_path: Path, change: dict[str, object]) -> Path:
    content = yaml.safe_load(find_config("tasks/can_to_plate.yaml").read_text())
    for key, value in change.items():
        *parents, last = key.split(".")
        section = content
        for parent in parents:
            section = section[int(parent)] if parent.isdigit() else section.setdefault(parent, {})
        section[int(last) if last.isdigit() else last] = value
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("name", available_tasks())
def test_shipped_tasks_are_valid(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    draw_start(task, 0)


def test_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown task 'juggle'") as caught:
        load_task("juggle")
    assert "can_to_plate" in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        load_task(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"subtasks.0.object": "cup"}, "unknown object 'cup'"),
        ({"subtasks.0.object": "plate"}, "can't be gripped"),
        ({"success.tests.0.target": "tray"}, "unknown object 'tray'"),
        ({"objects.can.start.x": [0.6, 0.4]}, "exceeds"),
        ({"objects.can.start.x": [0.1, 0.4]}, "leaves the workspace"),
        ({"objects.can.radius": -0.03}, "greater than 0"),
        ({"objects.can.kind": "teapot"}, "teapot"),
        ({"objects.plate.mass": -1}, "greater than 0"),
        ({"objects.can.radius": 0.045}, "too wide for the hand"),
        ({"subtasks.1.target": "can"}, "onto itself"),
        ({"success.tests.0.target": "can"}, "onto itself"),
        ({"workspace.highest": [0.2, 0.4, 0.6]}, "workspace is empty"),
        ({"success.tests.0": {"test": "inside", "object": "can", "target": "plate"}}, "isn't a container"),
        ({"objects.plate.thickness": 0.03}, "rim is higher than its base"),
        ({"speed": 3}, "speed"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, change: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_task(_changed(tmp_path, change))
    assert word in str(caught.value)
    assert "task.yaml" in str(caught.value)


def test_crowded_start_ranges_are_refused(tmp_path: Path) -> None:
    spot = {"x": [0.45, 0.46], "y": [0.0, 0.01], "yaw": [0, 0]}
    task = load_task(_changed(tmp_path, {"objects.can.start": spot, "objects.plate.start": spot}))
    with pytest.raises(ConfigError, match="no arrangement"):
        draw_start(task, 0)


def test_starts_are_seeded_in_range_and_apart() -> None:
    task = load_task("can_to_plate")
    positions = []
    for seed in range(200):
        start, again = draw_start(task, seed), draw_start(task, seed)
        assert np.array_equal(start.joint_positions, again.joint_positions)
        for name, pose in start.objects.items():
            assert np.array_equal(pose.position, again.objects[name].position)
            ranges = task.objects[name].start
            assert ranges.x[0] <= pose.position[0] <= ranges.x[1]
            assert ranges.y[0] <= pose.position[1] <= ranges.y[1]
        can, plate = (start.objects[name].position[:2] for name in ("can", "plate"))
        assert np.linalg.norm(can - plate) >= 0.03 + 0.105 + task.clearance
        positions.append(can)
    # Both ranges are used over their whole length.
    assert np.all(np.ptp(positions, axis=0) > 0.9 * np.array([0.20, 0.17]))

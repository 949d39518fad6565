"""The RViz configuration shows topics that exist, with the types that its displays expect and a QoS that fits."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml
from realdiff_core.contract import contract

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "config" / "rviz" / "deploy.rviz"

TYPES = {
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/DepthCloud": "sensor_msgs/msg/Image",
    "rviz_default_plugins/Path": "nav_msgs/msg/Path",
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
    "rviz_default_plugins/RobotModel": "std_msgs/msg/String",
}
NO_TOPIC = {"rviz_default_plugins/Grid", "rviz_default_plugins/TF"}


def shown() -> list[tuple[str, str, str, dict]]:
    """(display, topic, type, QoS entries) of each topic that is shown."""
    displays = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["Visualization Manager"]["Displays"]
    found = []
    for display in displays:
        kind = display["Class"]
        if kind in NO_TOPIC:
            continue
        entries = [display[key] for key in display if key.endswith("Topic")]
        assert entries, display["Name"]
        for entry in entries:
            topic = entry["Value"] if isinstance(entry, dict) else entry
            found.append((display["Name"], topic, TYPES[kind], entry if isinstance(entry, dict) else {}))
    return found


def published_by_the_node() -> dict[str, tuple[str, bool]]:
    """Topics of the inference node: (message class, latched), read from its source."""
    source = (ROOT / "src/realdiff_policy/realdiff_policy/node.py").read_text(encoding="utf-8")
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self.create_publisher":
            kind, name, qos = (ast.unparse(argument) for argument in node.args)
            if name.startswith("'~/"):
                found[f"/diffusion_policy/{name[3:-1]}"] = (kind, qos == "LATCHED")
    return found


def test_every_topic_is_in_the_drivers_contract_or_published_by_the_node() -> None:
    drivers = {topic.name: topic.msgtype for topic in contract().topics}
    ours = published_by_the_node()
    classes = {"PathMessage": "nav_msgs/msg/Path", "MarkerArray": "visualization_msgs/msg/MarkerArray"}
    assert len(shown()) >= 6
    for name, topic, msgtype, qos in shown():
        if topic == "/robot_description":
            continue  # of robot_state_publisher
        if topic in drivers:
            assert drivers[topic] == msgtype, name
            continue
        kind, latched = ours[topic]
        assert classes[kind] == msgtype, name
        assert (qos["Durability Policy"] == "Transient Local") == latched, name


def test_the_fixed_frame_is_the_robots_base() -> None:
    settings = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["Visualization Manager"]
    assert settings["Global Options"]["Fixed Frame"] == "base"


@pytest.mark.parametrize("wanted", ["RobotModel", "Image", "DepthCloud", "Path", "MarkerArray"])
def test_shows_what_an_operator_needs(wanted: str) -> None:
    displays = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["Visualization Manager"]["Displays"]
    assert any(display["Class"].endswith(wanted) and display["Enabled"] for display in displays)

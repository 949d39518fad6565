"""The node as a real process over DDS: camera process → node process → this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from realdiff_core.bag import BagWriter
from realdiff_core.camera import CameraModel
from realdiff_core.config import camera_profile
from realdiff_core.depth import depth_to_metres
from realdiff_core.image import image_to_numpy, numpy_to_image_fields
from realdiff_core.messages import CAMERA_INFO, IMAGE, make, make_header
from realdiff_core.provenance import BagProvenance, DepthKind

from realdiff_core import topics

rclpy = pytest.importorskip("rclpy", reason="rclpy isn't installed or its environment isn't set up")
pytest.importorskip("realdiff_msgs.msg", reason="realdiff_msgs isn't built")
pytestmark = pytest.mark.graph

SIZE = ("--width", 160, "--height", 120)


@pytest.fixture
def live(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A running node, not configured yet; indirect parameters are the node's."""
    from realdiff_enhancer.live import LiveEnhancer

    parameters = {"model": "disparity", "seed": 5, **getattr(request, "param", {})}
    with LiveEnhancer(**parameters) as enhancer:
        yield enhancer
    print(enhancer.output)


def collect(live: Any, **options: Any) -> dict[str, list[Any]]:
    """Listens to all that the node publishes."""
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import CameraInfo, Image

    from realdiff_msgs.msg import EnhancerStatus, Provenance

    output = live.output_topic
    received: dict[str, list[Any]] = {name: [] for name in ("image", "info", "status", "diagnostics", "provenance")}
    live.listen(Image, output, received["image"].append, **options)
    live.listen(CameraInfo, topics.camera_info_topic(output), received["info"].append, **options)
    live.listen(EnhancerStatus, "/depth_enhancer/status", received["status"].append)
    live.listen(DiagnosticArray, "/diagnostics", received["diagnostics"].append)
    live.listen(Provenance, topics.PROVENANCE, received["provenance"].append, latched=True)
    return received


def activate(live: Any) -> None:
    assert live.change("configure") and live.change("activate")


@pytest.mark.parametrize("reliability", ["reliable", "best_effort"])
@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_enhances_streams_of_either_qos_and_encoding(live: Any, reliability: str, encoding: str) -> None:
    from realdiff_enhancer.synthetic_camera import depth_scene

    received = collect(live)
    activate(live)
    frames, start = 20, 7_000_000_000
    camera = live.camera(
        *SIZE,
        "--frames",
        frames,
        "--rate",
        10,
        "--encoding",
        encoding,
        "--reliability",
        reliability,
        "--stamp-ns",
        start,
    )
    assert live.until(lambda: len(received["image"]) == frames), (len(received["image"]), received["status"][-1:])
    assert live.until(lambda: received["status"] and received["status"][-1].frames_enhanced == frames)
    camera.wait(timeout=20)
    for index, (image, info) in enumerate(zip(received["image"], received["info"], strict=True)):
        stamp = image.header.stamp.sec * 10**9 + image.header.stamp.nanosec
        assert stamp == start + index * 100_000_000
        assert (image.encoding, image.width, image.height, image.header.frame_id) == (
            encoding,
            160,
            120,
            topics.DEPTH_FRAME,
        )
        assert info.header == image.header and info.k[0] == pytest.approx(CameraModel.from_fov(160, 120, 55).fx)
    clean = depth_scene(3, 120, 160)
    noisy = image_to_numpy(received["image"][3])
    metres = depth_to_metres(noisy, encoding)
    assert np.isnan(metres).mean() > 0.01
    assert np.mean(metres != clean.astype(np.float32) / 1000) > 0.3
    far = clean > 4000
    assert np.allclose(metres[far], 5.0)
    status = received["status"][-1]
    assert (status.frames_received, status.frames_dropped, status.frames_refused) == (frames, 0, 0)
    assert status.model == "disparity" and status.output_topic == live.output_topic
    assert 0 < status.hole_rate < 0.5
    assert live.until(lambda: any(p.topics == [live.output_topic] for p in received["provenance"]))
    latched = next(p for p in received["provenance"] if p.topics == [live.output_topic])
    assert list(latched.kinds) == [2] and latched.seed == 5
    record = json.loads(latched.details_json)
    assert record["depth"] == {live.output_topic: "enhanced"} and record["enhancement"]["model"] == "disparity"


def test_gives_the_same_depth_as_the_bag_enhancer(live: Any, tmp_path: Path) -> None:
    from enhancer_bags import depth_images
    from realdiff_enhancer.bag_enhancer import enhance_bag
    from realdiff_enhancer.job import EnhanceOptions
    from realdiff_enhancer.models import create_model
    from realdiff_enhancer.synthetic_camera import depth_scene

    frames, start, period = 12, 3_000_000_000, 100_000_000
    received = collect(live)
    activate(live)
    live.camera(*SIZE, "--frames", frames, "--rate", 10, "--stamp-ns", start)
    assert live.until(lambda: len(received["image"]) == frames)

    camera = CameraModel.from_fov(160, 120, 55, topics.DEPTH_FRAME)
    with BagWriter(tmp_path / "in") as writer:
        writer.add_topic(topics.DEPTH_INFO, CAMERA_INFO)
        writer.add_topic(topics.DEPTH_IMAGE, IMAGE)
        writer.set_provenance(BagProvenance(depth={topics.DEPTH_IMAGE: DepthKind.CLEAN_SIM}, source="simulation"))
        for index in range(frames):
            stamp = start + index * period
            header = make_header(stamp, topics.DEPTH_FRAME)
            fields = numpy_to_image_fields(depth_scene(index, 120, 160), "16UC1")
            info = make(CAMERA_INFO, header=header, **camera.to_camera_info_fields())
            writer.write_message(topics.DEPTH_INFO, stamp, info)
            writer.write_message(topics.DEPTH_IMAGE, stamp, make(IMAGE, header=header, **fields))
    profile = camera_profile("d435")
    options = EnhanceOptions(model="disparity", seed=5)
    enhance_bag(tmp_path / "in", [tmp_path / "out"], create_model("disparity", profile=profile), profile, options)
    played = np.stack([image_to_numpy(image) for image in received["image"]])
    assert np.array_equal(played, depth_images(tmp_path / "out"))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("enhanced", "enhanced already"),
        ("sensor", "real camera"),
        ("stereo_sim", "stereo sensor"),
        ("none", "nothing is"),
    ],
)
def test_noisy_or_unknown_depth_is_refused(live: Any, kind: str, reason: str) -> None:
    received = collect(live)
    activate(live)
    live.camera(*SIZE, "--frames", 30, "--rate", 10, "--kind", kind)
    assert live.until(lambda: received["status"] and received["status"][-1].frames_refused > 0)
    assert live.until(lambda: any(s.level == b"\2" for d in received["diagnostics"] for s in d.status))
    problem = next(s for d in received["diagnostics"] for s in d.status if s.level == b"\2")
    assert reason in problem.message
    assert received["image"] == []


@pytest.mark.parametrize("live", [{"override_provenance": True, "model": "gaussian"}], indirect=True)
def test_the_guard_can_be_overridden(live: Any) -> None:
    received = collect(live)
    activate(live)
    live.camera(*SIZE, "--frames", 10, "--rate", 10, "--kind", "sensor")
    assert live.until(lambda: len(received["image"]) == 10)


def test_missing_camera_info_is_named(live: Any) -> None:
    received = collect(live)
    activate(live)
    live.camera(*SIZE, "--frames", 15, "--rate", 10, "--without-camera-info")
    assert live.until(lambda: received["status"] and received["status"][-1].frames_refused > 0)
    assert live.until(
        lambda: any("camera_info is missing" in s.message for d in received["diagnostics"] for s in d.status)
    )
    assert received["image"] == []


def test_discrepancy_is_published_for_those_who_listen(live: Any) -> None:
    from sensor_msgs.msg import Image

    maps: list[Any] = []
    live.listen(Image, live.output_topic.rpartition("/")[0] + "/discrepancy", maps.append)
    activate(live)
    live.camera(*SIZE, "--frames", 10, "--rate", 10)
    assert live.until(lambda: len(maps) == 10)
    values = image_to_numpy(maps[0])
    assert maps[0].encoding == "32FC1" and values.shape == (120, 160)
    assert 0 <= values.min() < values.max() <= 1


def test_lifecycle_and_parameters(live: Any) -> None:
    from rcl_interfaces.srv import DescribeParameters, ListParameters
    from sensor_msgs.msg import Image

    images: list[Any] = []
    live.listen(Image, live.output_topic, images.append)
    assert live.state() == "unconfigured"
    names = [name for name in live.call(ListParameters, "list_parameters").result.names if "qos" not in name]
    described = live.call(DescribeParameters, "describe_parameters", names=names).descriptors
    own = [item for item in described if item.name not in ("use_sim_time", "start_type_description_service")]
    assert {"model", "seed", "queue_size", "override_provenance"} <= {item.name for item in own}
    assert all(item.description for item in own)
    assert next(item for item in own if item.name == "queue_size").integer_range[0].from_value == 1

    assert live.change("configure") and live.state() == "inactive"
    camera = live.camera(*SIZE, "--frames", 100000, "--rate", 10)
    assert not live.until(lambda: bool(images), timeout_s=4)
    assert live.change("activate") and live.state() == "active"
    assert live.until(lambda: len(images) >= 3)
    assert live.change("deactivate") and live.state() == "inactive"
    live.until(lambda: False, timeout_s=0.5)
    images.clear()
    assert not live.until(lambda: bool(images), timeout_s=1)
    assert live.change("activate")
    assert live.until(lambda: len(images) >= 3)
    assert live.change("deactivate") and live.change("cleanup") and live.state() == "unconfigured"
    assert live.change("configure") and live.change("activate")
    images.clear()
    assert live.until(lambda: len(images) >= 3)
    camera.kill()
    code, output = live.interrupt()
    assert code == 0, output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("live", "message"),
    [
        ({"model": "magic"}, "unknown enhancer model"),
        ({"profile": "nikon"}, "cameras/nikon.yaml"),
    ],
    indirect=["live"],
)
def test_bad_configuration_fails_with_a_reason(live: Any, message: str) -> None:
    assert not live.change("configure")
    assert live.state() == "unconfigured"
    code, output = live.interrupt()
    assert code == 0 and message in output and "Traceback" not in output


@pytest.mark.parametrize("live", [{"queue_size": 0}], indirect=True)
def test_parameter_out_of_range_is_refused_at_start(live: Any) -> None:
    output, _ = live.process.communicate(timeout=60)
    assert live.process.returncode != 0 and "queue_size" in output


def test_launch_file_plays_a_bag_through_the_node(tmp_path: Path) -> None:
    import shutil
    import subprocess

    from enhancer_bags import write_episode
    from realdiff_enhancer.live import LiveClient
    from sensor_msgs.msg import Image

    ros2 = shutil.which("ros2")
    if ros2 is None:
        pytest.skip("no ros2 command on the path")
    launch_file = Path(__file__).resolve().parents[3] / "launch" / "enhance.launch.py"
    bag = write_episode(tmp_path / "episode", frames=60, size=(120, 160))
    images: list[Any] = []
    with LiveClient() as live:
        live.listen(Image, topics.ENHANCED_PREFIX + topics.DEPTH_IMAGE, images.append)
        process = subprocess.Popen(
            [ros2, "launch", str(launch_file), f"bag:={bag}", "model:=disparity", "rate:=0.5"],
            env=live.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert live.until(lambda: bool(images) or process.poll() is not None, 60)
            # The node taken down and up again by hand is not a reason to play the bag a second time.
            assert live.change("deactivate") and live.change("activate")
            assert live.until(lambda: process.poll() is not None, 90)
        finally:
            if process.poll() is None:
                process.terminate()
            output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    # The first frames of a bag go out while publisher and subscriber are still finding each other.
    assert len(images) >= 40, output
    assert np.isnan(depth_to_metres(image_to_numpy(images[-1]), "16UC1")).any()

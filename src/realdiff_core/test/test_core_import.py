"""Real frames become bags; made-up folders for the details, real data where it is."""

import json
import sys

import cv2
import numpy as np
import pytest
from core_bags import PROVENANCE, STORAGES, read_all, shared_data, write_depth_bag
from realdiff_core.bag import BagReader, BagWriter
from realdiff_core.episode import (
    REQUIRED_TOPICS,
    SIMULATION_TOPICS,
    list_episodes,
    read_camera,
    validate_episode,
)
from realdiff_core.errors import BagError, RealdiffError
from realdiff_core.frames import read_intrinsics
from realdiff_core.image import image_to_numpy
from realdiff_core.messages import to_ns
from realdiff_core.provenance import DepthKind

from realdiff_core import bag_info, import_frames, topics, validate

FOCAL = (500.0, 501.0, 15.0, 11.0)


def run(monkeypatch, module, *arguments):
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    return module.main()


def depth(number, height=24, width=32):
    image = np.full((height, width), 1000 + number, np.uint16)
    image[0, 0], image[0, 1] = 0, 65535
    return image


@pytest.fixture
def folder(tmp_path):
    """Frames 2, 10 and 100 (natural order isn't alphabetical), colour for two of them, intrinsics as of Open3D."""
    root = tmp_path / "desk"
    for name in ("depth", "color"):
        (root / name).mkdir(parents=True)
    for number in (2, 10, 100):
        cv2.imwrite(str(root / "depth" / f"{number}.png"), depth(number))
    for number in (2, 100):
        image = np.zeros((24, 32, 3), np.uint8)
        image[..., 0] = 200  # OpenCV writes BGR: this is blue
        cv2.imwrite(str(root / "color" / f"{number:04}.png"), image)
    matrix = [500, 0, 0, 0, 501, 0, 15, 11, 1]
    (root / "camera_intrinsic.json").write_text(json.dumps({"width": 32, "height": 24, "intrinsic_matrix": matrix}))
    return root


def images(path, topic):
    with BagReader(path) as reader:
        messages = [reader.deserialize(raw) for raw in reader.messages([topic])]
    return [(to_ns(message.header.stamp), message, image_to_numpy(message)) for message in messages]


@pytest.mark.parametrize("storage", STORAGES)
def test_import(folder, tmp_path, monkeypatch, capsys, storage):
    out = tmp_path / "bag"
    arguments = (folder, "-o", out, "--rate", "10", "--storage", storage, "--camera", "d415")
    assert run(monkeypatch, import_frames, *arguments) == 0
    assert "3 frames" in capsys.readouterr().out
    found = images(out, topics.DEPTH_IMAGE)
    # Frame numbers give the stamps: gaps stay gaps.
    assert [stamp for stamp, _, _ in found] == [1_000_000_000, 1_800_000_000, 10_800_000_000]
    for (_, message, pixels), number in zip(found, (2, 10, 100), strict=True):
        expected = depth(number)
        expected[0, 1] = 0  # 65535 means "not measured"
        np.testing.assert_array_equal(pixels, expected)
        assert message.encoding == "16UC1" and message.header.frame_id == topics.DEPTH_FRAME
    colour = images(out, topics.COLOR_IMAGE)
    assert [stamp for stamp, _, _ in colour] == [1_000_000_000, 10_800_000_000]
    assert colour[0][1].encoding == "rgb8" and colour[0][2][3, 4].tolist() == [0, 0, 200]
    with BagReader(out) as reader:
        camera = read_camera(reader, topics.DEPTH_IMAGE)
        assert (camera.fx, camera.fy, camera.cx, camera.cy) == FOCAL
        assert reader.topics[topics.DEPTH_INFO].count == 3
        provenance = reader.provenance()
    assert provenance.depth == {topics.DEPTH_IMAGE: DepthKind.SENSOR}
    assert provenance.source == "imported" and provenance.camera_profile == "d415"
    assert provenance.notes["folder"] == "desk"


def test_import_is_reproducible(folder, tmp_path):
    for name in ("one", "other"):
        import_frames.import_frames(folder, tmp_path / name / "bag", import_frames.ImportOptions())
    one, other = tmp_path / "one" / "bag", tmp_path / "other" / "bag"
    assert {item.name: item.read_bytes() for item in one.iterdir()} == {
        item.name: item.read_bytes() for item in other.iterdir()
    }


def test_other_scale_becomes_metres_and_clean_is_marked(folder, tmp_path):
    options = import_frames.ImportOptions(scale=0.0001, clean=True, aligned=True, limit=2)
    import_frames.import_frames(folder, tmp_path / "bag", options)
    found = images(tmp_path / "bag", topics.ALIGNED_DEPTH_IMAGE)
    assert [message.encoding for _, message, _ in found] == ["32FC1", "32FC1"]
    assert found[0][1].header.frame_id == topics.COLOR_FRAME
    assert found[0][2][5, 5] == np.float32(0.1002)
    assert np.isnan(found[0][2][0, :2]).all()
    with BagReader(tmp_path / "bag") as reader:
        assert reader.provenance().depth == {topics.ALIGNED_DEPTH_IMAGE: DepthKind.CLEAN_SIM}


def test_poses_become_tf(folder, tmp_path):
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(np.array([0, 0, np.pi / 2]))[0]
    pose[:3, 3] = [1, 2, 3]
    np.savetxt(folder / "frame-000010.pose.txt", pose)
    import_frames.import_frames(folder, tmp_path / "bag", import_frames.ImportOptions())
    with BagReader(tmp_path / "bag") as reader:
        (raw,) = reader.messages([topics.TF])
        transform = reader.deserialize(raw).transforms[0]
    assert to_ns(transform.header.stamp) == raw.stamp_ns == 1_000_000_000 + round(8e9 / 30)
    assert (transform.header.frame_id, transform.child_frame_id) == ("world", topics.DEPTH_FRAME)
    assert transform.transform.translation.y == 2
    rotation = transform.transform.rotation
    np.testing.assert_allclose([rotation.x, rotation.y, rotation.z, rotation.w], [0, 0, 0.5**0.5, 0.5**0.5])


@pytest.mark.parametrize(
    ("name", "content", "size"),
    [
        ("camera_intrinsic.json", json.dumps({"intrinsic_matrix": [500, 0, 0, 0, 501, 0, 15, 11, 1]}), None),
        (
            "camera_params.json",
            '{"img_width": 32, "img_height": 24, "fx": 500, "fy": 501, "x_offset": 15, "y_offset": 11}',
            (32, 24),
        ),
        ("K.txt", "500 0 15\n0 501 11\n0 0 1\n", None),
        ("camera_intrinsics.yaml", "xres: 32\nyres: 24\nfx: 500\nfy: 501\ncx: 15\ncy: 11\n", (32, 24)),
        (
            "camera_info.yaml",
            "image_width: 32\nimage_height: 24\n"
            "camera_matrix: {rows: 3, cols: 3, data: [500, 0, 15, 0, 501, 11, 0, 0, 1]}\n"
            "distortion_coefficients: {rows: 1, cols: 5, data: [0.1, 0, 0, 0, 0]}\n",
            (32, 24),
        ),
        ("metadata.csv", "Resolution x,32\nResolution y,24\n\nIntrinsic:,\nFx,500\nFy,501\nPPx,15\nPPy,11\n", (32, 24)),
    ],
)
def test_intrinsics_formats(tmp_path, name, content, size):
    (tmp_path / name).write_text(content)
    found = read_intrinsics(tmp_path / name)
    assert (found.fx, found.fy, found.cx, found.cy) == FOCAL
    assert (found.width, found.height) == (size or (None, None))
    assert found.distortion[0] == (0.1 if "info" in name else 0.0)


@pytest.mark.parametrize("content", ["", "{}", "[1, 2]", '{"fx": "wide"}', "1 2 3"])
@pytest.mark.parametrize("name", ["a.json", "K.txt", "a.yaml", "a.csv"])
def test_intrinsics_that_are_not_understood(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(RealdiffError, match="isn't understood") as caught:
        read_intrinsics(tmp_path / name)
    assert "--fx" in str(caught.value)


def test_missing_intrinsics_name_the_options(folder, tmp_path, monkeypatch):
    (folder / "camera_intrinsic.json").unlink()
    with pytest.raises(RealdiffError, match="intrinsics are missing") as caught:
        run(monkeypatch, import_frames, folder, "-o", tmp_path / "bag")
    assert "--intrinsics FILE, or --fx --fy --cx --cy" in str(caught.value)
    options = ("--fx", 500, "--fy", 501, "--cx", 15, "--cy", 11)
    assert run(monkeypatch, import_frames, folder, "-o", tmp_path / "bag", *options) == 0
    with pytest.raises(SystemExit):
        run(monkeypatch, import_frames, folder, "-o", tmp_path / "bag", "--fx", 500)


@pytest.mark.parametrize(
    "fault", ["no folder", "no images", "same number", "broken", "8 bit", "sizes", "intrinsics", "pose"]
)
def test_faults_of_the_folder_leave_nothing_behind(folder, tmp_path, fault):
    expected = {
        "no folder": "folder doesn't exist",
        "no images": "no depth images are found",
        "same number": "two files have the frame number 2",
        "broken": "can't be read",
        "8 bit": "is no depth image",
        "sizes": "differ in size",
        "intrinsics": "intrinsics and images differ in size",
        "pose": "is no pose",
    }[fault]
    options = import_frames.ImportOptions(depth_glob="*.tiff" if fault == "no images" else None)
    if fault == "same number":
        cv2.imwrite(str(folder / "depth" / "02.png"), depth(2))
    elif fault == "broken":
        (folder / "depth" / "10.png").write_bytes(b"not a picture")
    elif fault == "8 bit":
        cv2.imwrite(str(folder / "depth" / "10.png"), depth(10).astype(np.uint8))
    elif fault == "sizes":
        cv2.imwrite(str(folder / "depth" / "10.png"), depth(10, 12, 16))
    elif fault == "intrinsics":
        options = import_frames.ImportOptions(intrinsics=tmp_path / "K.json")
        (tmp_path / "K.json").write_text('{"fx": 1, "fy": 1, "cx": 1, "cy": 1, "width": 64, "height": 48}')
    elif fault == "pose":
        np.savetxt(folder / "frame-2.pose.txt", np.ones((4, 4)))
    source = folder if fault != "no folder" else tmp_path / "nowhere"
    with pytest.raises(RealdiffError, match=expected) as caught:
        import_frames.import_frames(source, tmp_path / "out" / "bag", options)
    assert caught.value.where is not None
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("parts", "options", "frames", "colour"),
    [
        (("aims_d435",), {"focal": (384.0, 384.0, 320.0, 240.0)}, 100, 4),
        (("tron_d435", "seq2480"), {"aligned": True}, 104, 18),
        (("tron_d435", "seq99"), {}, 33, 3),
        (("ovni_d415",), {"camera": "d415"}, 129, 5),
        (("ovni_d415",), {"depth_glob": "native_raw/*.raw", "camera": "d415"}, 10, 0),
        (("pose_annotator",), {}, 1, 1),
        (("uoc_demo",), {}, 5, 5),
        (("cup_static",), {"focal": (460.0, 460.0, 320.0, 180.0)}, 52, 0),
        (("kinect_7scenes",), {}, 60, 0),
        (("pairs", "tron_d435"), {}, 100, 0),
        (("pairs", "ovni_d415"), {"depth_glob": "clean/*.png", "scale": 0.0001, "clean": True}, 66, 0),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_real_layouts(tmp_path, parts, options, frames, colour):
    folder = shared_data(*parts)
    limited = import_frames.ImportOptions(**options, limit=3)
    assert import_frames.import_frames(folder, tmp_path / "bag", limited) == min(frames, 3)
    from realdiff_core.frames import find_frames

    found = find_frames(folder, options.get("depth_glob"))
    assert len(found.depth) == frames or parts[0] == "pairs"
    assert len(found.colour) == colour
    with BagReader(tmp_path / "bag") as reader:
        topic = topics.ALIGNED_DEPTH_IMAGE if options.get("aligned") else topics.DEPTH_IMAGE
        camera = read_camera(reader, topic)
        message = reader.deserialize(reader.first(topic))
        assert (message.width, message.height) == (camera.width, camera.height)
        kind = DepthKind.CLEAN_SIM if options.get("clean") else DepthKind.SENSOR
        assert reader.provenance().depth == {topic: kind}
        pixels = image_to_numpy(message).astype(float) * (0.001 if message.encoding == "16UC1" else 1)
        assert 0.2 < np.nanmedian(np.where(pixels > 0, pixels, np.nan)) < 5, "metres"


def test_bag_info(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, bag_info, write_depth_bag(tmp_path / "bag")) == 0
    text = capsys.readouterr().out
    for part in ("mcap", topics.DEPTH_IMAGE, "sensor_msgs/msg/Image", "clean_sim", "seed: 7", "task: can_to_plate"):
        assert part in text
    with BagWriter(tmp_path / "empty") as writer:
        writer.add_topic("/text", "std_msgs/msg/String")
    run(monkeypatch, bag_info, tmp_path / "empty")
    assert "origin of this bag's depth is unknown" in capsys.readouterr().out


def test_episodes_are_listed_in_natural_order(tmp_path):
    for number in (10, 2, 1):
        write_depth_bag(tmp_path / "run" / f"episode_{number}", frames=1)
    (tmp_path / "run" / ".episode_3.partial-x").mkdir()
    (tmp_path / "run" / "notes").mkdir()
    episodes = list_episodes(tmp_path / "run")
    assert [path.name for path in episodes] == ["episode_1", "episode_2", "episode_10"]
    assert list_episodes(episodes[0]) == [episodes[0]]
    with pytest.raises(BagError, match="no episodes"):
        list_episodes(tmp_path / "run" / "notes")
    with pytest.raises(BagError, match="folder doesn't exist"):
        list_episodes(tmp_path / "nowhere")


def whole_episode(path, leave_out=()):
    """The depth bag with everything else that an episode needs."""
    write_depth_bag(path.parent / "parts" / path.name, frames=3)
    from realdiff_core.messages import CAMERA_INFO, IMAGE, make

    wanted = {**REQUIRED_TOPICS, **SIMULATION_TOPICS}
    with BagReader(path.parent / "parts" / path.name) as reader, BagWriter(path) as writer:
        source = {raw.topic: reader.deserialize(raw) for raw in reader.messages()}
        for name, msgtype in wanted.items():
            if name in leave_out:
                continue
            writer.add_topic(name, msgtype)
            message = make(msgtype)
            if msgtype == IMAGE:
                message = source[topics.DEPTH_IMAGE]
            elif msgtype == CAMERA_INFO:
                message = source[topics.DEPTH_INFO]
            writer.write_message(name, 5, message)
        depth_kinds = {topics.DEPTH_IMAGE: DepthKind.CLEAN_SIM, topics.ALIGNED_DEPTH_IMAGE: DepthKind.CLEAN_SIM}
        depth_kinds[topics.COLOR_IMAGE] = DepthKind.CLEAN_SIM  # the stand-in for colour has a depth encoding
        writer.set_provenance(PROVENANCE.model_copy(update={"depth": depth_kinds}))
    return path


def test_a_whole_episode_is_valid(tmp_path, monkeypatch, capsys):
    report = validate_episode(whole_episode(tmp_path / "episode"))
    assert report.problems == [] and report.valid
    assert report.frames[topics.DEPTH_IMAGE] == 1
    assert run(monkeypatch, validate, tmp_path / "episode") == 0
    assert "ok" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted({**REQUIRED_TOPICS, **SIMULATION_TOPICS}))
def test_every_missing_topic_is_reported(tmp_path, monkeypatch, capsys, name):
    whole_episode(tmp_path / "episode", leave_out=[name])
    assert run(monkeypatch, validate, tmp_path / "episode") == 1
    assert f"{name}: missing" in capsys.readouterr().out


def test_faulty_images_are_reported(tmp_path):
    from realdiff_core.messages import CAMERA_INFO, IMAGE, make, make_header

    fields = {"height": 2, "width": 2, "encoding": "16UC1", "step": 4, "data": bytes(8)}
    good = make(IMAGE, header=make_header(5, ""), **fields)
    with BagWriter(tmp_path / "bag") as writer:
        for name in ("/a/image", "/b/image", "/c/image"):
            writer.add_topic(name, IMAGE)
            writer.write_message(name, 5, good)
        writer.add_topic("/a/camera_info", CAMERA_INFO)
        k = [1.0, 0, 1, 0, 1, 1, 0, 0, 1]
        writer.write_message("/a/camera_info", 5, make(CAMERA_INFO, width=4, height=2, k=k))
        writer.write_message("/b/image", 6, make(IMAGE, header=make_header(4, ""), **fields))
        writer.write_message("/c/image", 6, make(IMAGE, header=make_header(6, ""), **{**fields, "data": bytes(7)}))
    problems = "\n".join(validate_episode(tmp_path / "bag").problems)
    assert "/a/image: image of 2×2 16UC1 at 5 ns, expected 4×2" in problems
    assert "/b/image: camera_info of /b/image is missing" in problems
    assert "/b/image: header stamps of a topic go backwards" in problems
    assert "/c/image: image data has the wrong length" in problems
    assert "no provenance record" in problems
    assert read_all(tmp_path / "bag")

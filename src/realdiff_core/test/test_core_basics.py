"""Seeds, messages, configuration, provenance, errors, command line."""

import errno
import subprocess
import sys

import numpy as np
import pytest
from core_bags import subprocess_environment
from realdiff_core.errors import BagError, ConfigError, ProvenanceError, RealdiffError
from realdiff_core.messages import deserialize, from_ns, make, serialize, to_ns, typestore
from realdiff_core.provenance import BagProvenance, DepthKind, EnhancementRecord, check_can_enhance
from realdiff_core.seeds import frame_seed, rng, stream_seed

from realdiff_core import bench, cli, config, topics


def test_frame_seeds_are_fixed_for_ever():
    # Golden values, computed independently:
    # printf 'realdiff.frame/1' + 3 big-endian words + topic | b2sum -l 64
    assert frame_seed(0, "/a", 1) == 13734669706548695421
    assert frame_seed(0, "/a", 1, draw=1) != frame_seed(0, "/a", 1)


def test_stream_seeds_are_fixed_for_ever_and_depend_on_seed_topic_and_draw():
    # printf 'realdiff.stream/1' + 2 big-endian words + topic | b2sum -l 64
    assert stream_seed(0, "/a") == 0x9FA0168D8BCB7E3B
    cases = [(seed, topic, draw) for seed in (0, 1, 2**64 - 1) for topic in ("/a", "/b") for draw in (0, 1)]
    frames = {frame_seed(seed, topic, 0, draw) for seed, topic, draw in cases}
    assert len({stream_seed(*case) for case in cases} | frames) == 2 * len(cases)
    with pytest.raises(ConfigError, match="draw is out of range"):
        stream_seed(0, "/a", -1)


def test_frame_seeds_depend_on_everything_and_collide_on_nothing():
    cases = [
        (seed, topic, stamp, draw)
        for seed in (0, 1, 2**64 - 1)
        for topic in ("/depth", "/depth/", "/camera/深度")
        for stamp in (-1, 0, 1, 2**62)
        for draw in (0, 1)
    ]
    assert len({frame_seed(*case) for case in cases}) == len(cases)
    assert all(0 <= frame_seed(*case) < 2**64 for case in cases)


def test_seeds_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="seed is out of range"):
        frame_seed(-1, "/a", 0)
    with pytest.raises(ConfigError, match="draw is out of range"):
        frame_seed(0, "/a", 0, draw=2**64)


def test_generator_is_pcg64():
    assert rng(5).integers(1 << 32) == np.random.Generator(np.random.PCG64(5)).integers(1 << 32)


@pytest.mark.parametrize(
    "typestr", sorted(name for name in typestore().fielddefs if "/msg/" in name and not name.endswith("Key_"))
)
def test_every_message_type_has_defaults_that_survive_the_wire(typestr):
    message = make(typestr)
    again = deserialize(serialize(message), typestr)
    assert serialize(again, typestr) == serialize(message)


def test_make_fills_nested_messages_and_arrays():
    pose = make("realdiff_msgs/msg/ObjectPoses", names=["can"], poses=[{"position": {"x": 0.5}}])
    again = deserialize(serialize(pose), "realdiff_msgs/msg/ObjectPoses")
    assert again.names == ["can"] and again.poses[0].position.x == 0.5 and again.poses[0].orientation.w == 1.0
    assert make("sensor_msgs/msg/Image", data=b"\1\2").data.tolist() == [1, 2]
    with pytest.raises(RealdiffError, match="no such field"):
        make("sensor_msgs/msg/Image", colour=1)
    with pytest.raises(RealdiffError, match="wrong length"):
        make("sensor_msgs/msg/CameraInfo", k=[1.0])
    with pytest.raises(RealdiffError, match="type is unknown"):
        make("nowhere/msg/Nothing")


def test_damaged_message_is_an_error_not_a_crash():
    data = serialize(make("sensor_msgs/msg/JointState", name=["a"], position=[1.0]))
    for damaged in (b"", data[:3], data[:9], data[: len(data) // 2], b"\xff" * len(data)):
        with pytest.raises(RealdiffError, match="can't be decoded"):
            deserialize(damaged, "sensor_msgs/msg/JointState")


def test_stamps():
    assert to_ns(from_ns(1_700_000_000_123_456_789)) == 1_700_000_000_123_456_789
    for bad in (-1, 2**31 * 10**9):
        with pytest.raises(RealdiffError, match="out of range"):
            from_ns(bad)


@pytest.mark.parametrize("name", ["d435", "d415"])
def test_shipped_camera_profiles(name):
    profile = config.camera_profile(name)
    assert profile.name == name
    assert 0.28 <= profile.near_m < profile.far_m
    assert 0.049 < profile.baseline_m < 0.056
    assert profile.disparity_step_px == 1 / 32


def test_config_errors_name_file_key_expected_got(tmp_path):
    path = tmp_path / "camera.yaml"
    good = config.find_config("cameras/d435.yaml").read_text()
    cases = [
        (good.replace("near_m: 0.28", "near_m: -1"), "near_m", "greater than 0"),
        (good.replace("near_m: 0.28", "near_m: 9"), "file", "must be greater than near_m"),
        (good + "speed: 3\n", "speed", "one of: name"),
        (good.replace("baseline_m:", "base:"), "baseline_m", "nothing"),
        ("- a\n", "wrong form", "keys and values"),
        ("a: [", "isn't valid YAML", "camera.yaml"),
    ]
    for text, *expected in cases:
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            config.load_yaml(path, config.CameraProfile)
        for part in (*expected, "camera.yaml"):
            assert part in str(caught.value)
    with pytest.raises(ConfigError, match="missing"):
        config.load_yaml(tmp_path / "none.yaml", config.CameraProfile)
    with pytest.raises(ConfigError, match=r"d435\.yaml"):
        config.camera_profile("d999")


def test_configuration_folder_can_be_overridden(tmp_path, monkeypatch):
    (tmp_path / "cameras").mkdir()
    mine = tmp_path / "cameras" / "mine.yaml"
    mine.write_text(config.find_config("cameras/d435.yaml").read_text().replace("name: d435", "name: mine"))
    monkeypatch.setenv("REALDIFF_CONFIG_DIR", str(tmp_path))
    assert config.camera_profile("mine").name == "mine"
    assert config.camera_profile(str(mine)).name == "mine"


def test_camera_info_topics():
    assert topics.camera_info_topic(topics.DEPTH_IMAGE) == topics.DEPTH_INFO
    assert topics.camera_info_topic(topics.ALIGNED_DEPTH_IMAGE) == topics.ALIGNED_DEPTH_INFO


def test_provenance_is_the_same_bytes_for_the_same_content():
    enhancement = EnhancementRecord(model="two_stage", profile="d435", seed=2**64 - 1, steps=4)
    one = BagProvenance(
        depth={"/b": DepthKind.ENHANCED, "/a": DepthKind.CLEAN_SIM}, source="simulation", enhancement=enhancement
    )
    other = BagProvenance(
        depth={"/a": "clean_sim", "/b": "enhanced"}, source="simulation", enhancement=enhancement.model_copy()
    )
    assert one.to_json() == other.to_json()
    assert BagProvenance.from_json(one.to_json()) == one


def test_provenance_of_earlier_versions_has_no_hash_of_settings():
    """What an enhanced bag held before `settings_sha256` was there."""
    text = (
        '{"camera_profile":"d435","depth":{"/a":"enhanced"},"enhancement":{"draw":0,"history":3,"model":"two_stage",'
        '"profile":"d435","seed":1,"steps":4,"weights_sha256":"ab"},"format_version":1,"source":"simulation"}'
    )
    record = BagProvenance.from_json(text).enhancement
    assert record is not None
    assert (record.weights_sha256, record.settings_sha256) == ("ab", None)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format_version": 2, "depth": {}, "source": "imported"}'])
def test_damaged_provenance_is_refused(text):
    with pytest.raises(ProvenanceError, match="isn't valid"):
        BagProvenance.from_json(text, where="some bag")


@pytest.mark.parametrize("kind", [DepthKind.ENHANCED, DepthKind.SENSOR, DepthKind.STEREO_SIM, None])
def test_double_noise_guard(kind):
    provenance = None if kind is None else BagProvenance(depth={"/d": kind}, source="hardware")
    with pytest.raises(ProvenanceError, match="must not be enhanced") as caught:
        check_can_enhance(provenance, "/d")
    assert "/d" in str(caught.value) and "override" in str(caught.value)
    check_can_enhance(provenance, "/d", override=True)


def test_clean_depth_may_be_enhanced():
    provenance = BagProvenance(depth={"/d": DepthKind.CLEAN_SIM}, source="simulation")
    check_can_enhance(provenance, "/d")
    with pytest.raises(ProvenanceError, match="nothing is known"):
        check_can_enhance(provenance, "/other")


def test_error_text_says_where_what_expected_got_next():
    error = BagError("broken", where="a topic", expected=1, got=0, next_step="mend it").at("a file")
    assert str(error).splitlines() == [
        "broken",
        "  where:     a file, a topic",
        "  expected:  1",
        "  got:       0",
        "  next step: mend it",
    ]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (BagError("no bag", next_step="look"), 2, "next step: look"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/bag"), 2, "disk is full"),
        (OSError(errno.EACCES, "Permission denied", "/x/bag"), 2, "/x/bag"),
    ],
)
def test_run_command_maps_errors_to_exit_codes(error, code, text, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        cli.run_command(main)
    assert caught.value.code == code
    assert text in capsys.readouterr().err


def test_run_command_passes_results_and_defects():
    with pytest.raises(SystemExit) as caught:
        cli.run_command(lambda: 3)
    assert caught.value.code == 3
    with pytest.raises(ZeroDivisionError):
        cli.run_command(lambda: 1 // 0)


def test_progress_is_silent_without_a_terminal(capsys):
    with cli.progress("working", 3) as bar:
        bar.advance()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("verb", ["import_frames", "bag_info", "bench", "validate"])
def test_help_shows_examples_at_once_without_heavy_imports(verb):
    code = (
        f"import sys; sys.argv = ['{verb}', '--help']\n"
        f"from realdiff_core import {verb}\n"
        "try:\n    " + verb + ".main()\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'cv2', 'rosbags', 'pydantic', 'scipy', 'torch', 'rclpy'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=subprocess_environment(), check=False
    )
    assert result.returncode == 0, result.stderr
    assert "examples:\n  ros2 run realdiff_core" in result.stdout


def test_bench_gives_a_figure_for_every_kind_of_bag():
    results = bench.bench(frames=3)
    assert all(set(item) == {"name", "value", "unit", "baseline", "ratio", "command"} for item in results)
    assert len({item["name"] for item in results}) == len(results) == 9
    rates = [item for item in results if item["unit"] == "frames/s"]
    assert all(item["value"] > 0 for item in rates)
    assert sum(item["baseline"] == 150 for item in rates) == 4

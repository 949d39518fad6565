"""Reading depth sequences for the making of pairs, from folders and from bags."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from realdiff_core.bag import BagReader, BagWriter
from realdiff_core.errors import CameraError, ImageError, ProvenanceError, RealdiffError
from realdiff_core.import_frames import ImportOptions, import_frames
from realdiff_enhancer.data.sequence import SequenceOptions, read_sequence

from realdiff_core import topics

K = np.array([[100.0, 0, 15.5], [0, 101.0, 11.5], [0, 0, 1]])
OPTIONS = SequenceOptions(baseline_m=0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "raw"
    (path / "depth").mkdir(parents=True)
    for number in (2, 10, 4, 6, 8):
        image = np.full((24, 32), 1000 + number, np.uint16)
        image[0, :3] = 0, 65535, 700
        cv2.imwrite(str(path / "depth" / f"{number}.png"), image)
    np.savetxt(path / "K.txt", K)
    return path


def test_folder_in_order_of_numbers(folder: Path) -> None:
    sequence = read_sequence(folder, OPTIONS)
    assert list(sequence.numbers) == [2, 4, 6, 8, 10]
    np.testing.assert_allclose([d[5, 5] for d in sequence.depths_m], [1.002, 1.004, 1.006, 1.008, 1.010], rtol=1e-6)
    np.testing.assert_allclose(sequence.depths_m[0][0, :3], [np.nan, np.nan, 0.7])
    np.testing.assert_allclose(sequence.K, K)
    assert sequence.poses is None


def test_part_of_a_folder(folder: Path) -> None:
    options = SequenceOptions(baseline_m=0.05, first=4, every=2, focal=(90.0, 90.0, 16.0, 12.0))
    sequence = read_sequence(folder, options)
    assert list(sequence.numbers) == [4, 8]
    assert sequence.K[0, 0] == 90
    with pytest.raises(RealdiffError, match="range"):
        read_sequence(folder, SequenceOptions(baseline_m=0.05, first=50))


def test_poses_beside_the_images_are_read(folder: Path) -> None:
    (folder / "poses").mkdir()
    for number in (2, 4, 6, 8, 10):
        pose = np.eye(4)
        pose[0, 3] = number
        np.savetxt(folder / "poses" / f"{number}.txt", pose)
    sequence = read_sequence(folder, OPTIONS)
    assert sequence.poses is not None
    assert [p[0, 3] for p in sequence.poses] == [2, 4, 6, 8, 10]
    (folder / "poses" / "6.txt").unlink()
    assert read_sequence(folder, OPTIONS).poses is None, "half a path is none"


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("scale", [None, 0.0005], ids=["16UC1", "32FC1"])
def test_bag(folder: Path, tmp_path: Path, storage: str, scale: float | None) -> None:
    import_frames(folder, tmp_path / "bag", ImportOptions(storage=storage, scale=scale))
    sequence = read_sequence(tmp_path / "bag", OPTIONS)
    expected = read_sequence(folder, SequenceOptions(baseline_m=0.05, scale=scale))
    assert list(sequence.numbers) == [0, 1, 2, 3, 4]
    for found, wanted in zip(sequence.depths_m, expected.depths_m, strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(sequence.K, K)
    part = read_sequence(tmp_path / "bag", SequenceOptions(baseline_m=0.05, every=2, limit=2))
    assert list(part.numbers) == [0, 2]


def paint(folder: Path, numbers: tuple[int, ...] = (2, 4, 6, 8, 10)) -> None:
    (folder / "color").mkdir()
    for number in numbers:
        cv2.imwrite(str(folder / "color" / f"{number}.png"), np.full((24, 32, 3), (0, 0, 10 * number), np.uint8))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_colour_is_read_where_it_is_asked_for(folder: Path, tmp_path: Path, storage: str) -> None:
    paint(folder)
    import_frames(folder, tmp_path / "bag", ImportOptions(storage=storage, aligned=True))
    assert not read_sequence(folder, OPTIONS).colours
    asked = SequenceOptions(baseline_m=0.05, every=2, colour=True)
    for source in (folder, tmp_path / "bag"):
        sequence = read_sequence(source, asked)
        images = [sequence.colours[number]() for number in sequence.numbers]
        assert [image[0, 0].tolist() for image in images] == [[20, 0, 0], [60, 0, 0], [100, 0, 0]], "RGB"
        assert images[0].shape == (24, 32, 3)


@pytest.mark.parametrize("late_ns", [-20_000_000, -1, 0, 1, 10_000_000])
def test_colour_nearest_in_time_is_taken(folder: Path, tmp_path: Path, late_ns: int) -> None:
    paint(folder)
    import_frames(folder, tmp_path / "bag", ImportOptions(aligned=True, rate_hz=30))
    moved = tmp_path / "moved"
    with BagReader(tmp_path / "bag") as reader, BagWriter(moved) as writer:
        for info in reader.topics.values():
            writer.copy_topic(info)
        for key, value in reader.custom_data.items():
            writer.set_custom_data(key, value)
        late = {topics.COLOR_IMAGE: late_ns}
        messages = [(raw.stamp_ns + late.get(raw.topic, 0), raw) for raw in reader.messages()]
        for stamp, raw in sorted(messages, key=lambda item: item[0]):
            writer.write(raw.topic, stamp, raw.data)
    sequence = read_sequence(moved, SequenceOptions(baseline_m=0.05, colour=True))
    # frames 2, 4, 6, … at 30 Hz are 67 ms apart
    assert [sequence.colours[n]()[0, 0, 0] for n in sequence.numbers] == [20, 40, 60, 80, 100]


def test_missing_colour_is_refused_where_it_is_asked_for(folder: Path, tmp_path: Path) -> None:
    asked = SequenceOptions(baseline_m=0.05, colour=True)
    paint(folder, (2, 6))
    with pytest.raises(RealdiffError, match=r"none for 3 of 5 frames, the first is 4"):
        read_sequence(folder, asked)
    import_frames(folder, tmp_path / "apart", ImportOptions())
    with pytest.raises(RealdiffError, match=r"none for 5 of 5 frames"):
        read_sequence(tmp_path / "apart", asked)


def test_depth_that_is_not_measured_is_refused(folder: Path, tmp_path: Path) -> None:
    import_frames(folder, tmp_path / "bag", ImportOptions(clean=True))
    with pytest.raises(ProvenanceError, match="real camera"):
        read_sequence(tmp_path / "bag", OPTIONS)


def test_bad_sources(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RealdiffError, match="does not exist"):
        read_sequence(tmp_path / "nothing", OPTIONS)
    cv2.imwrite(str(folder / "depth" / "11.png"), np.ones((10, 10), np.uint16))
    with pytest.raises(ImageError, match="differ in size"):
        read_sequence(folder, OPTIONS)
    (folder / "K.txt").unlink()
    with pytest.raises(CameraError, match="intrinsics are missing"):
        read_sequence(folder, SequenceOptions(baseline_m=0.05, last=10))

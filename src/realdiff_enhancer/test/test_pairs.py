"""Pair folders and packs: round trips, split, refusals."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from realdiff_core.errors import RealdiffError
from realdiff_enhancer.data.pair_folder import PairFolderWriter, PairMeta, join_packs, load_folder, pack_pairs
from realdiff_enhancer.data.pair_maker import PairCandidate
from realdiff_enhancer.data.pair_quality import PairStatistics
from realdiff_enhancer.data.pairs import PairPack, _decode, _encode

K = np.array([[40.0, 0, 16], [0, 40.0, 12], [0, 0, 1]])
META = PairMeta(source="lab", licence="MIT", camera="d435", baseline_m=0.05)
FIGURES = PairStatistics(1.0, 0.1, 2.0, 1.0, 0.0, 0.9, 0.05, 0.0, 0.02, 0.0)


def _candidate(number: int, window: int, failures: tuple[str, ...] = ()) -> PairCandidate:
    rng = np.random.default_rng(number)
    clean = rng.uniform(0.3, 6.5, (24, 32)).astype(np.float32)
    noisy = (clean + rng.normal(0, 0.01, clean.shape)).astype(np.float32)
    clean[:3], noisy[5:9, 4:8] = np.nan, np.nan
    return PairCandidate(number, window, clean, noisy, FIGURES, failures)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    writer = PairFolderWriter(tmp_path / "lab", K, META)
    for number in range(0, 12, 2):
        writer.write(_candidate(number, number // 4 * 4))
    writer.write(_candidate(99, 8, ("sigma_px 0.900 > 0.3",)))
    return tmp_path / "lab"


def test_folder_keeps_depth_to_its_step_and_leaves_out_rejected_pairs(folder: Path) -> None:
    pack = load_folder(folder, meta=META)
    assert list(pack.frames) == [0, 2, 4, 6, 8, 10]
    assert list(pack.windows) == [0, 0, 4, 4, 8, 8]
    source = _candidate(6, 4)
    np.testing.assert_allclose(pack.clean_m(3), source.clean_m, atol=0.51e-4)
    np.testing.assert_allclose(pack.noisy_m(3), source.noisy_m, atol=0.51e-3)
    np.testing.assert_allclose(pack.K, K)
    assert "sigma_px" in (folder / "rejected.csv").read_text()


def test_last_windows_are_kept_out_of_training(folder: Path) -> None:
    assert list(load_folder(folder, meta=META).validation_indices()) == [4, 5]
    assert list(load_folder(folder, meta=META, validation_windows=2).training_indices()) == [0, 1]
    assert len(load_folder(folder, meta=META, validation_windows=0).validation_indices()) == 0
    assert len(load_folder(folder, meta=META, validation_windows=9).training_indices()) == 2, "never all of them"


def test_pack_round_trip(folder: Path, tmp_path: Path) -> None:
    pack, size = pack_pairs([folder], tmp_path / "packs" / "lab.npz")
    again = PairPack.load(tmp_path / "packs" / "lab.npz")
    assert size == (tmp_path / "packs" / "lab.npz").stat().st_size
    for name in ("clean_01mm", "noisy_mm", "K", "frames", "windows", "validation"):
        np.testing.assert_array_equal(getattr(again, name), getattr(pack, name), err_msg=name)
        assert getattr(again, name).dtype == getattr(pack, name).dtype
    assert (again.source, again.licence, again.baseline_m) == ("lab", "MIT", 0.05)
    assert again.disparity_factor == pytest.approx(2.0)


@given(hnp.arrays(np.uint16, st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9))))
def test_coding_is_lossless(images: np.ndarray) -> None:
    np.testing.assert_array_equal(_decode(_encode(images)), images)


def test_plain_arrays_are_read_too(tmp_path: Path) -> None:
    image = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    np.savez_compressed(tmp_path / "plain.npz", clean_01mm=image, noisy_mm=image, K=K, baseline_m=0.05)
    pack = PairPack.load(tmp_path / "plain.npz")
    np.testing.assert_array_equal(pack.clean_01mm, image)
    assert list(pack.training_indices()) == [0, 1]
    assert pack.source == "plain"


def test_reader_needs_numpy_only(folder: Path, tmp_path: Path) -> None:
    pack_pairs([folder], tmp_path / "lab.npz")
    code = (
        "import sys\n"
        "for name in ('cv2', 'open3d', 'rosbags', 'scipy', 'pydantic', 'torch', 'rclpy'): sys.modules[name] = None\n"
        "from realdiff_enhancer.data.pairs import PairPack\n"
        f"print(len(PairPack.load({str(tmp_path / 'lab.npz')!r})))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "6\n"), done.stderr


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "other"])
def test_bad_packs_are_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bad.npz"
    if damage == "cut":
        pack_pairs([folder], path)
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "text":
        path.write_text("no archive")
    elif damage == "other":
        np.savez(path, something=np.zeros(3))
    with pytest.raises(RealdiffError, match="pair pack") as caught:
        PairPack.load(path)
    assert str(path) in str(caught.value)


def test_parts_that_do_not_fit_are_refused(folder: Path) -> None:
    pack = load_folder(folder, meta=META)
    with pytest.raises(RealdiffError, match="fit together"):
        PairPack(pack.clean_01mm[1:], pack.noisy_mm, K, 0.05, "x", pack.frames, pack.windows, pack.validation)


def test_cameras_are_not_mixed(folder: Path) -> None:
    pack = load_folder(folder, meta=META)
    other = load_folder(folder, meta=META.model_copy(update={"baseline_m": 0.055}))
    assert len(join_packs([pack, pack])) == 12
    with pytest.raises(RealdiffError, match="different cameras"):
        join_packs([pack, other])


def _colours(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (12, 16, 3), np.uint8).repeat(2, axis=0).repeat(2, axis=1)


def test_colour_becomes_luminance_of_the_pack(folder: Path, tmp_path: Path) -> None:
    assert load_folder(folder, meta=META).grey is None
    writer = PairFolderWriter(tmp_path / "seen", K, META)
    for number in range(6):
        writer.write(_candidate(number, number // 2 * 2), _colours(number))
    pack, _ = pack_pairs([tmp_path / "seen", tmp_path / "seen"], tmp_path / "seen.npz")
    grey = PairPack.load(tmp_path / "seen.npz").grey
    assert grey is not None and grey.dtype == np.uint8 and grey.shape == (12, 12, 16)
    for index, number in enumerate([*range(6)] * 2):
        expected = _colours(number)[::2, ::2].astype(float) @ (0.299, 0.587, 0.114)
        np.testing.assert_allclose(grey[index], expected, atol=1.01)

    with pytest.raises(RealdiffError, match="only some of the pairs have colour"):
        join_packs([load_folder(folder, meta=META), pack])
    (tmp_path / "seen" / "colour" / "000002.png").unlink()
    with pytest.raises(RealdiffError, match=r"colour/000002\.png"):
        load_folder(tmp_path / "seen", meta=META)


def test_folder_without_meta_asks_for_the_camera(folder: Path, tmp_path: Path) -> None:
    (folder / "meta.yaml").unlink()
    with pytest.raises(RealdiffError, match="which camera"):
        pack_pairs([folder], tmp_path / "x.npz")
    pack, _ = pack_pairs([folder], tmp_path / "x.npz", default=META)
    assert pack.source == "lab"


def test_empty_folder_and_damaged_image_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RealdiffError, match="no pairs"):
        load_folder(tmp_path / "nothing", meta=META)
    (folder / "clean" / "000004.png").write_bytes(b"not a png")
    with pytest.raises(RealdiffError, match="can't be read"):
        load_folder(folder, meta=META)

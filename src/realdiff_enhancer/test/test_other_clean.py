"""The camera's own error on other clean depth: arithmetic, frames in common, the row in the tables."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from realdiff_core.errors import ConfigError
from realdiff_enhancer.commands.evaluate import build_parser, evaluate
from realdiff_enhancer.evaluation.other_clean import OTHER_CLEAN, common_frames, parse_other_clean
from realdiff_enhancer.evaluation.pairs import Scene, SceneArgument, load_scene
from realdiff_enhancer.evaluation.runner import enhance_scene
from realdiff_enhancer.metrics.frames import CleanContext
from test_evaluate import one_thread, write_pairs  # noqa: F401

FACTOR = 0.050  # baseline, m; times the focal length


def changed(folder: Path, source: Path, offset_px: float, numbers: slice = slice(None)) -> Path:
    """The pairs of a folder with clean depth that is so much farther in disparity, unknown in a corner."""
    (folder / "clean").mkdir(parents=True)
    (folder / "noisy").mkdir()
    (folder / "K.txt").write_bytes((source / "K.txt").read_bytes())
    factor = FACTOR * np.loadtxt(source / "K.txt")[0, 0]
    for file in sorted((source / "clean").glob("*.png"))[numbers]:
        clean = cv2.imread(str(file), cv2.IMREAD_UNCHANGED) * 1e-4
        moved = factor / (factor / np.where(clean > 0, clean, np.nan) - offset_px)
        image = np.nan_to_num(np.round(moved * 1e4)).astype(np.uint16)
        image[:20, :30] = 0
        cv2.imwrite(str(folder / "clean" / file.name), image)
        (folder / "noisy" / file.name).write_bytes((source / "noisy" / file.name).read_bytes())
    return folder


def load(folder: Path) -> Scene:
    return load_scene(SceneArgument("scene", folder, "d435"))


def test_the_error_is_moved_in_disparity(tmp_path: Path) -> None:
    """0.4 px more of error against the other clean depth is 0.4 px more here; what is unknown stays as recorded."""
    pairs = write_pairs(tmp_path / "pairs")
    scene, model = common_frames(load(pairs), load(changed(tmp_path / "other", pairs, 0.4, slice(1, 6))), 7)
    assert [frame.number for frame in scene.frames] == [frame.number for frame in load(pairs).frames][1:]
    contexts = [CleanContext(scene.clean(i), scene.camera) for i in range(len(scene.frames))]
    images, _ = enhance_scene(model, scene, contexts, 7)
    factor = scene.camera.disparity_factor
    for index, ours in enumerate(images):
        recorded, clean = scene.noisy(index), scene.clean(index)
        assert np.array_equal(np.isnan(ours), np.isnan(recorded))
        corner = np.s_[:20, :30]
        assert np.array_equal(ours[corner], recorded[corner], equal_nan=True)
        inside = np.isfinite(recorded) & np.isfinite(clean)
        inside[corner] = False
        assert inside.sum() > 1000
        # what is missing to 0.4 px: both images are whole millimetres, the clean depth whole tenths
        rounding = 0.7e-3 * factor / clean[inside] ** 2
        assert (np.abs(factor / ours - factor / recorded - 0.4)[inside] <= rounding).all()


def test_its_row_stands_before_the_models(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", frames=8)
    other = changed(tmp_path / "other", pairs, 0.4, slice(0, 6))
    arguments = ["--pairs", f"desk={pairs}", "--other-clean", f"desk={other}", "--models", "none", "--max-frames", "5"]
    options = build_parser().parse_args(
        [*arguments, "--resamples", "20", "--classifier-steps", "0", "--features", "none", "-o", str(tmp_path / "out")]
    )
    assert evaluate(options, "evaluate …") == 0
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
    assert list(dict.fromkeys(row["source"] for row in rows)) == ["real", OTHER_CLEAN, "none"]
    assert {row["frames"] for row in rows if row["metric"] == "chamfer_l2"} == {"5"}
    holes = {row["source"]: float(row["value"]) for row in rows if row["metric"] == "hole_rate_pct"}
    assert holes[OTHER_CLEAN] == pytest.approx(holes["real"])


def test_other_recordings_are_refused(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs")
    few = changed(tmp_path / "few", pairs, 0.1, slice(0, 3))
    with pytest.raises(ConfigError, match="3 of 6"):
        common_frames(load(pairs), load(few), 0)
    other = changed(tmp_path / "other", pairs, 0.1)
    file = sorted((other / "noisy").glob("*.png"))[2]
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    image[60, :50] = 0  # one of the folders may leave some pixels out
    cv2.imwrite(str(file), image)
    assert len(common_frames(load(pairs), load(other), 0)[0].frames) == 6
    image[60, 60] += 1
    cv2.imwrite(str(file), image)
    with pytest.raises(ConfigError, match=f"another image for frame {int(file.stem)}"):
        common_frames(load(pairs), load(other), 0)


@pytest.mark.parametrize("text", ["other", "=other", "desk=", "wall=other"])
def test_it_must_belong_to_a_scene(text: str) -> None:
    with pytest.raises(ConfigError, match="NAME one of desk, cone"):
        parse_other_clean([text], ["desk", "cone"])
    with pytest.raises(ConfigError, match="once for each scene"):
        parse_other_clean(["desk=a", "desk=b"], ["desk", "cone"])
    assert parse_other_clean(["cone=a/b=c"], ["desk", "cone"]) == {"cone": Path("a/b=c")}

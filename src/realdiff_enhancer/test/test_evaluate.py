"""The evaluate command from a folder of pairs to tables and pictures, and its errors."""

from __future__ import annotations

import csv
import hashlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from realdiff_core.errors import ConfigError, DepthError, OutputError, RealdiffError
from realdiff_enhancer.commands.evaluate import build_parser, evaluate
from realdiff_enhancer.evaluation.model_arguments import ModelArgument, parse_models
from realdiff_enhancer.evaluation.pairs import load_scene, parse_scene
from realdiff_enhancer.evaluation.runner import seeds_of
from realdiff_enhancer.evaluation.scores import SCORES, score
from realdiff_enhancer.metrics.bootstrap import aggregate, block_counts

FACTOR = 180.0 * 0.05
SHAPE = (136, 200)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny batches on a busy machine: threads would wait for each other; and their number changes the last digits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_pairs(folder: Path, frames: int = 6, windows: bool = True) -> Path:
    """A wall with a box before it; the "camera" adds blurred disparity noise, holes at the box, and 1 mm steps."""
    rng = np.random.default_rng(0)
    for name in ("clean", "noisy"):
        (folder / name).mkdir(parents=True)
    np.savetxt(folder / "K.txt", np.array([[180.0, 0, 99.5], [0, 180.0, 67.5], [0, 0, 1]]))
    clean = np.full(SHAPE, 0.9)
    clean[50:100, 70:130] = 0.7
    clean[:8] = 0.0
    known = clean > 0
    for number in range(100, 100 + 3 * frames, 3):
        noise = cv2.GaussianBlur(rng.standard_normal(SHAPE), (0, 0), 3.0)
        disparity = FACTOR / np.where(known, clean, 1) + 0.05 * noise / noise.std()
        noisy = FACTOR / disparity
        noisy[48:52, 70:130] = 0
        noisy[~known] = 2.0  # what a camera says there must not matter
        cv2.imwrite(str(folder / "clean" / f"{number:06}.png"), np.round(clean * 1e4).astype(np.uint16))
        cv2.imwrite(str(folder / "noisy" / f"{number:06}.png"), np.round(noisy * 1e3).astype(np.uint16))
    if windows:
        rows = [f"{n},{100 if n < 100 + 3 * (frames // 2) else 200}" for n in range(100, 100 + 3 * frames, 3)]
        (folder / "pairs.csv").write_text("frame,window\n" + "\n".join(rows) + "\n")
    return folder


def run(*arguments: object) -> int:
    options = build_parser().parse_args([str(argument) for argument in arguments])
    return evaluate(options, "evaluate " + " ".join(str(argument) for argument in arguments))


QUICK = ("--classifier-steps", "2", "--resamples", "50")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("evaluation")
    pairs = write_pairs(root / "box")
    out = root / "out"
    assert (
        run("--pairs", f"first={pairs}:d435", f"second={pairs}:d415", "--models", "none", "gaussian", *QUICK, "-o", out)
        == 0
    )
    return pairs, out


def test_results_state_how_they_came_about(finished: tuple[Path, Path]) -> None:
    pairs, out = finished
    document = json.loads((out / "results.json").read_text())
    assert document["run"]["command"].startswith("evaluate --pairs first=")
    assert document["run"]["seed"] == 0
    assert "cores" in document["run"]["hardware"]
    first, second = document["scenes"]
    assert (first["name"], first["profile"], first["baseline_m"]) == ("first", "d435", 0.05)
    assert (second["name"], second["baseline_m"]) == ("second", 0.055)
    assert first["frames"] == [100, 103, 106, 109, 112, 115]
    assert first["folds"][0] == {"train": [100, 103, 106], "test": [109, 112, 115]}
    assert first["models"]["none"]["weights_sha256"] is None
    digest = hashlib.sha256((pairs / "K.txt").read_bytes())
    for number in first["frames"]:
        for kind in ("clean", "noisy"):
            digest.update((pairs / kind / f"{number:06}.png").read_bytes())
    assert first["data_sha256"] == digest.hexdigest()


def test_numbers_are_the_ones_that_were_put_in(finished: tuple[Path, Path]) -> None:
    _, out = finished
    with (out / "results.csv").open() as stream:
        table = {(r["scene"], r["source"], r["metric"], r["bin"]): r for r in csv.DictReader(stream)}
    # 0.05 px of disparity at 0.9 m and fx·b = 9 px·m.
    expected = 0.05 * 0.9**2 / FACTOR * 1e3
    row = table["first", "real", "sigma_robust_mm_away", "0.8-1"]
    assert float(row["value"]) == pytest.approx(expected, rel=0.1)
    assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
    assert float(table["first", "none", "sigma_robust_mm_away", "0.8-1"]["value"]) < 0.5
    assert float(table["first", "real", "hole_rate_pct", ""]["value"]) == pytest.approx(100 * 240 / (128 * 200))
    assert float(table["first", "none", "hole_rate_pct", ""]["value"]) == 0.0
    assert float(table["first", "real", "outliers_5cm_pct", ""]["value"]) == 0.0
    assert 80 < float(table["first", "none", "sigma_error_pct", ""]["value"]) < 101
    assert float(table["first", "none", "two_sample_crop_statistics_auc", ""]["value"]) > 0.95
    json_rows = json.loads((out / "results.json").read_text())["results"]
    assert len(json_rows) == len(table)
    assert {row["scene"] for row in json_rows} == {"first", "second"}


def test_tables_and_pictures_show_every_model(finished: tuple[Path, Path]) -> None:
    _, out = finished
    page = (out / "summary.md").read_text()
    for text in ("## first", "## second", "| none |", "| gaussian |", "CD_L2", "Two-sample tests", "0 is perfect"):
        assert text in page
    header, divider = page.split("### Distance")[1].splitlines()[4:6]
    assert header.count("|") == divider.count("|") == len(SCORES) + 2
    for scene in ("first", "second"):
        frames = cv2.imread(str(out / "figures" / f"{scene}_frames.png"))
        curves = cv2.imread(str(out / "figures" / f"{scene}_curves.png"))
        assert frames is not None and frames.std() > 10
        assert curves is not None and curves.std() > 10


def test_the_same_seed_gives_the_same_numbers(finished: tuple[Path, Path], tmp_path: Path) -> None:
    pairs, out = finished
    run(
        "--pairs",
        f"first={pairs}:d435",
        f"second={pairs}:d415",
        "--models",
        "none",
        "gaussian",
        *QUICK,
        "-o",
        tmp_path / "again",
    )
    assert (tmp_path / "again" / "results.csv").read_bytes() == (out / "results.csv").read_bytes()


def test_an_existing_output_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "box")
    quick = (
        "--pairs",
        pairs,
        "--models",
        "none",
        "--classifier-steps",
        "0",
        "--resamples",
        "20",
        "-o",
        tmp_path / "out",
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        run(*quick)
    with pytest.raises(OutputError, match="no earlier result"):
        run(*quick, "--overwrite")
    assert (tmp_path / "out" / "precious.txt").read_text() == "mine"
    (tmp_path / "out" / "precious.txt").unlink()
    (tmp_path / "out").rmdir()
    run(*quick)
    before = (tmp_path / "out" / "results.json").read_text()
    run(*quick, "--overwrite")
    after = (tmp_path / "out" / "results.json").read_text()
    assert json.loads(after)["run"]["command"] != json.loads(before)["run"]["command"]
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "box")
    broken = pairs / "noisy" / "000109.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(DepthError, match="can't be read") as caught:
        run("--pairs", pairs, "--models", "none", *QUICK, "-o", tmp_path / "out")
    assert "000109.png" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["box"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "K.txt").unlink(), "camera matrix is missing"),
        (lambda folder: (folder / "K.txt").write_text("1 2 three"), "can't be read"),
        (lambda folder: (folder / "K.txt").write_text("0 0 0\n0 0 0\n0 0 1"), "makes no sense"),
        (lambda folder: (folder / "pairs.csv").write_text("number,window\n1,2\n"), "lacks a column"),
        (lambda folder: [p.unlink() for p in (folder / "noisy").iterdir()], "no pairs"),
        (lambda folder: cv2.imwrite(str(folder / "clean" / "000100.png"), np.zeros(SHAPE, np.uint8)), "not depth"),
    ],
)
def test_bad_folders_are_named(tmp_path: Path, spoil: object, message: str) -> None:
    folder = write_pairs(tmp_path / "box", frames=4)
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(RealdiffError, match=message) as caught:
        load_scene(parse_scene(str(folder), "d435"))
    assert "box" in str(caught.value)


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "box", frames=4)
    cv2.imwrite(str(folder / "noisy" / "000106.png"), np.ones((10, 12), np.uint16))
    scene = load_scene(parse_scene(str(folder), "d435"))
    with pytest.raises(DepthError, match="another size"):
        scene.noisy(2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b", ("b", "a/b", "d435")),
        ("x=a/b", ("x", "a/b", "d435")),
        ("a/b:d415", ("b", "a/b", "d415")),
        ("x=a/b:d415", ("x", "a/b", "d415")),
    ],
)
def test_scene_syntax(text: str, expected: tuple[str, str, str]) -> None:
    argument = parse_scene(text, "d435")
    assert (argument.name, str(argument.folder), argument.profile) == expected


@pytest.mark.parametrize("text", ["=a", "x=", "a:", ":d435", "x=:d435", ""])
def test_incomplete_scenes_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="incomplete"):
        parse_scene(text, "d435")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--steps", "0"), "--steps is too small"),
        (("--max-frames", "3"), "--max-frames is too small"),
        (("--seed", "-1"), "--seed is too small"),
        (("--models", "none", "none"), "named twice"),
        (("--models", "gaussian@4"), "doesn't sample in steps"),
        (("--models", "two_stage@1001"), "steps out of range"),
        (("--models", "nonsense"), "unknown enhancer model"),
        (("--weights", "two_stage=x"), "weights belong to none"),
        (("--profile", "no_such_camera"), "no_such_camera"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, extra: tuple[str, ...], message: str
) -> None:
    pairs = write_pairs(tmp_path / "box", frames=4)
    with pytest.raises(RealdiffError, match=message):
        run("--pairs", pairs, "--models", "none", "-o", tmp_path / "out", *extra)
    assert not (tmp_path / "out").exists()


def test_models_may_have_labels_steps_and_weights() -> None:
    rows = parse_models(
        ["none", "two_stage", "two_stage@50", "seed1=two_stage@2", "flat=gaussian"],
        ["two_stage=a/b", "seed1=runs/x=1/model", "flat=flat.yaml"],
    )
    assert rows == [
        ModelArgument("none", "none"),
        ModelArgument("two_stage", "two_stage", None, Path("a/b")),
        ModelArgument("two_stage@50", "two_stage", 50, Path("a/b")),
        ModelArgument("seed1", "two_stage", 2, Path("runs/x=1/model")),
        ModelArgument("flat", "gaussian", None, Path("flat.yaml")),
    ]
    (own, other) = parse_models(["two_stage@1", "two_stage@2"], ["two_stage@2=b"])
    assert (own.weights, other.weights) == (None, Path("b"))


@pytest.mark.parametrize(
    ("models", "weights", "message"),
    [
        (["=two_stage"], [], "can't be read"),
        (["a="], [], "can't be read"),
        (["a b=two_stage"], [], "can't be read"),
        (["two_stage@"], [], "can't be read"),
        (["two_stage@0"], [], "can't be read"),
        (["two_stage@-4"], [], "can't be read"),
        (["two_stage@four"], [], "can't be read"),
        (["@4"], [], "can't be read"),
        (["disparity@4"], [], "doesn't sample in steps"),
        (["x=none@1"], [], "doesn't sample in steps"),
        (["real=two_stage"], [], "name of the camera"),
        (["other_clean=two_stage"], [], "name of the lower bound"),
        (["two_stage=disparity"], [], "name of another model"),
        (["a=none", "a=gaussian"], [], "named twice"),
        (["two_stage@4", "two_stage@4"], [], "named twice"),
        (["a=two_stage"], ["b=x"], "weights belong to none"),
        (["a=two_stage"], ["a="], "weights belong to none"),
        (["a=two_stage"], ["a=x", "a=y"], "weights are named twice"),
    ],
)
def test_models_that_make_no_sense_are_refused(models: list[str], weights: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_models(models, weights)
    assert caught.value.where is not None
    assert [*models, *weights][-1] in str(caught.value.where)


def test_one_table_shows_numbers_of_steps_and_weights_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from realdiff_enhancer.two_stage.model_folder import save_model
    from realdiff_enhancer.two_stage.networks import make_coarse, make_fine
    from test_two_stage import TINY

    torch.manual_seed(0)
    for name in ("shipped", "seed1"):
        save_model(tmp_path / name, TINY, make_coarse(TINY), make_fine(TINY))
    monkeypatch.setattr("realdiff_enhancer.two_stage.pipeline.shipped_weights", lambda _: tmp_path / "shipped")
    quick = ("--classifier-steps", "0", "--resamples", "20", "--features", "none", "--device", "cpu")
    pairs = write_pairs(tmp_path / "box", frames=4)
    models = ("--models", "two_stage", "two_stage@1", "seed1=two_stage@1")
    weights = ("--weights", f"seed1={tmp_path / 'seed1'}")
    assert run("--pairs", pairs, *models, *weights, "--steps", "2", *quick, "-o", tmp_path / "out") == 0
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    made = document["scenes"][0]["models"]
    assert {label: entry["steps"] for label, entry in made.items()} == {"two_stage": 2, "two_stage@1": 1, "seed1": 1}
    digests = [made[label]["weights_sha256"] for label in ("two_stage", "two_stage@1", "seed1")]
    assert digests[0] == digests[1] != digests[2]
    assert document["run"]["models"][2] == {
        "label": "seed1",
        "model": "two_stage",
        "steps": 1,
        "weights": str(tmp_path / "seed1"),
    }
    values = {
        row["source"]: row["value"]
        for row in document["results"]
        if (row["metric"], row["bin"]) == ("sigma_plain_mm_all", "all")
    }
    assert len({values[label] for label in ("two_stage", "two_stage@1", "seed1")}) == 3
    page = (tmp_path / "out" / "summary.md").read_text()
    assert "| two_stage@1 |" in page and "| seed1 |" in page
    # a row depends on its own model alone
    alone = ("--models", "two_stage@1", *quick, "-o", tmp_path / "alone")
    assert run("--pairs", pairs, *alone) == 0
    both = [
        [line for line in (tmp_path / name / "results.csv").read_text().splitlines() if ",two_stage@1," in line]
        for name in ("out", "alone")
    ]
    assert both[0] == both[1] and len(both[0]) > 50


def documented_commands() -> list[list[str]]:
    """The arguments of every `evaluate` command in --help and in the two documents about it."""
    root = Path(__file__).resolve().parents[3] / "docs"
    texts = [build_parser().epilog or ""]
    texts += [(root / name).read_text() for name in ("guides/evaluate.md", "concepts/metrics.md") if root.is_dir()]
    lines = "\n".join(texts).replace("\\\n", " ").splitlines()
    start = "ros2 run realdiff_enhancer evaluate --"
    return [shlex.split(line)[4:] for line in lines if line.strip().startswith(start)]


def test_documented_commands_run_with_the_weights_that_ship() -> None:
    pytest.importorskip("torch")
    from realdiff_enhancer.two_stage.model_folder import shipped_weights

    commands = documented_commands()
    assert len(commands) >= 5
    for command in commands:
        options = build_parser().parse_args(command)
        rows = parse_models(options.models, options.weights)
        profiles = {parse_scene(text, options.profile).profile for text in options.pairs} - {"my_d435"}
        if any(row.model == "two_stage" and row.weights is None for row in rows):
            for profile in profiles:
                assert shipped_weights(profile).is_dir()


def test_a_camera_without_weights_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "box", frames=4)
    with pytest.raises(ConfigError, match="no shipped weights for this camera profile") as caught:
        run("--pairs", f"{pairs}:d415", "-o", tmp_path / "out")
    assert "--models two_stage" in str(caught.value) and "d415" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_default_models_need_no_weights_of_the_user() -> None:
    options = build_parser().parse_args(["--pairs", "x", "-o", "y"])
    assert [row.model for row in parse_models(options.models)] == list(options.models)
    assert {"none", "active_dr", "disparity", "two_stage"} <= set(options.models)


def test_max_frames_spreads_over_the_scene(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "box", frames=9)
    scene = load_scene(parse_scene(str(folder), "d435"), max_frames=5)
    assert [frame.number for frame in scene.frames] == [100, 106, 112, 118, 124]
    assert [frame.window for frame in scene.frames] == ["100", "100", "200", "200", "200"]
    assert np.isnan(scene.clean(0)[:8]).all()
    assert scene.clean(0)[60, 80] == pytest.approx(0.7)


def test_first_and_last_choose_a_part_of_the_scene(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "box", frames=9)
    part = load_scene(parse_scene(str(pairs), "d435"), max_frames=2, first=104, last=118)
    assert [frame.number for frame in part.frames] == [106, 118]
    with pytest.raises(DepthError, match="no pair has a number in the range") as caught:
        load_scene(parse_scene(str(pairs), "d435"), first=125)
    assert "100 to 124" in str(caught.value)
    quick = ("--models", "none", "--classifier-steps", "0", "--resamples", "20", "--features", "none")
    run("--pairs", pairs, *quick, "--first", "106", "--last", "121", "-o", tmp_path / "out")
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert document["scenes"][0]["frames"] == [106, 109, 112, 115, 118, 121]
    assert (document["run"]["first"], document["run"]["last"]) == (106, 121)
    assert "6 pairs, frames 106 to 121" in (tmp_path / "out" / "summary.md").read_text()


def test_seeds_cover_the_exposures_between_two_pairs(tmp_path: Path) -> None:
    scene = load_scene(parse_scene(str(write_pairs(tmp_path / "box", frames=4)), "d435"))
    (first, before_first), (second, before_second) = (seeds_of(frame, 7, 4) for frame in scene.frames[:2])
    assert len(before_first) == len(before_second) == 4
    assert before_second[1] == first  # 103's history is 99..102, 100 being the frame before
    assert second not in before_second


def test_scores_are_zero_for_the_camera_itself_and_grow_with_the_error() -> None:
    counts = block_counts(8, 200, 0)
    rng = np.random.default_rng(0)

    def source(factor: float) -> list[dict[tuple[str, str], tuple[float, float]]]:
        values = rng.uniform(0.95, 1.05, 8)
        return [
            {
                ("sigma_robust_mm_away", "0.6-0.8"): (factor * v, 900.0),
                ("sigma_robust_mm_away", "0.8-1"): (2 * factor * v, 1000.0),
                ("sigma_robust_mm_away", "1.5-2"): (50.0 * v, 1.0),  # too few pixels to count
                ("sigma_robust_mm_away", "all"): (9 * v, 1900.0),
                ("spectrum_px2", "4-8"): (factor**2 * v, 5.0),
            }
            for v in values
        ]

    definitions = {definition.name: definition for definition in SCORES}
    real = aggregate(source(1.0), counts)
    assert score(definitions["sigma_error_pct"], real, real).value == 0.0
    doubled = aggregate(source(2.0), counts)
    estimate = score(definitions["sigma_error_pct"], doubled, real)
    assert estimate.value == pytest.approx(100, abs=8)
    assert estimate.low < estimate.value < estimate.high
    assert score(definitions["spectrum_error_db"], doubled, real).value == pytest.approx(6.02, abs=0.3)
    assert np.isnan(score(definitions["hole_edge_error_pp"], doubled, real).value)

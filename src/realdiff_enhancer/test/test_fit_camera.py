"""Fitting a camera from a small recording to a profile that `enhance --profile` takes, on a CPU; and its refusals."""

from __future__ import annotations

import errno
import json
import re
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from enhancer_bags import run_enhance, write_episode
from realdiff_core.bag import BagReader
from realdiff_core.config import camera_profile, load_yaml
from realdiff_core.errors import ConfigError, DepthError, RealdiffError
from realdiff_enhancer.commands.fit_camera import _keep, build_parser, fit_camera
from realdiff_enhancer.commands.make_pairs import run as make_pairs
from realdiff_enhancer.data.pair_folder import PairFolderWriter, PairMeta, load_folder, read_meta
from realdiff_enhancer.data.pair_maker import PairCandidate
from realdiff_enhancer.data.pair_quality import PairStatistics
from realdiff_enhancer.data.sequence import SequenceOptions
from realdiff_enhancer.evaluation.fit_page import fit_page
from realdiff_enhancer.fitting import AFTER, BEFORE, FitOptions, check_name, fit, planned_steps, save_profile
from test_report import _Page
from test_static_camera import K, clip
from tiny_training import make_pack, settings

TINY = {
    "draws": 2,
    "draw_steps": 3,
    "round_trip_limit": 10.0,
    "calibrate_steps": [2, 3],
    "calibration_frames": 2,
    "log_every": 1,
}


def recording(folder: Path, frames: int = 24) -> Path:
    """A camera at rest before a table with a box; 16-bit PNG, mm, with holes at the box's left side."""
    (folder / "depth").mkdir(parents=True)
    np.savetxt(folder / "K.txt", K)
    for index, depth in enumerate(clip(frames).depths_m):
        image = np.round(1e3 * depth).astype(np.uint16)
        image[50:90, 54:60] = 0
        cv2.imwrite(str(folder / "depth" / f"{index:06d}.png"), image)
    return folder


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, trained for a few steps: what fitting starts from."""
    pytest.importorskip("torch")
    from realdiff_enhancer.two_stage.training import TrainConfig, train

    root = tmp_path_factory.mktemp("tiny")
    make_pack(root / "pack.npz")
    train(TrainConfig.model_validate(settings(root / "pack.npz", distil_steps=0)), root / "model", lambda _: None)
    return root / "model"


def test_from_recording_to_enhanced_bag(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "realdiff"
    (tmp_path / "work").mkdir()
    options = FitOptions(
        name="my_d435", base=camera_profile("d435"), steps=2, initial=tiny_model, batch=2, crop=(64, 64), train=TINY
    )
    reading = SequenceOptions(baseline_m=0.05)
    lines: list[str] = []
    result = fit(recording(tmp_path / "raw"), reading, options, tmp_path / "work", lines.append)
    assert result.method == "static" and not result.private and result.pairs == 24
    assert 4 <= result.validation <= 10
    assert [source.name for source in result.comparison.sources] == ["real", BEFORE, AFTER]
    # so short a training makes a model of holes, in which no noise can be followed over time
    assert result.temporal is None
    assert "noise over time stays as it was: the clip has too few pixels to compare over time" in lines
    record = json.loads((result.model / "train.json").read_text())["config"]
    assert Path(record["initial"]) == tiny_model and (record["coarse_steps"], record["fine_steps"]) == (1, 2)

    saved = save_profile(result, fit_page(result, "fit_camera …"), folder, overwrite=False)
    assert saved == folder / "cameras" / "my_d435.yaml"
    profile = camera_profile("my_d435")
    assert (profile.baseline_m, profile.depth.width) == (0.05, 200)
    assert profile.depth.hfov_deg == pytest.approx(np.degrees(2 * np.arctan(100 / 200)))
    page = _Page((folder / "cards" / "my_d435.html").read_text())
    assert page.links == [] and len(page.images) == 2 and "Before and after" in page.text
    assert "at rest" in page.text and "over time was fitted" not in page.text

    bag = write_episode(tmp_path / "episode", frames=2)
    enhanced = run_enhance(bag, "-o", tmp_path / "out", "--profile", "my_d435", "--steps", "2", "--device", "cpu")
    assert enhanced.returncode == 0, enhanced.stderr
    with BagReader(tmp_path / "out") as reader:
        provenance = reader.provenance()
    assert provenance is not None and provenance.enhancement is not None
    assert provenance.enhancement.profile == "my_d435"
    from realdiff_enhancer.two_stage.model_folder import load_model

    fitted, start = (load_model(path, 2).sha256 for path in (folder / "weights" / "two_stage_my_d435", tiny_model))
    assert provenance.enhancement.weights_sha256 == fitted != start
    with pytest.raises(ConfigError, match="exists"):
        save_profile(result, "", folder, overwrite=False)


def test_pairs_made_before_give_the_same_fit(tmp_path: Path, tiny_model: Path) -> None:
    from realdiff_enhancer.two_stage.model_folder import load_model

    raw = recording(tmp_path / "raw")
    assert make_pairs([str(raw), "-o", str(tmp_path / "pairs"), "--static"]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "pairs").rglob("*") if path.is_file()}
    options = FitOptions(
        name="my_d435", base=camera_profile("d435"), steps=2, initial=tiny_model, batch=2, crop=(64, 64), train=TINY
    )
    fits = []
    for source in (raw, tmp_path / "pairs"):
        lines: list[str] = []
        (tmp_path / f"work_{source.name}").mkdir()
        reading = SequenceOptions(baseline_m=0.05)
        fits.append(fit(source, reading, options, tmp_path / f"work_{source.name}", lines.append))
        if source.name == "pairs":  # nothing is fused
            assert f"24 pairs are taken from {source}, made from raw (static); " in lines[0]
            assert not (tmp_path / "work_pairs" / "pairs").exists()
        else:
            assert "24 of 24 frames have a clean depth (static); " in lines[0]
    made, given = fits
    assert (given.pairs, given.validation, given.method) == (made.pairs, made.validation, "static")
    assert load_model(given.model, 2).sha256 == load_model(made.model, 2).sha256
    assert {path: path.read_bytes() for path in (tmp_path / "pairs").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("stream_fx_px", "named"), [(None, False), (500.0, True), (500.0, False)])
def test_pairs_on_the_colour_cameras_grid_are_fitted(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, stream_fx_px: float | None, named: bool
) -> None:
    """fx 615 px, 55 mm, and smaller on the sensor's grid than the crop; base profile or recording tell another grid."""
    from realdiff_enhancer.two_stage.model_folder import load_config

    pairs, rng = tmp_path / "pairs", np.random.default_rng(0)
    matrix = np.array([[615.0, 0, 80], [0, 615.0, 60], [0, 0, 1]])
    writer = PairFolderWriter(pairs, matrix, PairMeta(source="bench", camera="d415", baseline_m=0.055))
    for number in range(12):
        clean = np.full((120, 160), 0.8, np.float32)
        clean[40:80, 50:100] = 0.6
        noisy = (clean + rng.normal(0, 0.002, clean.shape)).astype(np.float32)
        noisy[40:80, 44:50] = np.nan
        figures = PairStatistics(0.8, 0.0, 2.0, 1.0, 0.0, 1.0, 0.1, 0.0, 0.0, 0.0)
        writer.write(PairCandidate(number, number // 4 * 4, clean, noisy, figures, ()))
    base = camera_profile("d415")
    told = None if stream_fx_px is None else stream_fx_px * 0.055
    monkeypatch.setattr("realdiff_enhancer.fitting_pairs.stream_factor", lambda images, step: told)
    if named:
        noise = {"two_stage": {"stream_fx_px": stream_fx_px, "weights": "d435"}}
        base = base.model_copy(update={"noise": noise})
    options = FitOptions(name="my_d415", base=base, steps=2, initial=tiny_model, batch=2, train=TINY)
    (tmp_path / "work").mkdir()
    lines: list[str] = []
    result = fit(pairs, SequenceOptions(baseline_m=0.055), options, tmp_path / "work", lines.append)
    size = "96x128" if stream_fx_px is None else "128x160"  # 75x100 and 98x130, padded
    assert any(f"training pairs of {size} px" in line for line in lines)
    codec = load_config(result.model).codec
    assert (codec.baseline_m, codec.native_fx_px) == (0.055, stream_fx_px or 384.0)
    # the fit starts from the initial model's strength in metres
    assert codec.scale_px / codec.disparity_factor == pytest.approx(0.15 / (384 * 0.05))
    assert "two_stage" not in result.profile.noise  # it is in the weights
    assert (result.profile.depth.width, result.profile.baseline_m) == (160, 0.055)
    assert [source.name for source in result.comparison.sources] == ["real", BEFORE, AFTER]


def test_pair_folders_that_cannot_be_fitted_are_refused(tmp_path: Path, tiny_model: Path) -> None:
    raw = recording(tmp_path / "raw", 12)
    pairs = tmp_path / "pairs"
    make_pairs([str(raw), "-o", str(pairs), "--static"])

    def refused(match: str, *extra: str) -> str:
        arguments = [str(pairs), "--name", "x", "--folder", str(tmp_path / "home"), "--weights", str(tiny_model)]
        with pytest.raises(RealdiffError, match=match) as caught:
            fit_camera(build_parser().parse_args([*arguments, *extra]), "fit_camera …")
        return str(caught.value)

    made_already = refused("made already", "--moving", "--far", "1", "--first", "3")
    assert "--static or --moving, --first, --far" in made_already and "--voxel" not in made_already
    assert "55 mm" in refused("another camera", "--base", "d415")
    image = cv2.imread(str(pairs / "clean" / "000005.png"), cv2.IMREAD_UNCHANGED)
    assert image is not None
    cv2.imwrite(str(pairs / "clean" / "000005.png"), image[:-32])
    assert "000005.png" in refused("another size")
    cv2.imwrite(str(pairs / "clean" / "000005.png"), image)
    (pairs / "pairs.csv").write_text("frame,window\n5,first\n")
    refused("window that is no number")
    (pairs / "pairs.csv").write_text("number,window\n5,0\n")
    refused("lacks a column")
    (pairs / "pairs.csv").unlink()
    (pairs / "K.txt").write_text("180 0 three")
    refused("camera matrix can't be read")
    for path in sorted((pairs / "noisy").glob("*.png"))[7:]:
        path.unlink()
    (pairs / "K.txt").unlink()
    refused("holds no pairs")
    np.savetxt(pairs / "K.txt", K)
    assert "rejected.csv" in refused("too few pairs")
    assert not (tmp_path / "home").exists()


def test_pairs_say_which_camera_they_are_of(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = tmp_path / "pairs"
    make_pairs([str(recording(tmp_path / "raw", 12)), "-o", str(pairs), "--static", "--camera", "d415"])
    seen: list[FitOptions] = []

    def stop(source: Path, reading: SequenceOptions, options: FitOptions, *_: object) -> None:
        seen.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr("realdiff_enhancer.fitting.fit", stop)
    for source in (pairs, tmp_path / "raw"):
        with pytest.raises(KeyboardInterrupt):
            arguments = [str(source), "--name", "x", "--folder", str(tmp_path / "home")]
            fit_camera(build_parser().parse_args(arguments), "fit_camera …")
    assert [options.base.name for options in seen] == ["d415", "d435"]
    assert seen[1].far_m == FitOptions.far_m


def test_an_interrupted_fit_says_so(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from realdiff_enhancer.two_stage import training

    monkeypatch.setattr(training, "train_run", lambda *a, **k: training.TrainResult(finished=False))
    raw = recording(tmp_path / "raw")
    base = camera_profile("d435")
    for limit in (None, 1000.0):  # in the training, or in the trials that find out its speed
        options = FitOptions(name="my", base=base, steps=2, initial=tiny_model, time_limit_s=limit, train=TINY)
        work = tmp_path / f"work_{limit}"
        work.mkdir()
        with pytest.raises(KeyboardInterrupt):
            fit(raw, SequenceOptions(baseline_m=0.05), options, work, lambda _: None)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def test_a_failed_fit_keeps_its_pairs(
    tmp_path: Path,
    temporary: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    raw, few = recording(tmp_path / "raw"), recording(tmp_path / "few", 6)
    arguments = ["--name", "x", "--folder", str(tmp_path / "home"), "--weights", str(tiny_model), "--static"]
    with monkeypatch.context() as patch:
        patch.setattr("realdiff_enhancer.two_stage.training.train_run", full)
        with pytest.raises(OSError, match="no space"):
            fit_camera(build_parser().parse_args([str(raw), *arguments]), "fit_camera …")
    (kept,) = temporary.iterdir()
    said = capsys.readouterr().err
    assert f"kept in {kept}" in said and f"24 pairs; to fit them: ros2 run realdiff_enhancer fit_camera {kept}" in said
    (command,) = re.findall(r"realdiff_enhancer fit_camera (.*)", said)
    options = build_parser().parse_args(command.split())
    assert options.name == "x" and len(load_folder(options.source, meta=read_meta(options.source))) == 24

    with pytest.raises(RealdiffError, match="too few"):
        fit_camera(build_parser().parse_args([str(few), *arguments]), "fit_camera …")
    assert [*temporary.iterdir()] == [kept] and "kept" not in capsys.readouterr().err  # nothing to go on with


def test_a_successful_fit_leaves_no_temporary_folder(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def done(source: Path, reading: SequenceOptions, options: FitOptions, work: Path, *_: object) -> None:
        (work / "pairs").mkdir()

    monkeypatch.setattr("realdiff_enhancer.fitting.fit", done)
    monkeypatch.setattr("realdiff_enhancer.fitting.save_profile", lambda *_: tmp_path / "x.yaml")
    monkeypatch.setattr("realdiff_enhancer.evaluation.fit_page.fit_page", lambda *_: "")
    assert fit_camera(build_parser().parse_args(["raw", "--name", "x", "--folder", str(tmp_path / "home")]), "") == 0
    assert not [*temporary.iterdir()]


def test_an_unfinished_training_goes_on_with_the_command_that_is_named(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from realdiff_enhancer.commands import train
    from realdiff_enhancer.two_stage import training

    work, whole = tmp_path / "work", training.train_run
    work.mkdir()
    base = camera_profile("d435")
    options = FitOptions(name="my", base=base, steps=2, initial=tiny_model, batch=2, crop=(64, 64), train=TINY)

    def stopped(config: training.TrainConfig, run: Path, **_: object) -> training.TrainResult:
        return whole(config, run, report=lambda _: None, time_limit_s=0.0)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_run", stopped)
        with pytest.raises(KeyboardInterrupt):
            fit(recording(tmp_path / "raw", 12), SequenceOptions(baseline_m=0.05), options, work, lambda _: None)
    _keep(work, "my")
    (command,) = re.findall(r"realdiff_enhancer train (.*)", capsys.readouterr().err)
    assert train.run(train.build_parser().parse_intermixed_args(command.split())) == 0
    assert (work / "run" / "model" / "model.safetensors").is_file()
    _keep(work, "my")
    assert f"--weights {work / 'run' / 'model'}" in capsys.readouterr().err


def test_short_and_restless_recordings_are_refused(tmp_path: Path, tiny_model: Path) -> None:
    options = FitOptions(name="x", base=camera_profile("d435"), initial=tiny_model, static=True)
    reading = SequenceOptions(baseline_m=0.05)
    with pytest.raises(DepthError, match="too few"):
        fit(recording(tmp_path / "one", 1), reading, options, tmp_path / "work_1")
    moving = recording(tmp_path / "moving", 12)
    for index, path in enumerate(sorted((moving / "depth").glob("*.png"))):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert image is not None
        cv2.imwrite(str(path), (image.astype(float) * (1 + 0.03 * index)).astype(np.uint16))
    with pytest.raises(DepthError, match="camera moves"):
        fit(moving, reading, options, tmp_path / "work_2")


def test_names_are_checked_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ships with"):
        check_name("d435", tmp_path, overwrite=True)
    with pytest.raises(ConfigError, match="no name"):
        check_name("../d435", tmp_path, overwrite=False)
    options = build_parser().parse_args(["nothing", "--name", "ok", "--steps", "0", "--folder", str(tmp_path)])
    with pytest.raises(ConfigError, match="--steps"):
        fit_camera(options, "fit_camera …")
    assert list(tmp_path.iterdir()) == []


def test_user_profiles_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    mine = camera_profile("d435").model_copy(update={"name": "mine", "near_m": 0.2})
    path = tmp_path / "realdiff" / "cameras" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(mine.model_dump(mode="json")))
    assert camera_profile("mine").near_m == 0.2
    assert load_yaml(path, type(mine)) == mine


def test_steps_are_planned_for_the_time() -> None:
    # 10 s once and 0.5 s a step: trials of 4 and 14 steps take 12 and 17 s.
    assert planned_steps(200.0, (12.0, 17.0), 10_000) == int((0.8 * (200 - 29) - 10) / 0.5)
    assert planned_steps(200.0, (12.0, 17.0), 50) == 50
    with pytest.raises(ConfigError, match="too short"):
        planned_steps(40.0, (12.0, 17.0), 50)


@pytest.mark.slow
def test_fit_keeps_to_its_time(tmp_path: Path, tiny_model: Path) -> None:
    import time

    options = FitOptions(
        name="timed",
        base=camera_profile("d435"),
        steps=20,
        time_limit_s=240.0,
        initial=tiny_model,
        batch=2,
        crop=(64, 64),
        train=TINY,
    )
    lines: list[str] = []
    begin = time.monotonic()
    reading = SequenceOptions(baseline_m=0.05)
    result = fit(recording(tmp_path / "raw"), reading, options, tmp_path / "work", lines.append)
    assert result.seconds[1] < 240 and time.monotonic() - begin < 300
    assert "20 steps are planned for 240 s" in lines
    assert not (tmp_path / "work" / "trial").exists()

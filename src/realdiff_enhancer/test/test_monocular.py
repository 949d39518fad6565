"""The monocular baselines: what they make of colour and camera, alignment, local weights, and what they refuse."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from enhancer_bags import read_all, write_episode
from realdiff_core.bag import BagReader, BagWriter
from realdiff_core.camera import CameraModel
from realdiff_core.config import camera_profile
from realdiff_core.errors import ConfigError, ImageError, RealdiffError
from realdiff_core.image import image_to_numpy
from realdiff_enhancer.bag_enhancer import enhance_bag
from realdiff_enhancer.evaluation.pairs import load_scene, parse_scene
from realdiff_enhancer.evaluation.runner import enhance_scene
from realdiff_enhancer.job import EnhanceOptions
from realdiff_enhancer.metrics.frames import CleanContext
from realdiff_enhancer.models import DepthFrames, DepthModel, create_model
from realdiff_enhancer.models.monocular import fit_scale_shift
from realdiff_enhancer.stream import StreamEnhancer

from realdiff_core import topics

torch = pytest.importorskip("torch")

PROFILE = camera_profile("d435")
SIZE = (48, 64)
CAMERA = CameraModel(64, 48, 60.0, 61.0, 31.5, 23.5, baseline_m=PROFILE.baseline_m)
UNIDEPTH_CONFIG = {"model": {"name": "UniDepthV2", "pixel_encoder": {"name": "dinov2_vits14", "pretrained": None}}}


def frames(count: int = 3, seed: int = 0) -> DepthFrames:
    """Clean depth within the range, with a row without depth, one beyond the range and one too near, and colour."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 2.0, (count, *SIZE)).astype(np.float32)
    depth[:, 0], depth[:, 1], depth[:, 2] = np.nan, 9.0, 0.1
    return DepthFrames(depth, rng.integers(0, 255, (count, *SIZE, 3), np.uint8), CAMERA, tuple(range(count)))


@pytest.fixture
def unidepth(monkeypatch: pytest.MonkeyPatch) -> type:
    """A package `unidepth` with the interface of the real one; its depth is known: (red / 255 + 1) · gain · fx / cx."""
    from huggingface_hub import PyTorchModelHubMixin

    class UniDepthV2(torch.nn.Module, PyTorchModelHubMixin, library_name="UniDepth"):  # type: ignore[name-defined]
        def __init__(self, config: dict[str, Any], eps: float = 1e-6, **kwargs: Any) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.rand(()))
            self.same_gain = self.gain  # shared, so it is stored once
            assert config["model"]["name"] == "UniDepthV2"

        @property
        def device(self) -> Any:
            return self.gain.device

        @torch.no_grad()
        def infer(self, rgb: Any, camera: Any = None, normalize: bool = True) -> dict[str, Any]:
            assert not self.training and 0 <= self.resolution_level < 10
            assert rgb.dtype == torch.uint8 and rgb.shape[0] == 3 and camera.shape == (1, 3, 3)
            depth = (rgb[0].float() / 255 + 1) * self.gain * camera[0, 0, 0] / camera[0, 0, 2]
            camera[..., :2, :] *= 0.5  # the real one scales its argument in place
            return {"depth": depth[None, None], "confidence": torch.ones(1)}

    package, models = types.ModuleType("unidepth"), types.ModuleType("unidepth.models")
    models.UniDepthV2 = UniDepthV2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "unidepth", package)
    monkeypatch.setitem(sys.modules, "unidepth.models", models)
    return UniDepthV2


def unidepth_folder(folder: Path, kind: type, gain: float = 0.5) -> Path:
    network = kind(UNIDEPTH_CONFIG)
    network.gain.data.fill_(gain)
    network.save_pretrained(folder, config=UNIDEPTH_CONFIG)
    return folder


def depth_anything_folder(folder: Path, kind: str) -> Path:
    """A tiny random Depth Anything of the given kind ("metric" or "relative"), in the layout of the published ones."""
    transformers = pytest.importorskip(
        "transformers", reason="no transformers: pip install -r requirements/monocular.txt"
    )
    backbone = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[4, 4, 8, 8], fusion_hidden_size=8,
        head_hidden_size=4, depth_estimation_type=kind, max_depth=4,
    )  # fmt: skip
    network = transformers.DepthAnythingForDepthEstimation(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        network.head.conv3.bias.fill_(1.0)  # off the ReLU's dead side
    network.save_pretrained(folder)
    processor = {
        "image_processor_type": "DPTImageProcessor", "do_normalize": True, "do_rescale": True, "do_resize": True,
        "do_pad": False, "ensure_multiple_of": 14, "keep_aspect_ratio": True, "resample": 3, "rescale_factor": 1 / 255,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        "size": {"height": 56, "width": 56}, "size_divisor": None,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def make(name: str, folder: Path | None, **noise: Any) -> DepthModel:
    profile = PROFILE.model_copy(update={"noise": {name: noise}}) if noise else PROFILE
    return create_model(name, profile=profile, weights=folder, device="cpu")


def test_scale_and_shift_are_found_among_outliers() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0, 30, 50_000)
    target = 0.05 * predicted + 0.3 + rng.normal(0, 0.01, predicted.size)
    wrong = rng.random(predicted.size) < 0.25
    target[wrong] += rng.uniform(0.5, 3, wrong.sum())
    scale, shift = fit_scale_shift(predicted, target)
    assert scale == pytest.approx(0.05, rel=0.01)
    assert shift == pytest.approx(0.3, abs=0.005)
    plain = np.polyfit(predicted, target, 1)
    assert abs(plain[1] - 0.3) > 0.3, "the outliers would not have mattered"


def test_a_flat_prediction_becomes_the_median() -> None:
    assert fit_scale_shift(np.full(5, 7.0), np.array([1.0, 1.0, 1.2, 1.4, 9.0])) == (0.0, 1.2)
    exact = fit_scale_shift(np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.7, 1.1]))
    assert exact == pytest.approx((0.2, 0.3))


def test_unidepth_gets_rgb_and_intrinsics_and_is_taken_as_metric(tmp_path: Path, unidepth: type) -> None:
    model = make("unidepth", unidepth_folder(tmp_path / "u", unidepth))
    assert isinstance(model, DepthModel) and model.uses_colour and len(model.weights_sha256 or "") == 64
    given = frames()
    before = given.depth.copy()
    result = model.enhance(given).depth
    assert np.array_equal(given.depth, before, equal_nan=True)
    assert given.colour is not None
    expected = (given.colour[..., 0] / 255 + 1) * 0.5 * CAMERA.fx / CAMERA.cx
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[:, 3:], expected[:, 3:], rtol=1e-5)
    assert np.isnan(result[:, 0]).all() and (result[:, 1] == 9.0).all() and np.isnan(result[:, 2]).all()


def test_a_metric_prediction_is_aligned_on_request(tmp_path: Path, unidepth: type) -> None:
    model = make("unidepth", unidepth_folder(tmp_path / "u", unidepth), alignment="scale_shift")
    given = frames()
    assert given.colour is not None
    predicted = (given.colour[..., 0] / 255 + 1) * 0.5 * CAMERA.fx / CAMERA.cx
    clean = (1 / (0.4 / predicted + 0.5)).astype(np.float32)
    clean[1, 5:8] = 3.0  # a surface that the prediction has wrong
    result = model.enhance(DepthFrames(clean, given.colour, CAMERA, given.seeds)).depth
    right = np.ones(clean.shape, bool)
    right[1, 5:8] = False
    np.testing.assert_allclose(result[right], clean[right], rtol=2e-3)
    assert (np.abs(result[1, 5:8] - 3.0) > 0.3).all()


def test_a_frame_without_clean_depth_stays_as_it_is(tmp_path: Path, unidepth: type) -> None:
    model = make("unidepth", unidepth_folder(tmp_path / "u", unidepth), alignment="scale_shift")
    nothing = np.full((1, *SIZE), np.nan, np.float32)
    assert np.isnan(model.enhance(DepthFrames(nothing, frames(1).colour, CAMERA, (1,))).depth).all()


@pytest.mark.parametrize("kind", ["metric", "relative"])
def test_depth_anything_predicts_the_same_for_every_batch(tmp_path: Path, kind: str) -> None:
    model = make("depth_anything", depth_anything_folder(tmp_path / "d", kind))
    given = frames()
    assert given.colour is not None
    whole = model.enhance(given).depth
    for index in range(3):
        alone = DepthFrames(given.depth[index : index + 1], given.colour[index : index + 1], CAMERA, (9,))
        assert np.array_equal(model.enhance(alone).depth[0], whole[index], equal_nan=True)
    assert np.isnan(whole[:, 0]).all() and (whole[:, 1] == 9.0).all() and np.isnan(whole[:, 2]).all()
    body = whole[:, 3:]
    assert np.isfinite(body).mean() > 0.9 and np.nanmin(body) > 0
    assert np.nanstd(body) > 1e-3, "the prediction does not vary"
    assert not np.array_equal(body[0], body[1]), "the colour does not matter"
    again = make("depth_anything", tmp_path / "d").enhance(given).depth
    assert np.array_equal(again, whole, equal_nan=True)


def test_metric_depth_anything_does_not_look_at_the_clean_depth(tmp_path: Path) -> None:
    model = make("depth_anything", depth_anything_folder(tmp_path / "d", "metric"))
    given = frames(1)
    nearer = DepthFrames(given.depth * np.float32(0.7), given.colour, CAMERA, given.seeds)
    body = model.enhance(given).depth[:, 3:]
    assert np.array_equal(model.enhance(nearer).depth[:, 3:], body, equal_nan=True)
    assert 3.5 < np.nanmax(body) < 4.8, "max_depth is 4 m; resizing overshoots a little"


def test_relative_depth_anything_is_aligned_to_every_frame(tmp_path: Path) -> None:
    folder = depth_anything_folder(tmp_path / "d", "relative")
    model = make("depth_anything", folder)
    given = frames(2)
    assert given.colour is not None
    inverse = np.stack([model.predict(image, CAMERA) for image in given.colour])  # type: ignore[attr-defined]
    inverse /= inverse.max(axis=(1, 2), keepdims=True)
    clean = (1 / (np.array([0.5, 0.9], np.float32)[:, None, None] * inverse + 0.6)).astype(np.float32)
    result = model.enhance(DepthFrames(clean, given.colour, CAMERA, given.seeds)).depth
    np.testing.assert_allclose(result, clean, rtol=1e-3)
    with pytest.raises(ConfigError, match="relative depth"):
        make("depth_anything", folder, alignment="none")


@pytest.mark.parametrize("name", ["depth_anything", "unidepth"])
def test_weights_must_be_local_safetensors(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"no shipped weights(.|\n)*hf download"):
        make(name, None)
    with pytest.raises(ConfigError, match=r"got: +no folder"):
        make(name, tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"got: +no config\.json"):
        make(name, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"got: +no .*\.safetensors"):
        make(name, tmp_path)
    torch.save({"gain": torch.ones(())}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"pickle only \(pytorch_model\.bin\)"):
        make(name, tmp_path)


def test_a_folder_beside_pickles_is_read_from_its_safetensors(tmp_path: Path, unidepth: type) -> None:
    folder = unidepth_folder(tmp_path / "u", unidepth)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nabort\n(tR.")  # would end the process if it were read
    assert make("unidepth", folder).enhance(frames(1)).depth.shape == (1, *SIZE)


@pytest.mark.parametrize("name", ["depth_anything", "unidepth"])
def test_missing_libraries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for file in ("preprocessor_config.json", "model.safetensors"):
        (tmp_path / file).write_text("{}")
    (tmp_path / "config.json").write_text(json.dumps(UNIDEPTH_CONFIG))
    for module in ("transformers", "unidepth", "unidepth.models"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RealdiffError, match=r"can't be imported(.|\n)*next step: pip install") as caught:
        make(name, tmp_path)
    assert ("requirements/monocular.txt" if name == "depth_anything" else "lpiccinelli-eth/UniDepth") in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"name": "dinov2_vits14", "pretrained": ""}, "fetched elsewhere"),
        ({"name": "convnextv2_large", "pretrained": None}, "fetched elsewhere"),
        ({"name": "dinov2_vits14"}, "config.json: KeyError"),
    ],
)
def test_unidepth_fetches_no_backbone(tmp_path: Path, unidepth: type, encoder: dict[str, Any], message: str) -> None:
    folder = unidepth_folder(tmp_path / "u", unidepth)
    (folder / "config.json").write_text(json.dumps({"model": {"name": "UniDepthV2", "pixel_encoder": encoder}}))
    with pytest.raises(ConfigError, match=message):
        make("unidepth", folder)


def test_unidepth_weights_that_do_not_fit_are_refused(tmp_path: Path, unidepth: type) -> None:
    from safetensors.torch import save_file

    folder = unidepth_folder(tmp_path / "u", unidepth)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    save_file({"other": torch.ones(2)}, file)
    with pytest.raises(ConfigError, match="weights that are missing: gain"):
        make("unidepth", folder)
    file.write_bytes(whole[:20])
    with pytest.raises(ConfigError, match="can't be loaded"):
        make("unidepth", folder)


def test_depth_anything_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = depth_anything_folder(tmp_path / "d", "metric")
    from safetensors.torch import load_file, save_file

    file, config = folder / "model.safetensors", folder / "config.json"
    state, settings = load_file(file), config.read_text()
    lost = {key: value for key, value in state.items() if key != "head.conv1.weight"}
    save_file(lost, file, {"format": "pt"})
    with pytest.raises(ConfigError, match=r"missing or of another shape: head\.conv1\.weight"):
        make("depth_anything", folder)
    save_file({**lost, "head.conv1.weight": torch.ones(1, 8, 3, 3)}, file, {"format": "pt"})
    with pytest.raises(ConfigError, match=r"missing or of another shape: head\.conv1\.weight"):
        make("depth_anything", folder)
    config.write_text(settings.replace('"metric"', '"absolute"'))
    with pytest.raises(ConfigError, match="can't be loaded"):
        make("depth_anything", folder)
    config.write_text(settings)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ConfigError, match="can't be loaded"):
        make("depth_anything", folder)


def test_wrong_device_and_parameters_are_named(tmp_path: Path, unidepth: type) -> None:
    folder = unidepth_folder(tmp_path / "u", unidepth)
    with pytest.raises(ConfigError, match="runs in torch"):
        create_model("unidepth", profile=PROFILE, weights=folder, device="openvino")
    with pytest.raises(ConfigError, match=r"noise\.unidepth\.resolution_level"):
        make("unidepth", folder, resolution_level=12)


def test_a_bag_without_colour_is_refused_by_topic(tmp_path: Path, unidepth: type) -> None:
    model = make("unidepth", unidepth_folder(tmp_path / "u", unidepth))
    source = write_episode(tmp_path / "in", frames=2)
    with pytest.raises(ImageError, match="needs a colour image") as caught:
        enhance_bag(source, [tmp_path / "out"], model, PROFILE, EnhanceOptions(model="unidepth"))
    assert topics.DEPTH_IMAGE in str(caught.value) and str(source) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_bag_is_enhanced_from_colour_that_comes_after_the_depth(tmp_path: Path, unidepth: type) -> None:
    model = make("unidepth", unidepth_folder(tmp_path / "u", unidepth))
    source = tmp_path / "late"
    first = write_episode(tmp_path / "in", frames=2)
    with BagReader(first) as reader, BagWriter(source) as writer:
        for info in reader.topics.values():
            writer.copy_topic(info)
        for key, value in reader.custom_data.items():
            writer.set_custom_data(key, value)
        for raw in sorted(read_all(first), key=lambda raw: (raw.stamp_ns, raw.topic == topics.COLOR_IMAGE)):
            writer.write(raw.topic, raw.stamp_ns, raw.data)
    options = EnhanceOptions(model="unidepth", topics=(topics.ALIGNED_DEPTH_IMAGE,))
    enhance_bag(source, [tmp_path / "out"], model, PROFILE, options)
    with BagReader(tmp_path / "out") as reader:
        colour = next(reader.messages([topics.COLOR_IMAGE]))
        red = image_to_numpy(reader.deserialize(colour))[..., 0].astype(int)
        messages = reader.messages([topics.ALIGNED_DEPTH_IMAGE])
        depth = [image_to_numpy(reader.deserialize(raw)).astype(float) for raw in messages]
        record = reader.provenance()
    assert record is not None and record.enhancement is not None
    assert record.enhancement.model == "unidepth" and record.enhancement.weights_sha256 == model.weights_sha256
    inside = (slice(6, 42), slice(6, 64))
    for image in depth:  # the second, too, sees the last colour before it: the first image
        ratio = image[inside] / (red[inside] / 255 + 1)
        assert ratio.max() / ratio.min() < 1.002


def test_a_live_stream_without_colour_is_refused_by_topic(tmp_path: Path, unidepth: type) -> None:
    model = make("unidepth", unidepth_folder(tmp_path / "u", unidepth))
    with BagReader(write_episode(tmp_path / "in", frames=1)) as reader:
        raw = reader.first(topics.DEPTH_IMAGE)
    assert raw is not None
    with pytest.raises(ImageError, match=rf"topic {topics.DEPTH_IMAGE}"):
        StreamEnhancer(model, topics.DEPTH_IMAGE, 0).process(raw.data, CAMERA)


def write_pairs(folder: Path, colours: dict[int, np.ndarray]) -> Path:
    for name in ("clean", "noisy", "colour"):
        (folder / name).mkdir(parents=True)
    np.savetxt(folder / "K.txt", CAMERA.K)
    for number in (3, 6):
        cv2.imwrite(str(folder / "clean" / f"{number:06}.png"), np.full(SIZE, 10_000, np.uint16))
        cv2.imwrite(str(folder / "noisy" / f"{number:06}.png"), np.full(SIZE, 1000, np.uint16))
    for number, image in colours.items():
        suffix = ".png" if number == 3 else ".jpg"
        cv2.imwrite(str(folder / "colour" / f"{number:06}{suffix}"), image[..., ::-1])
    return folder


def test_pairs_supply_colour(tmp_path: Path, unidepth: type) -> None:
    model = make("unidepth", unidepth_folder(tmp_path / "u", unidepth))
    images = {number: np.full((*SIZE, 3), (20 * number, 0, 255), np.uint8) for number in (3, 6)}
    scene = load_scene(parse_scene(f"desk={write_pairs(tmp_path / 'pairs', images)}", "d435"))
    contexts = [CleanContext(scene.clean(i), scene.camera) for i in range(2)]
    results, _ = enhance_scene(model, scene, contexts, 0)
    for number, result in zip((3, 6), results, strict=True):
        expected = (20 * number / 255 + 1) * 0.5 * CAMERA.fx / CAMERA.cx
        np.testing.assert_allclose(result, expected, atol=0.015)  # JPEG; whole millimetres
    before = scene.digest()
    (tmp_path / "pairs" / "colour" / "000003.png").unlink()
    scene = load_scene(parse_scene(f"desk={tmp_path / 'pairs'}", "d435"))
    assert scene.digest() != before
    with pytest.raises(ImageError, match=r"needs a colour image") as caught:
        enhance_scene(model, scene, contexts, 0)
    assert f"{tmp_path / 'pairs'}, frame 3" in str(caught.value) and "colour/NNNNNN.png" in str(caught.value)
    cv2.imwrite(str(tmp_path / "pairs" / "colour" / "000003.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ImageError, match="differ in size"):
        enhance_scene(model, load_scene(parse_scene(f"desk={tmp_path / 'pairs'}", "d435")), contexts, 0)

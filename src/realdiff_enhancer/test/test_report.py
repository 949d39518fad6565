"""The realism card: figures that were put in come out, and the page is complete in itself."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from enhancer_bags import ENCODINGS, STORAGES, write_episode
from realdiff_core.camera import CameraModel
from realdiff_core.errors import BagError, OutputError
from realdiff_enhancer.commands.report import build_parser, report
from realdiff_enhancer.evaluation.card import measure_bag
from realdiff_enhancer.evaluation.card_page import difference_mark
from realdiff_enhancer.metrics.bootstrap import Estimate
from realdiff_enhancer.metrics.no_reference import Probe, probe_pair_statistics, probe_statistics

from realdiff_core import topics

CAMERA = CameraModel(256, 192, 300.0, 300.0, 127.5, 95.5, baseline_m=0.05)


def _noise(seed: int, blur: float) -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((192, 256)), (0, 0), blur)
    return noise / noise.std()


def _probe(sigma_px: float, blur: float = 3.0, seed: int = 0, share: float = 1.0) -> Probe:
    """A slanted table with a box; blurred noise, a part of it the same for every seed; holes in the box's shadow."""
    y = np.mgrid[:192, :256][0]
    disparity = 12.0 + 6.0 * y / 192
    disparity[70:130, 120:200] = 30.0
    disparity += sigma_px * (np.sqrt(share) * _noise(99, blur) + np.sqrt(1 - share) * _noise(seed, blur))
    depth = (CAMERA.disparity_factor / disparity).astype(np.float32)
    depth[70:130, 112:120] = np.nan
    return Probe(depth, CAMERA)


def test_probe_finds_the_noise_that_was_put_in() -> None:
    for sigma in (0.05, 0.2):
        statistics = probe_statistics(_probe(sigma))
        assert statistics["noise_px", "all"][0] == pytest.approx(sigma, rel=0.15)
    white = probe_statistics(_probe(0.1, blur=0.4))
    smooth = probe_statistics(_probe(0.1))
    assert white["correlation_rows", "4"][0] < 0.1 < 0.4 < smooth["correlation_rows", "4"][0]
    assert white["spectrum_px2", "2-4"][0] > 20 * smooth["spectrum_px2", "2-4"][0]
    assert smooth["hole_rate_pct", ""][0] == pytest.approx(100 * 60 * 8 / (192 * 256))
    assert smooth["hole_rate_edges_pct", ""][0] > 10 * smooth["hole_rate_flat_pct", ""][0]


def test_probe_finds_flying_pixels() -> None:
    probe = _probe(0.05)
    before = probe_statistics(probe)["flying_pct", ""][0]
    depth = probe.depth.copy()
    depth[20:170:10, 20:100:10] *= 1.2
    after = probe_statistics(Probe(depth, CAMERA))["flying_pct", ""][0]
    assert after - before == pytest.approx(100 * 15 * 8 / (192 * 256 - 480), rel=0.1)


def test_probe_follows_noise_over_time() -> None:
    for share in (0.2, 0.9):
        pair = probe_pair_statistics(_probe(0.1, seed=1, share=share), _probe(0.1, seed=2, share=share))
        assert pair["temporal_correlation", ""][0] == pytest.approx(share, abs=0.12)
        assert pair["hole_persistence_pct", ""][0] == 100 and pair["hole_appearance_pct", ""][0] == 0


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.images, self.links, self.stack = "", [], [], []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img":
            self.images.append(values["src"] or "")
        if tag in ("script", "link") or "href" in values:
            self.links.append(tag)
        if tag not in ("meta", "img", "br"):
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag, "tags nest"

    def handle_data(self, data: str) -> None:
        self.text += data


def _run(*arguments: object) -> int:
    return report(build_parser().parse_args([str(a) for a in arguments]), "ros2 run realdiff_enhancer report <x>")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("storage", STORAGES)
def test_page_is_complete_in_itself(tmp_path: Path, storage: str, encoding: str) -> None:
    bag = write_episode(tmp_path / "episode", storage, encoding, frames=6, size=(96, 128))
    arguments = (bag, "-o", tmp_path / "card.html", "--frames", "6")
    if storage == "mcap":
        arguments += ("--reference", write_episode(tmp_path / "raw<b>", frames=4, size=(96, 128)))
    assert _run(*arguments) == 0
    text = (tmp_path / "card.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert page.stack == [] and page.links == [] and "<x>" not in text and "raw<b>" not in text
    assert len(page.images) == (3 if storage == "mcap" else 2)
    for image in page.images:
        assert image.startswith("data:image/png;base64,")
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(image.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None and pixels.std() > 5
    assert "simulated, clean" in page.text and "6, 6 measured" in page.text
    assert not re.search(r"\bnan\b", page.text)
    with pytest.raises(OutputError, match="exists"):
        _run(*arguments)
    if (storage, encoding) == ("sqlite3", "32FC1"):
        assert _run(*arguments, "--overwrite") == 0


def test_measured_figures_are_the_bags_own(tmp_path: Path) -> None:
    bag = write_episode(tmp_path / "episode", frames=5, size=(96, 128))
    data = measure_bag(bag, 0.05, topic=topics.DEPTH_IMAGE)
    holes = (96 // 10) * (128 - 128 // 16)  # the strip at the bottom, up to the one that is too near
    assert data.statistics.estimate(("hole_rate_pct", "")).value == pytest.approx(100 * holes / (96 * 128))
    assert data.frames == data.measured == 5 and len(data.probes) == 3


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="too few"):
        measure_bag(write_episode(tmp_path / "one", frames=1), 0.05)
    no_depth = write_episode(tmp_path / "none", frames=3, without=(topics.DEPTH_IMAGE, topics.ALIGNED_DEPTH_IMAGE))
    with pytest.raises(BagError, match="no depth topic"):
        measure_bag(no_depth, 0.05)
    with pytest.raises(OutputError, match=r"card\.html"):
        _run(no_depth, "-o", tmp_path / "card.txt")


def test_marks_say_how_far() -> None:
    def estimate(value: float) -> Estimate:
        return Estimate(value, value - 0.01, value + 0.01, 9)

    assert "near" in difference_mark(estimate(1.1), estimate(1.0))
    assert "some" in difference_mark(estimate(1.5), estimate(1.0)) and "+50 %" in difference_mark(
        estimate(1.5), estimate(1.0)
    )
    assert "far" in difference_mark(estimate(5.0), estimate(1.0))
    assert difference_mark(estimate(1.0), estimate(float("nan"))) == "–"

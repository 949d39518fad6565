"""The report builds from arrays, holds everything inside, escapes what it is given, and its pictures show the data."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from realdiff_core.camera import CameraModel
from realdiff_core.errors import OutputError
from realdiff_enhancer.evaluation.pairs import load_scene, parse_scene
from realdiff_experiments.report.clouds import View, render_cloud, view_of
from realdiff_experiments.report.demo import DemoReport, EnhancedFrame, RealFrame
from realdiff_experiments.report.html import Page
from realdiff_experiments.report.images import (
    HOLE,
    UNKNOWN,
    depth_figure,
    depth_range,
    difference_figure,
    difference_limit,
)
from realdiff_experiments.report.reference import REAL_D415, REAL_D435
from realdiff_experiments.report.statistics import DEPTH_LABELS, EDGE_LABELS, DepthStatistics, measure

CAMERA = CameraModel(width=96, height=72, fx=90.0, fy=90.0, cx=47.5, cy=35.5, baseline_m=0.05)
RNG = np.random.default_rng(0)
CLEAN = np.full((72, 96), 0.9, dtype=np.float32)
CLEAN[20:50, 30:60] = 0.7
NOISY = (CLEAN + RNG.normal(0, 0.004, CLEAN.shape)).astype(np.float32)
NOISY[18:22, 30:60] = np.nan
RGB = RNG.integers(0, 255, (72, 96, 3), dtype=np.uint8)


def build() -> DemoReport:
    report = DemoReport("One episode", "What was done.")
    report.add_facts({"holes": "1.7 %"})
    frame = EnhancedFrame("frame 1", CLEAN, NOISY, RGB, CLEAN + 0.001, np.full(CLEAN.shape, 0.5, dtype=np.float32))
    report.add_frames([frame, EnhancedFrame("frame 2", CLEAN, NOISY)])
    report.add_point_clouds(frame, CAMERA, far_m=0.8, yaw_deg=20.0)
    enhanced = measure("enhanced", "this episode", [CLEAN] * 3, [NOISY] * 3, CAMERA)
    report.add_statistics([enhanced, REAL_D435])
    partly = np.where(np.arange(96) < 10, np.nan, CLEAN).astype(np.float32)
    report.add_real_scene([RealFrame("frame 7", NOISY, partly, NOISY, RGB)], CAMERA, [enhanced])
    report.add_table("Models", ["model", "σ [mm]"], [["none", "0.3"]])
    report.add_text("Remarks", "First.\n\nSecond.")
    report.add_provenance({"depth": "enhanced", "seed": "0"})
    report.add_commands(["ros2 run a b"])
    return report


class Checker(HTMLParser):
    """Collects what a page refers to and checks that its tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.identifiers: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href"):
                self.references.append(value or "")
            if name == "id":
                self.identifiers.add(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def parse(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


@pytest.fixture(scope="module")
def full_report() -> DemoReport:
    return build()


def test_the_report_is_one_file_that_fetches_nothing(full_report: DemoReport, tmp_path: Path) -> None:
    path = full_report.write(tmp_path / "report.html")
    page = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\(|@import|<script|<link", page)
    checker = parse(page)
    pictures = [reference for reference in checker.references if not reference.startswith("#")]
    # Frame 1 has six pictures, frame 2 three; two clouds; two charts; the real scene six, three clouds, two charts.
    assert len(pictures) == 6 + 3 + 2 + 2 + 6 + 3 + 2
    for picture in pictures:
        prefix = "data:image/png;base64,"
        assert picture.startswith(prefix)
        image = cv2.imdecode(np.frombuffer(base64.b64decode(picture[len(prefix) :]), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None and image.size > 0
    links = {reference[1:] for reference in checker.references if reference.startswith("#")}
    assert links == checker.identifiers
    assert 'name="viewport"' in page
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_texts_arrive_as_they_were_given() -> None:
    report = DemoReport("One & only", "<lead>")
    report.add_facts({"holes": "1.7 %"})
    report.add_commands(["ros2 run a b --x '<y>' && echo done"])
    report.add_provenance({"<b>key</b>": 'a & "b" <script>alert(1)</script>'}, heading="<i>odd</i>")
    page = report.page.render()
    assert "<script" not in page and "<i>odd" not in page
    text = parse(page).text
    for wanted in (
        "<b>key</b>",
        'a & "b" <script>alert(1)</script>',
        "<i>odd</i>",
        "One & only",
        "<lead>",
        "--x '<y>' && echo done",
        "1.7 %",
    ):
        assert wanted in text


def test_the_same_input_gives_the_same_page(full_report: DemoReport) -> None:
    assert build().page.render() == full_report.page.render()


def test_an_existing_report_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    page = Page("a")
    path = page.write(tmp_path / "a.html")
    with pytest.raises(OutputError, match="exists"):
        page.write(path)
    page.text("more")
    assert "more" in page.write(path, overwrite=True).read_text()
    with pytest.raises(OutputError, match="folder"):
        page.write(tmp_path / "missing" / "a.html")


def decode(png: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def colour(css: str) -> tuple[int, ...]:
    return tuple(int(css[i : i + 2], 16) for i in (1, 3, 5))


def test_depth_and_difference_maps_show_holes_unknown_pixels_and_signs() -> None:
    clean = CLEAN.copy()
    clean[:, :5] = np.nan
    depth = CLEAN.copy()
    depth[60, 50] = np.nan
    depth[61, 50] += 0.008
    depth[62, 50] -= 0.008
    image = decode(depth_figure(depth, (0.6, 1.0), "d", known=np.isfinite(clean)).png)
    assert tuple(image[60, 50]) == colour(HOLE)
    assert tuple(image[30, 2]) == colour(UNKNOWN)
    image = decode(difference_figure(depth, clean, 10.0).png).astype(int)
    assert tuple(image[60, 50]) == colour(HOLE)
    assert tuple(image[30, 2]) == colour(UNKNOWN)
    farther, nearer, same = image[61, 50], image[62, 50], image[30, 30]
    assert farther[0] > farther[2] + 60  # red
    assert nearer[2] > nearer[0] + 60  # blue
    assert same.min() > 230  # white


def test_limits_suit_the_data() -> None:
    low, high = depth_range(CLEAN)
    assert (low, high) == (pytest.approx(0.7), pytest.approx(0.9))
    assert depth_range(np.full((4, 4), np.nan)) == (0.0, 1.0)
    assert difference_limit(NOISY, CLEAN) == 15  # 3 σ = 12 mm
    assert difference_limit(CLEAN, CLEAN) == 1


def test_a_cloud_seen_by_the_camera_itself_is_the_picture_it_took() -> None:
    """Without turn and with the camera's own scale, every pixel must come back to its place with its colour."""
    rgb = cv2.resize(RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8), (96, 72), interpolation=cv2.INTER_NEAREST)
    view = View(pivot=(0.0, 0.0, 0.9), yaw_deg=0, pitch_deg=0, zoom=1.0, width=96, height=72)
    image = render_cloud(np.full((72, 96), 0.9), rgb, CAMERA, view)
    inner = np.s_[6:-6, 6:-6]
    assert np.mean(np.abs(image[inner].astype(int) - rgb[inner].astype(int)).max(-1) < 40) > 0.8


def test_a_near_surface_hides_a_far_one_and_the_eye_moves_the_right_way() -> None:
    rgb = np.zeros((72, 96, 3), dtype=np.uint8)
    rgb[:] = (0, 0, 255)
    near = np.float32(0.7) == CLEAN
    rgb[near] = (255, 0, 0)
    view = view_of(CLEAN, CAMERA, width=192, height=144)

    def red_centre(yaw_deg: float) -> float:
        image = render_cloud(CLEAN, rgb, CAMERA, View(view.pivot, yaw_deg, 0, 1.0, 192, 144)).astype(int)
        red = (image[..., 0] > 100) & (image[..., 2] < 60)
        assert red.sum() > 500
        return float(np.argwhere(red)[:, 1].mean())

    # Seen from further right, what is nearer than the pivot moves to the left.
    assert red_centre(20) < red_centre(0) < red_centre(-20)


def test_an_empty_depth_image_gives_an_empty_cloud() -> None:
    empty = np.full((72, 96), np.nan)
    image = render_cloud(empty, None, CAMERA, view_of(empty, CAMERA, width=40, height=30))
    assert (image == image[0, 0]).all()


def test_statistics_are_those_of_the_noise_that_was_added() -> None:
    clean = np.full((72, 96), 0.9, dtype=np.float32)
    noisy = clean + RNG.normal(0, 0.004, clean.shape).astype(np.float32)
    noisy[:9] = np.nan
    result = measure("enhanced", "here", [clean, clean], [noisy, noisy], CAMERA)
    assert result.sigma_mm["0.8-1"].value == pytest.approx(4.0, rel=0.06)
    assert set(result.sigma_mm) == {"0.8-1"}
    assert result.hole_rate_pct is not None
    assert result.hole_rate_pct.value == pytest.approx(12.5)


@pytest.mark.parametrize("reference", [REAL_D435, REAL_D415])
def test_published_figures_name_their_source_and_use_the_bins_of_the_metrics(reference: DepthStatistics) -> None:
    assert "frames of github.com/" in reference.source
    assert set(reference.sigma_mm) <= set(DEPTH_LABELS)
    assert set(reference.holes_by_edge_pct) == set(EDGE_LABELS)
    for series in (reference.sigma_mm, reference.holes_by_edge_pct):
        assert all(e.low < e.value < e.high for e in series.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "profile", "reference"), [("tron_d435", "d435", REAL_D435), ("ovni_d415", "d415", REAL_D415)]
)
def test_published_figures_are_what_the_frames_give(
    shared_data: Path, folder: str, profile: str, reference: DepthStatistics
) -> None:
    path = shared_data / "pairs" / folder
    if not path.is_dir():
        pytest.skip(f"the pairs are not here: {path}")
    scene = load_scene(parse_scene(str(path), profile))
    frames = range(len(scene.frames))
    measured = measure("", "", [scene.clean(i) for i in frames], [scene.noisy(i) for i in frames], scene.camera)
    for published, found in (
        (reference.sigma_mm, measured.sigma_mm),
        (reference.holes_by_edge_pct, measured.holes_by_edge_pct),
    ):
        for label, estimate in published.items():
            assert estimate.value == pytest.approx(found[label].value, abs=0.1), label
    assert reference.hole_rate_pct is not None and measured.hole_rate_pct is not None
    assert reference.hole_rate_pct.value == pytest.approx(measured.hole_rate_pct.value, abs=0.1)

"""The demo's report: clean depth, what the enhancer made of it, and a real camera beside it.

The caller fills it with arrays and texts; sections appear in the order of the calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from realdiff_core.camera import CameraModel
from realdiff_enhancer.metrics.bootstrap import Estimate

from realdiff_experiments.report.charts import holes_chart, sigma_chart
from realdiff_experiments.report.clouds import cloud_figure, view_of
from realdiff_experiments.report.html import Figure, Page
from realdiff_experiments.report.images import (
    HOLE,
    UNKNOWN,
    colour_figure,
    depth_figure,
    depth_range,
    difference_figure,
    difference_limit,
    discrepancy_figure,
)
from realdiff_experiments.report.statistics import DEPTH_LABELS, EDGE_LABELS, DepthStatistics

_DASH = "–"


@dataclass(frozen=True)
class EnhancedFrame:
    """One frame on its way through the enhancer; all images share one pixel grid.

    Attributes:
        label: such as "frame 42, depth camera".
        clean: float32 [H, W], metres, NaN where invalid.
        enhanced: float32 [H, W], metres, NaN in holes.
        rgb: uint8 [H, W, 3], or None.
        coarse: float32 [H, W], metres, the clean depth with the coarse residual, or None.
        discrepancy: float32 [H, W] in [0, 1], or None.
    """

    label: str
    clean: NDArray[np.float32]
    enhanced: NDArray[np.float32]
    rgb: NDArray[np.uint8] | None = None
    coarse: NDArray[np.float32] | None = None
    discrepancy: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class RealFrame:
    """One frame of a real scene: what was recorded, its fused clean depth, and that depth enhanced.

    Attributes:
        label: such as "frame 1108".
        raw: float32 [H, W], metres, NaN in holes, as the camera recorded it.
        clean: float32 [H, W], metres, NaN where the fusion saw nothing.
        enhanced: float32 [H, W], metres, NaN in holes.
        rgb: uint8 [H, W, 3], or None.
    """

    label: str
    raw: NDArray[np.float32]
    clean: NDArray[np.float32]
    enhanced: NDArray[np.float32]
    rgb: NDArray[np.uint8] | None = None


class DemoReport:
    """Builds the report section by section and writes it as one file.

    Args:
        title: heading.
        lead: one or two sentences: what was done, with which model.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        """Start an empty report."""
        self.page = Page(title, lead)

    def add_facts(self, facts: Mapping[str, str]) -> None:
        """Show key numbers as tiles, {what it is: the number with its unit}; best called first."""
        self.page.facts(facts)

    def add_text(self, heading: str, text: str) -> None:
        """Add a section of plain text; empty lines separate paragraphs."""
        self.page.section(heading, text)

    def add_table(self, heading: str, header: Sequence[str], rows: Sequence[Sequence[str]], text: str = "") -> None:
        """Add a section with one table; the first column names the row."""
        self.page.section(heading, text)
        self.page.table(header, rows)

    def add_frames(
        self,
        frames: Sequence[EnhancedFrame],
        heading: str = "From clean to enhanced",
        text: str = "",
        depth_limits_m: tuple[float, float] | None = None,
        difference_limit_mm: float | None = None,
    ) -> None:
        """Show each frame's way: colour, clean depth, coarse, discrepancy, enhanced, difference.

        What a frame lacks (a model without a coarse stage) is left out.

        Args:
            frames: the frames, one row or two each.
            heading: of the section.
            text: below it.
            depth_limits_m: range of the depth colours; None chooses it from each frame's clean depth.
            difference_limit_mm: end of the difference colours on both sides; None chooses it for each frame.
        """
        self.page.section(heading, text)
        self.page.keys({"hole": HOLE})
        for frame in frames:
            self.page.subheading(frame.label)
            limits = depth_limits_m or depth_range(frame.clean)
            limit = difference_limit_mm or difference_limit(frame.enhanced, frame.clean)
            self.page.figures(_stages(frame, limits, limit), columns=3)

    def add_point_clouds(
        self,
        frame: EnhancedFrame,
        camera: CameraModel,
        heading: str = "Point clouds, before and after",
        text: str = "",
        far_m: float | None = None,
        **view: float,
    ) -> None:
        """Show the clean and the enhanced depth of a frame as clouds from one oblique view.

        Args:
            frame: the frame.
            camera: intrinsics of its pixels.
            heading: of the section.
            text: below it.
            far_m: leave out what lies farther, such as the walls behind a table.
            view: fields of :class:`~realdiff_experiments.report.clouds.View` to set, such as ``yaw_deg``.
        """
        self.page.section(heading, text)
        shown = frame.clean <= (np.inf if far_m is None else far_m)
        clean, enhanced = (np.where(shown, depth, np.nan) for depth in (frame.clean, frame.enhanced))
        look = view_of(clean, camera, **view)
        self.page.figures(
            [
                cloud_figure(clean, frame.rgb, camera, look, "Before", f"{frame.label}, clean depth"),
                cloud_figure(enhanced, frame.rgb, camera, look, "After", f"{frame.label}, enhanced depth"),
            ],
            columns=2,
        )

    def add_statistics(
        self,
        sources: Sequence[DepthStatistics],
        heading: str = "Noise and holes beside a real camera's",
        text: str = "",
    ) -> None:
        """Compare sources of depth: σ(z) and holes as charts and tables.

        Args:
            sources: such as clean, enhanced and real; the order is that of legend and table.
            heading: of the section.
            text: below it.
        """
        self.page.section(heading, text)
        self.page.figures([sigma_chart(sources), holes_chart(sources)], columns=2)
        depth = [label for label in DEPTH_LABELS if any(label in s.sigma_mm for s in sources)]
        self.page.subheading("Robust σ away from edges [mm], by depth [m]")
        self.page.table(["", *depth], [[s.name, *(_cell(s.sigma_mm, label, 1) for label in depth)] for s in sources])
        self.page.subheading("Holes [%], by distance to a depth edge [px]")
        rows = []
        for source in sources:
            overall = _DASH if source.hole_rate_pct is None else f"{source.hole_rate_pct.value:.1f}"
            rows.append([source.name, overall, *(_cell(source.holes_by_edge_pct, label, 0) for label in EDGE_LABELS)])
        self.page.table(["", "overall", *EDGE_LABELS], rows)
        self.page.definitions({source.name: source.source for source in sources})

    def add_real_scene(
        self,
        frames: Sequence[RealFrame],
        camera: CameraModel | None = None,
        statistics: Sequence[DepthStatistics] = (),
        heading: str = "A real scene: fused clean depth, enhanced, beside its raw frames",
        text: str = "",
    ) -> None:
        """Lay the enhanced clean depth of a real scene beside what the camera recorded there.

        Args:
            frames: the frames to show.
            camera: intrinsics of their pixels; adds point clouds of the first frame.
            statistics: measured on the scene's frames, such as raw and enhanced.
            heading: of the section.
            text: below it; name the source of the frames.
        """
        self.page.section(heading, text)
        self.page.keys({"hole": HOLE, "clean depth unknown (no frame saw it)": UNKNOWN})
        for frame in frames:
            self.page.subheading(frame.label)
            self.page.figures(_beside(frame), columns=3)
        if camera is not None and frames:
            first = frames[0]
            look = view_of(first.clean, camera)
            hidden = ~np.isfinite(first.clean)
            self.page.subheading(f"{first.label} as point clouds (pixels with known clean depth)")
            clouds = (("Clean", first.clean), ("Enhanced", first.enhanced), ("Recorded", first.raw))
            self.page.figures(
                [
                    cloud_figure(np.where(hidden, np.nan, depth), first.rgb, camera, look, title)
                    for title, depth in clouds
                ],
                columns=3,
            )
        if statistics:
            self.page.figures([sigma_chart(statistics), holes_chart(statistics)], columns=2)
            self.page.definitions({source.name: source.source for source in statistics})

    def add_provenance(self, items: Mapping[str, str], heading: str = "Provenance") -> None:
        """List what the depth is and how it came about: model, weights' hash, seed, profile, simulator, …"""
        self.page.section(heading)
        self.page.definitions(items)

    def add_commands(self, commands: Sequence[str], heading: str = "The commands", text: str = "") -> None:
        """List the commands that led here, to be copied."""
        self.page.section(heading, text)
        self.page.code("\n".join(commands))

    def write(self, path: Path, overwrite: bool = False) -> Path:
        """Write the report.

        Args:
            path: the HTML file.
            overwrite: replace an existing one.

        Returns:
            The path.

        Raises:
            OutputError: the file exists and may not be replaced, or its folder is missing.
        """
        return self.page.write(path, overwrite)


def _stages(frame: EnhancedFrame, limits: tuple[float, float], limit: float) -> list[Figure]:
    holes = _share(np.isfinite(frame.clean) & ~np.isfinite(frame.enhanced), np.isfinite(frame.clean))
    figures = [] if frame.rgb is None else [colour_figure(frame.rgb)]
    figures.append(depth_figure(frame.clean, limits, "Clean depth", "the simulator's"))
    if frame.coarse is not None:
        figures.append(difference_figure(frame.coarse, frame.clean, limit, "Coarse", "first stage − clean"))
    if frame.discrepancy is not None:
        figures.append(discrepancy_figure(frame.discrepancy, "Discrepancy", "where the first stage doubts itself"))
    figures.append(depth_figure(frame.enhanced, limits, "Enhanced depth", f"{holes} holes"))
    figures.append(difference_figure(frame.enhanced, frame.clean, limit, "Difference", "enhanced − clean"))
    return figures


def _beside(frame: RealFrame) -> list[Figure]:
    known = np.isfinite(frame.clean)
    limits = depth_range(frame.clean)
    limit = difference_limit(frame.raw, frame.clean)
    figures = [
        depth_figure(frame.clean, limits, "Fused clean depth", "from neighbouring frames", known),
        depth_figure(frame.raw, limits, "Recorded depth", f"{_holes(frame.raw, known)} holes", known),
        depth_figure(frame.enhanced, limits, "Clean depth, enhanced", f"{_holes(frame.enhanced, known)} holes", known),
    ]
    if frame.rgb is not None:
        figures.append(colour_figure(frame.rgb))
    figures.append(difference_figure(frame.raw, frame.clean, limit, "Recorded − clean", "the real camera's error"))
    figures.append(difference_figure(frame.enhanced, frame.clean, limit, "Enhanced − clean", "the model's error"))
    return figures


def _holes(depth: NDArray[np.float32], known: NDArray[np.bool_]) -> str:
    return _share(known & ~np.isfinite(depth), known)


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> str:
    return f"{100 * part.sum() / max(int(whole.sum()), 1):.1f} %"


def _cell(values: Mapping[str, Estimate], label: str, digits: int) -> str:
    estimate = values.get(label)
    return _DASH if estimate is None else f"{estimate.value:.{digits}f}"

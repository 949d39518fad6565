"""What `calibrate fit` leaves: transform, overlay pictures and a page that shows why to trust it, or why not."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from realdiff_core.config import CameraProfile
from realdiff_core.errors import OutputError
from realdiff_core.output import StagedFolder

from realdiff_sim_bridge.calibration.align import Aligner, Alignment
from realdiff_sim_bridge.calibration.overlay import Picture, contact_sheet, draw_overlay, view_picture
from realdiff_sim_bridge.calibration.quality import Evidence, Limits
from realdiff_sim_bridge.calibration.transform import (
    FILE_NAME,
    CalibrationQuality,
    CameraTransform,
    camera_transform,
    write_transform,
)
from realdiff_sim_bridge.calibration.views import ViewSet

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 1.8em }
table { border-collapse: collapse }
td, th { padding: .25em .9em .25em 0; text-align: left; border-bottom: 1px solid #ddd }
.good { color: #137333 } .bad { color: #b3261e }
img { max-width: 100% } code { background: #f3f3f3; padding: .1em .3em }
figure { display: inline-block; width: 48%; margin: .5% } figcaption { font-size: .9em }
"""


def write_results(
    folder: Path,
    views: ViewSet,
    alignment: Alignment,
    aligner: Aligner,
    profile: CameraProfile,
    *,
    overwrite: bool = False,
) -> CameraTransform | None:
    """Writes pictures, report and, if the alignment is accepted, the transform; complete or not at all.

    Args:
        folder: Where to; made here.
        views: The views.
        alignment: The result.
        aligner: What made it.
        profile: Tells how the imagers stand to each other.
        overwrite: Replace a folder of an earlier run.

    Returns:
        The transform; None if the alignment is refused.

    Raises:
        OutputError: The folder exists already, or holds something else.
    """
    content = None
    if alignment.accepted:
        content = camera_transform(alignment.base_camera, views.camera, profile, _quality(alignment.evidence))
    staged = StagedFolder(folder, overwrite=overwrite, suffixes=(".yaml", ".png", ".html"))
    try:
        work = staged.begin()
        work.mkdir()
        pictures = overlays(views, alignment, aligner)
        names = [view.name for view in views.views]
        for name, picture in zip(names, pictures, strict=True):
            _write_png(work / f"overlay_{name}.png", picture)
        _write_png(work / "contact_sheet.png", contact_sheet(pictures, names))
        (work / "report.html").write_text(page(alignment, aligner.limits, pictures, content), encoding="utf-8")
        if content is not None:
            write_transform(work / FILE_NAME, content)
        staged.complete()
    except BaseException:
        staged.abort()
        raise
    return content


def overlays(views: ViewSet, alignment: Alignment, aligner: Aligner) -> list[Picture]:
    """Draws rendered (red) and observed (green) outline over every view."""
    renderer = aligner.renderer
    pictures = []
    for view in views.views:
        silhouette = renderer.render(renderer.articulate(view.joints), alignment.base_camera)
        pictures.append(draw_overlay(view_picture(view), renderer.image_mask(silhouette), view.mask))
    return pictures


def _quality(evidence: Evidence) -> CalibrationQuality:
    return CalibrationQuality(
        views=len(evidence.views),
        mean_px=round(evidence.residual.mean_px, 3),
        p95_px=round(evidence.residual.p95_px, 3),
        mean_mm=round(evidence.residual.mean_m * 1e3, 3),
        position_95_mm=round(evidence.uncertainty.position_m * 1e3, 3),
        angle_95_deg=round(evidence.uncertainty.angle_deg, 4),
    )


def _write_png(path: Path, picture: Picture) -> None:
    import cv2

    done, data = cv2.imencode(".png", picture[..., ::-1])
    if not done:
        raise OutputError("picture can't be encoded", where=path)
    path.write_bytes(data.tobytes())


def table_rows(evidence: Evidence, limits: Limits) -> list[tuple[str, str, str, bool]]:
    """Returns the verdict's figures: name, value, limit, and whether the limit is kept."""
    residual, spread, check = evidence.residual, evidence.uncertainty, evidence.intrinsics
    worst = max(view.mean_px for view in evidence.views)
    closest = min(evidence.rivals, default=float("inf"))
    shift = max(abs(value) for value in check.principal_px)
    sigma = max(check.principal_sigma_px)
    return [
        _row(
            "mean distance of the contours",
            residual.mean_px,
            limits.mean_px,
            "px",
            f" ({residual.mean_m * 1e3:.1f} mm)",
        ),
        _row("95 % of the distances", residual.p95_px, limits.p95_px, "px", f" ({residual.p95_m * 1e3:.1f} mm)"),
        _row("worst view", worst, limits.view_mean_px, "px"),
        _row("uncertainty of the position (95 %)", spread.position_m * 1e3, limits.position_m * 1e3, "mm"),
        _row("uncertainty of the orientation (95 %)", spread.angle_deg, limits.angle_deg, "°"),
        _row("masks too large by", evidence.dilation_px, limits.dilation_px, "px"),
        _row(
            "focal length off by", check.focal_error * 100, limits.focal_error * 100, "%", f" ± {check.focal_sigma:.1%}"
        ),
        _row("principal point off by", shift, max(limits.principal_px, 3 * sigma), "px", f" ± {sigma:.1f}"),
        (
            "starts that end here",
            f"{evidence.agreeing} of {evidence.starts}",
            f"≥ {min(limits.agreeing, evidence.starts)}",
            evidence.agreeing >= min(limits.agreeing, evidence.starts),
        ),
        (
            "nearest other pose",
            "none" if np.isinf(closest) else f"{closest:.1f} times the distance",
            f"≥ {limits.rival_cost:g}",
            closest >= limits.rival_cost,
        ),
    ]


def _row(name: str, value: float, limit: float, unit: str, more: str = "") -> tuple[str, str, str, bool]:
    return name, f"{value:.2f} {unit}{more}", f"≤ {limit:.2f} {unit}", abs(value) <= limit


def page(alignment: Alignment, limits: Limits, pictures: Sequence[Picture], content: CameraTransform | None) -> str:
    """Returns the report as one HTML page that needs no other file."""
    evidence = alignment.evidence
    pose = alignment.base_camera
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Camera alignment</title><style>{_STYLE}</style>",
        "<h1>Camera alignment: "
        + ("<span class='good'>accepted</span>" if alignment.accepted else "<span class='bad'>refused</span>")
        + "</h1>",
    ]
    if alignment.reasons:
        parts.append("<ul>" + "".join(f"<li>{html.escape(reason)}</li>" for reason in alignment.reasons) + "</ul>")
    x, y, z = (f"{value:.4f}" for value in pose.position)
    quaternion = ", ".join(f"{value:.6f}" for value in pose.quaternion)
    parts.append(
        "<h2>Pose</h2><p>Colour optical frame in <code>base</code>: "
        f"({x}, {y}, {z}) m, quaternion (x, y, z, w) {quaternion}.</p>"
    )
    if content is not None and content.link is not None:
        parts.append(
            f"<p>Publish it beside the driver:<br><code>{html.escape(content.link.publisher_command())}</code></p>"
        )
    sigma = evidence.uncertainty
    axes = ", ".join(f"{value * 1e3:.1f}" for value in sigma.axes_m)
    turns = ", ".join(f"{value:.2f}" for value in sigma.axes_deg)
    parts.append(
        f"<p>Standard deviations along the optical frame's axes: {axes} mm; about them: {turns}°.</p>"
        "<h2>Evidence</h2><table><tr><th>what</th><th>value</th><th>allowed</th></tr>"
    )
    for name, value, limit, kept in table_rows(evidence, limits):
        kind = "good" if kept else "bad"
        parts.append(f"<tr><td>{name}</td><td class='{kind}'>{value}</td><td>{limit}</td></tr>")
    parts.append("</table><h2>Views</h2><p>Red: the rendered robot. Green: the observed mask.</p>")
    for name, view, picture in zip(evidence.names, evidence.views, pictures, strict=True):
        parts.append(
            f"<figure><img alt='' src='{_inline(picture)}'><figcaption>{html.escape(name)}: {view.mean_px:.2f} px, "
            f"95 % {view.p95_px:.2f} px, {view.mean_m * 1e3:.1f} mm, overlap {view.overlap:.1%}</figcaption></figure>"
        )
    return "\n".join(parts) + "\n"


def _inline(picture: Picture) -> str:
    import cv2

    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not done:
        raise OutputError("picture can't be encoded")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()

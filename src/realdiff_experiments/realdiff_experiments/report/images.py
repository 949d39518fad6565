"""Arrays to pictures: colour, depth, discrepancy and signed difference, each with its colour bar."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from realdiff_experiments.report.html import ColourScale, Figure

#: A measured hole and a pixel whose clean depth is unknown, as CSS colours.
HOLE = "#15181c"
UNKNOWN = "#8b939b"


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode an RGB picture.

    Args:
        image: uint8 [H, W, 3], RGB.

    Returns:
        PNG bytes.
    """
    import cv2

    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not done:
        raise ValueError(f"image of shape {image.shape} and type {image.dtype} can't be encoded")
    return bytes(data)


def _rgb(css: str) -> tuple[int, int, int]:
    return int(css[1:3], 16), int(css[3:5], 16), int(css[5:7], 16)


def _colour_map(name: str, values: NDArray[np.floating]) -> NDArray[np.uint8]:
    from matplotlib import colormaps

    return np.asarray(colormaps[name](np.clip(np.nan_to_num(values), 0, 1), bytes=True))[..., :3]


def _scale(name: str, low: str, high: str) -> ColourScale:
    colours = _colour_map(name, np.linspace(0, 1, 17))
    return ColourScale(low, high, tuple(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in colours))


def _paint(name: str, values: NDArray[np.floating], shown: NDArray[np.bool_], other: str) -> NDArray[np.uint8]:
    image = _colour_map(name, values)
    image[~shown] = _rgb(other)
    return image


def depth_range(clean: NDArray[np.floating]) -> tuple[float, float]:
    """Return the range of depth in which a scene is drawn: its 1st and 99th percentile, metres."""
    known = clean[np.isfinite(clean)]
    if known.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(known, (1, 99)))
    return low, max(high, low + 1e-3)


def colour_figure(rgb: NDArray[np.uint8], title: str = "Colour", caption: str = "") -> Figure:
    """Show the camera's colour image, uint8 [H, W, 3] RGB."""
    return Figure(png(np.ascontiguousarray(rgb)), title, caption)


def depth_figure(
    depth: NDArray[np.floating],
    limits: tuple[float, float],
    title: str,
    caption: str = "",
    known: NDArray[np.bool_] | None = None,
) -> Figure:
    """Show a depth image.

    Args:
        depth: [H, W], metres, NaN in holes.
        limits: range of the colours, metres; the same for all depth images of a frame.
        title: bold part of the caption.
        caption: the rest.
        known: [H, W], where the clean depth is known; the rest is grey instead of hole-coloured.

    Returns:
        The figure with its colour bar.
    """
    low, high = limits
    image = _paint("viridis", (depth - low) / (high - low), np.isfinite(depth), HOLE)
    if known is not None:
        image[~known] = _rgb(UNKNOWN)
    return Figure(png(image), title, caption, _scale("viridis", f"{low:.2f} m", f"{high:.2f} m"))


def discrepancy_figure(discrepancy: NDArray[np.floating], title: str = "Discrepancy", caption: str = "") -> Figure:
    """Show a map in [0, 1], [H, W]."""
    image = _paint("magma", discrepancy, np.isfinite(discrepancy), HOLE)
    return Figure(png(image), title, caption, _scale("magma", "0", "1"))


def difference_figure(
    depth: NDArray[np.floating],
    clean: NDArray[np.floating],
    limit_mm: float,
    title: str = "Difference",
    caption: str = "",
) -> Figure:
    """Show depth minus clean depth, red where it is farther and blue where it is nearer.

    Args:
        depth: [H, W], metres, NaN in holes.
        clean: [H, W], metres, NaN where unknown.
        limit_mm: end of the colour bar on both sides, millimetres.
        title: bold part of the caption.
        caption: the rest.

    Returns:
        The figure with its colour bar.
    """
    difference_mm = 1e3 * (depth - clean)
    image = _paint("RdBu_r", 0.5 + difference_mm / (2 * limit_mm), np.isfinite(difference_mm), HOLE)
    image[~np.isfinite(clean)] = _rgb(UNKNOWN)
    scale = _scale("RdBu_r", f"−{limit_mm:g} mm", f"+{limit_mm:g} mm")
    return Figure(png(image), title, caption, scale)


def difference_limit(depth: NDArray[np.floating], clean: NDArray[np.floating]) -> float:
    """Return a round colour-bar limit that shows a difference well, millimetres.

    About three robust σ of the nearer half of the scene (the error grows with the square of the distance: a far wall
    would flatten what happens on the table), at least 1 mm.
    """
    known = np.isfinite(clean) & np.isfinite(depth)
    near = known & (clean <= np.median(clean[known])) if known.any() else known
    difference = 1e3 * np.abs(depth - clean)[near]
    wanted = 3 * 1.4826 * float(np.median(difference)) if difference.size else 1.0
    return next((v for v in (1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 80) if v >= wanted), 100)

"""Colours and textures of the tasks' objects, as a function of the object's configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realdiff_sim_bridge.objects import Banana, Basket, Can, Cube, Plate, TaskObject

Image = NDArray[np.uint8]
Rgba = tuple[float, float, float, float]

_WHITE: Rgba = (1.0, 1.0, 1.0, 1.0)
_METAL: Rgba = (0.72, 0.73, 0.75, 1.0)


@dataclass(frozen=True)
class Look:
    """An object's look, by material.

    Attributes:
        colours: RGBA in [0, 1]; it multiplies the texture where there is one.
        textures: uint8[H, W, 3], RGB.
    """

    colours: dict[str, Rgba]
    textures: dict[str, Image] = field(default_factory=dict)


def paint(item: TaskObject) -> Look:
    """Returns the look of an object; it depends on kind and colour, never on the size."""
    return _PAINTERS[item.kind](item)


def _can(item: Can) -> Look:
    return Look({"label": _WHITE, "metal": _METAL}, {"label": _label(item.colour)})


def _label(colour: tuple[float, float, float]) -> Image:
    """Paints a can's label: uint8[128, 256, 3], a coloured ground with a light band and dark marks."""
    image = np.empty((128, 256, 3), dtype=np.float64)
    image[:] = np.asarray(colour)
    image[44:84] = 0.92
    columns = np.arange(256)
    image[50:78, (columns // 16) % 2 == 0] = np.asarray(colour) * 0.45
    image[10:14] = image[114:118] = [0.85, 0.70, 0.25]
    return np.asarray(np.round(255 * image), dtype=np.uint8)


def _banana(item: Banana) -> Look:
    """A peel with brown ends and a few freckles; rows of the texture run along the fruit."""
    random = np.random.default_rng(3)
    peel = np.asarray(item.colour)
    image = np.empty((128, 64, 3), dtype=np.float64)
    image[:] = peel
    along = np.linspace(0.0, 1.0, 128)
    ends = np.clip((0.10 - along) / 0.06, 0.0, 1.0) + np.clip((along - 0.95) / 0.03, 0.0, 1.0)
    green = np.clip((0.22 - along) / 0.15, 0.0, 1.0)[:, None, None]
    image = image * (1.0 - 0.25 * green * np.array([1.0, 0.0, 1.0]))
    brown = peel * np.array([0.32, 0.28, 0.30])
    freckles = (random.random((128, 64)) < 0.012) * 0.45
    shade = np.clip(0.85 * ends[:, None] + freckles, 0.0, 0.9)[..., None]
    image = (1.0 - shade) * image + shade * brown
    return Look({"skin": _WHITE}, {"skin": np.asarray(np.round(255 * np.clip(image, 0.0, 1.0)), dtype=np.uint8)})


def _plain(part: str) -> Callable[[Cube | Plate | Basket], Look]:
    return lambda item: Look({part: (*item.colour, 1.0)})


_PAINTERS: dict[str, Callable[[Any], Look]] = {
    "banana": _banana,
    "basket": _plain("plastic"),
    "can": _can,
    "cube": _plain("wood"),
    "plate": _plain("glaze"),
}

"""Procedural textures of table, walls and floor: brightness patterns that a material's colour multiplies.

All are tileable and made from fixed seeds; they are uint8[size, size, 3], grey, with white as the brightest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Pattern = NDArray[np.float64]


def texture(name: str) -> NDArray[np.uint8]:
    """Paints a texture by name.

    Args:
        name: A key of `TEXTURES`.

    Returns:
        uint8[size, size, 3], RGB.
    """
    size, paint = TEXTURES[name]
    v, u = np.meshgrid(np.arange(size) / size, np.arange(size) / size, indexing="ij")
    # A stream of its own for each texture: a new one doesn't change the others.
    pattern = paint(u, v, np.random.default_rng(list(name.encode())))
    return np.repeat(np.asarray(np.round(255 * np.clip(pattern, 0.0, 1.0)), dtype=np.uint8)[..., None], 3, axis=2)


def _cloud(size: int, random: np.random.Generator, steepness: float) -> Pattern:
    """Tileable noise whose amplitude falls with frequency to the power of `steepness`; mean 0, deviation 1."""
    frequency = np.fft.fftfreq(size) * size
    radius = np.hypot(frequency[:, None], frequency[None, :])
    radius[0, 0] = np.inf
    noise = np.fft.ifft2(np.fft.fft2(random.normal(size=(size, size))) * radius**-steepness).real
    return np.asarray(noise / noise.std())


def _wood(u: Pattern, v: Pattern, random: np.random.Generator) -> Pattern:
    board = np.floor(v * 6).astype(int)
    offsets, shade = random.uniform(0.0, 10.0, 6)[board], random.uniform(-0.03, 0.03, 6)[board]
    wave = 0.15 * np.sin(2 * np.pi * (u + offsets)) + 0.05 * np.sin(6 * np.pi * u + 3 * offsets)
    grain = 0.03 * np.sin(2 * np.pi * (v * 6 * 5 + wave * 3 + offsets)) + random.normal(0.0, 0.008, v.shape)
    return 0.92 + shade + grain - 0.10 * _seams(v * 6, 0.012)


def _planks(u: Pattern, v: Pattern, random: np.random.Generator) -> Pattern:
    board = np.floor(v * 8).astype(int)
    return 0.85 + random.uniform(-0.12, 0.12, 8)[board] + 0.02 * _cloud(len(v), random, 1.0) - 0.2 * _seams(v * 8, 0.03)


def _marble(u: Pattern, v: Pattern, random: np.random.Generator) -> Pattern:
    veins = np.abs(np.sin(2 * np.pi * (u + v) + 1.1 * _cloud(len(v), random, 2.4)))
    return 0.95 - 0.25 * np.exp(-8.0 * veins) + 0.02 * _cloud(len(v), random, 1.6)


def _cloth(u: Pattern, v: Pattern, random: np.random.Generator) -> Pattern:
    threads = np.sin(2 * np.pi * 64 * u) * np.sin(2 * np.pi * 64 * v)
    stripes = -0.07 * ((np.floor(u * 16) % 4 == 0).astype(float) + (np.floor(v * 16) % 4 == 0))
    return 0.88 + 0.05 * threads + stripes + 0.01 * _cloud(len(v), random, 0.5)


def _speckle(u: Pattern, v: Pattern, random: np.random.Generator) -> Pattern:
    grains = _cloud(len(v), random, 0.6)
    return 0.85 + np.where(grains > 1.3, 0.13, 0.0) - np.where(grains < -1.4, 0.35, 0.0) + 0.02 * grains


def _plaster(u: Pattern, v: Pattern, random: np.random.Generator) -> Pattern:
    return 0.93 + 0.03 * _cloud(len(v), random, 1.4)


def _brick(u: Pattern, v: Pattern, random: np.random.Generator) -> Pattern:
    row = np.floor(v * 12).astype(int)
    along = u * 5 + 0.5 * (row % 2)
    tone = random.uniform(-0.10, 0.10, (12, 5))[row, np.floor(along).astype(int) % 5]
    joint = np.maximum(_seams(v * 12, 0.07), _seams(along, 0.03))
    return np.where(joint > 0, 0.95, 0.75 + tone + 0.03 * _cloud(len(v), random, 1.0))


def _panels(u: Pattern, v: Pattern, random: np.random.Generator) -> Pattern:
    return 0.93 + 0.01 * _cloud(len(v), random, 1.0) - 0.30 * np.maximum(_seams(u * 3, 0.012), _seams(v * 2, 0.008))


def _checker(u: Pattern, v: Pattern, random: np.random.Generator) -> Pattern:
    return np.where((np.floor(2 * u) + np.floor(2 * v)) % 2 == 0, 1.0, 0.92) * np.ones_like(u)


def _seams(position: Pattern, width: float) -> Pattern:
    """1 where a position lies within `width` of a whole number, else 0."""
    return np.asarray(np.minimum(position % 1, 1 - position % 1) < width, dtype=np.float64)


TEXTURES: dict[str, tuple[int, Callable[[Pattern, Pattern, np.random.Generator], Pattern]]] = {
    "brick": (256, _brick),
    "checker": (256, _checker),
    "cloth": (512, _cloth),
    "marble": (512, _marble),
    "panels": (256, _panels),
    "planks": (256, _planks),
    "plaster": (256, _plaster),
    "speckle": (512, _speckle),
    "wood": (512, _wood),
}
"""Edge length [px] and painter by name; "plain" stands for no texture."""

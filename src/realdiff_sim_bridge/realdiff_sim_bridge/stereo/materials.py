"""Procedural textures, materials and lathed shapes for random scenes (no downloaded assets)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

TEXTURE_SIZE = 256


@dataclass(frozen=True)
class Material:
    """How a surface reflects near infrared.

    Attributes:
        gloss: 0 matt … 1 mirror.
        infrared: reflectance that the infrared image tends to, in [0,1] (dyes are often transparent in infrared).
        follow: share of the infrared reflectance that follows the visible luminance, in [0,1].
        texture: index of a texture, or -1 for a plain colour.
        rgb: tint, each in [0,1].
        transmission: share of the light that passes unscattered, in [0,1] (glass, clear plastic).
    """

    gloss: float
    infrared: float
    follow: float
    texture: int
    rgb: tuple[float, float, float]
    transmission: float = 0.0


def _noise(rng: np.random.Generator, octaves: tuple[int, ...], stretch: float = 1.0) -> NDArray[np.float32]:
    """Fractal noise in [0,1], [S,S]."""
    total = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE), np.float32)
    for index, cells in enumerate(octaves):
        rows = max(2, round(cells / stretch))
        nodes = rng.standard_normal((rows, cells)).astype(np.float32)
        octave = cv2.resize(nodes, (TEXTURE_SIZE, TEXTURE_SIZE), interpolation=cv2.INTER_CUBIC)
        total += np.asarray(octave, dtype=np.float32) / np.float32(1.5**index)
    low, high = np.percentile(total, (1, 99))
    return np.asarray(np.clip((total - low) / (high - low), 0, 1), dtype=np.float32)


def random_texture(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random albedo texture, uint8 [S,S,3]: near-plain, cloudy, wood, stripes, checks, print or speckle."""
    kind = rng.choice(["plain", "plain", "cloud", "wood", "stripes", "checks", "print", "speckle"])
    a, b = rng.uniform(0.3, 1.0, 3), rng.uniform(0.05, 1.0, 3)
    if kind == "plain":
        mix = 0.08 * _noise(rng, (6, 40))
    elif kind == "cloud":
        mix = _noise(rng, (4, 9, 22, 60))
    elif kind == "wood":
        mix = 0.6 * _noise(rng, (3, 60, 128), stretch=float(rng.uniform(10, 30)))
    elif kind == "stripes":
        phase = np.linspace(0, rng.uniform(4, 30) * np.pi, TEXTURE_SIZE, dtype=np.float32)
        mix = np.broadcast_to((np.sin(phase) > rng.uniform(-0.5, 0.5)).astype(np.float32)[None, :], (TEXTURE_SIZE,) * 2)
    elif kind == "checks":
        cells = int(rng.integers(2, 16))
        index = np.arange(TEXTURE_SIZE) * cells // TEXTURE_SIZE
        mix = ((index[:, None] + index[None, :]) % 2).astype(np.float32)
    elif kind == "print":
        mix = np.zeros((TEXTURE_SIZE,) * 2, np.float32)
        line = int(rng.integers(6, 16))
        for top in range(line, TEXTURE_SIZE - line, line):  # lines of words
            x = int(rng.integers(4, 20))
            while x < TEXTURE_SIZE - 20:
                length = int(rng.integers(4, 24))
                cv2.rectangle(mix, (x, top), (x + length, top + line // 2), float(rng.uniform(0.6, 1)), -1)
                x += length + int(rng.integers(3, 9))
    else:
        mix = (_noise(rng, (128, 200)) > rng.uniform(0.6, 0.9)).astype(np.float32)
    colour = a[None, None, :] * (1 - mix[..., None]) + b[None, None, :] * mix[..., None]
    return np.ascontiguousarray(np.clip(colour * 255, 0, 255).astype(np.uint8))


def random_material(rng: np.random.Generator, textures: int, role: str = "object") -> Material:
    """Draw a material. `role`: ``object``, ``surface`` (tables, walls, floors: rarely dark or shiny)."""
    kinds = ["matt", "matt", "satin", "dark", "shiny", "metal", "dark_shiny"]
    chance = (
        [0.30, 0.22, 0.20, 0.09, 0.08, 0.06, 0.05] if role == "object" else [0.47, 0.3, 0.18, 0.01, 0.03, 0.0, 0.01]
    )
    kind = str(rng.choice(kinds, p=chance))
    gloss, infrared = {
        "matt": ((0.0, 0.03), (0.35, 0.9)),
        "satin": ((0.05, 0.3), (0.25, 0.85)),
        "dark": ((0.0, 0.15), (0.01, 0.06)),
        "shiny": ((0.4, 0.8), (0.2, 0.8)),
        "metal": ((0.75, 1.0), (0.05, 0.25)),
        "dark_shiny": ((0.4, 0.9), (0.01, 0.04)),
    }[kind]
    dark = kind.startswith("dark")
    base = float(rng.uniform(*infrared))
    rgb = rng.uniform(0.02, 0.12, 3) if dark else rng.uniform(0.45, 1.0, 3) * rng.uniform(0.5, 1.0)
    return Material(
        gloss=float(rng.uniform(*gloss)),
        infrared=base,
        follow=0.0 if dark else float(rng.uniform(0.2, 0.9)),
        texture=-1 if rng.random() < 0.35 else int(rng.integers(textures)),
        rgb=(float(rgb[0]), float(rgb[1]), float(rgb[2])),
    )


def random_glass(rng: np.random.Generator) -> Material:
    """Draw glass or clear plastic: smooth, hardly scattering, slightly tinted."""
    tint = rng.uniform(0.75, 1.0, 3)
    return Material(
        gloss=float(rng.uniform(0.85, 1.0)),
        infrared=float(rng.uniform(0.02, 0.12)),
        follow=0.0,
        texture=-1,
        rgb=(float(tint[0]), float(tint[1]), float(tint[2])),
        transmission=float(rng.uniform(0.6, 0.92)),
    )


def lathe(
    profile: NDArray[np.float64], sides: int = 40
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Turn a profile [N,2] of (radius, height) around z into a triangle mesh.

    Returns:
        Vertices [V,3], faces [F,3] (outside of an upward profile faces outwards), texture coordinates [V,2].
    """
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    radius, height = profile[:, 0], profile[:, 1]
    vertices = np.stack(
        (
            np.cos(angle)[:, None] * radius[None, :],
            np.sin(angle)[:, None] * radius[None, :],
            np.broadcast_to(height, (sides + 1, len(height))),
        ),
        axis=-1,
    )
    count = len(profile)
    coordinates = np.stack(
        (
            np.broadcast_to(angle[:, None] / (2 * np.pi), (sides + 1, count)),
            np.broadcast_to(np.linspace(0, 1, count)[None, :], (sides + 1, count)),
        ),
        axis=-1,
    )
    side, step = np.meshgrid(np.arange(sides), np.arange(count - 1), indexing="ij")
    a, b = side * count + step, (side + 1) * count + step
    faces = np.concatenate((np.stack((a, b, b + 1), -1).reshape(-1, 3), np.stack((a, b + 1, a + 1), -1).reshape(-1, 3)))
    return vertices.reshape(-1, 3), faces, coordinates.reshape(-1, 2)


def random_vessel(rng: np.random.Generator) -> NDArray[np.float64]:
    """Profile of a bowl, cup, bottle or vase: up the outside, over the rim, down the inside."""
    kind = str(rng.choice(["bowl", "cup", "bottle", "vase"]))
    t = np.linspace(0, 1, 14)
    if kind == "bowl":
        size, height = rng.uniform(0.05, 0.12), rng.uniform(0.03, 0.08)
        radius = size * (0.35 + 0.65 * np.sin(t * np.pi / 2))
    elif kind == "cup":
        size, height = rng.uniform(0.03, 0.05), rng.uniform(0.07, 0.12)
        radius = size * (0.85 + 0.15 * t)
    elif kind == "bottle":
        size, height = rng.uniform(0.025, 0.045), rng.uniform(0.16, 0.30)
        radius = size * np.where(t < 0.65, 1.0, 0.35 + 0.65 * np.clip(1 - (t - 0.65) / 0.15, 0, 1))
    else:
        size, height = rng.uniform(0.04, 0.08), rng.uniform(0.12, 0.25)
        radius = size * (0.6 + 0.4 * np.sin(t * np.pi * rng.uniform(0.9, 1.6) + 0.4))
    wall = 0.004
    outside = np.stack((radius, t * height), axis=-1)
    inside = np.stack((np.maximum(radius - wall, 0.002), np.maximum(t * height, wall)), axis=-1)[::-1]
    return np.concatenate(([[0.0005, 0.0]], outside, inside, [[0.0005, wall]]))

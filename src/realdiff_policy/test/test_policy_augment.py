"""Variations of training images: how far they go, and that each can be switched off."""

from __future__ import annotations

import pytest
import torch
from realdiff_policy.data.augment import Augmentation, augment

OFF = {
    "crop": False,
    "brightness": 0,
    "contrast": 0,
    "saturation": 0,
    "camera_shift": 0,
    "camera_rotation_deg": 0,
    "camera_scale": 0,
}
SIZE = (48, 64)


def varied(colour: torch.Tensor, depth: torch.Tensor, window: tuple[int, int] = SIZE, seed: int = 0, **changes):
    generator = torch.Generator().manual_seed(seed)
    return augment(colour, depth, window, Augmentation.model_validate(OFF | changes), generator)


def pictures(count: int, red: float = 0.5, green: float = 0.4, blue: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    colour = torch.tensor([red, green, blue]).view(1, 1, 3, 1, 1).expand(count, 2, 3, *SIZE).clone()
    return colour, torch.ones(count, 2, *SIZE)


def test_brightness_multiplies_by_up_to_its_share_either_way() -> None:
    colour, depth = pictures(400)
    bright, same = varied(colour, depth, brightness=0.2)
    torch.testing.assert_close(same, depth)
    factor = bright / colour
    one = factor[:, :1, :1, :1, :1]
    torch.testing.assert_close(factor, one.expand_as(factor), rtol=1e-4, atol=1e-5)  # one factor a sample
    assert 0.8 <= one.min() < 0.82 and 1.18 < one.max() <= 1.2


def test_contrast_stretches_about_the_mean() -> None:
    colour, depth = pictures(300)
    colour[..., : SIZE[1] // 2] += 0.1
    stretched, _ = varied(colour, depth, contrast=0.3)
    mean = colour.mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(stretched.mean(dim=(1, 2, 3, 4)), mean, atol=1e-5, rtol=0)
    spread = stretched.flatten(1).std(dim=1) / colour.flatten(1).std(dim=1)
    assert 0.7 <= spread.min() < 0.73 and 1.27 < spread.max() <= 1.3001


def test_saturation_leaves_grey_grey_and_the_luma_as_it_is() -> None:
    grey, depth = pictures(50, 0.5, 0.5, 0.5)
    torch.testing.assert_close(varied(grey, depth, saturation=0.5)[0], grey, atol=1e-5, rtol=0)
    colour, depth = pictures(300)
    saturated, _ = varied(colour, depth, saturation=0.5)

    def luma(images: torch.Tensor) -> torch.Tensor:
        return 0.299 * images[:, :, 0] + 0.587 * images[:, :, 1] + 0.114 * images[:, :, 2]

    torch.testing.assert_close(luma(saturated), luma(colour), atol=1e-5, rtol=0)
    difference = saturated[:, 0, 0, 0, 0] - saturated[:, 0, 2, 0, 0]  # 0.2 between red and blue
    assert 0.1 <= difference.min() < 0.11 and 0.29 < difference.max() <= 0.3001


def test_colours_stay_in_range() -> None:
    colour, depth = pictures(100, 0.98, 0.02, 1.0)
    seen, _ = varied(colour, depth, brightness=0.9, contrast=0.9, saturation=0.9)
    assert seen.min() >= 0.0 and seen.max() <= 1.0


def coordinates(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose first two channels are row and column, so that each output pixel tells where it came from."""
    y, x = torch.meshgrid(torch.arange(float(SIZE[0])), torch.arange(float(SIZE[1])), indexing="ij")
    colour = torch.stack([y / SIZE[1], x / SIZE[1], torch.zeros_like(x)]).expand(count, 2, 3, *SIZE).clone()
    return colour, (1.0 + y * SIZE[1] + x).expand(count, 2, *SIZE).clone()


@pytest.mark.parametrize(
    ("changes", "largest"),
    [({"camera_shift": 0.05}, 0.05 * 64), ({"camera_rotation_deg": 5.0}, 1.25), ({"camera_scale": 0.1}, 2.0)],
    ids=["shift", "rotation", "scale"],
)
def test_the_camera_moves_as_far_as_allowed_and_depth_with_it(changes: dict, largest: float) -> None:
    """In the middle window of 40 × 28 px: 5° moves x at its corner (19.5, 13.5) by 13.5 sin 5° + 19.5 (1 − cos 5°)."""
    colour, depth = coordinates(200)
    window = (28, 40)
    seen, metres = varied(colour, depth, window, **changes)
    still, _ = varied(colour, depth, window)
    moved = (seen - still)[:, 0, 1] * SIZE[1]
    furthest = moved.abs().amax(dim=(1, 2))
    assert furthest.max() <= largest * 1.02
    assert furthest.max() > 0.9 * largest - 0.25
    assert furthest.std() > 0.1 * largest  # each sample by an amount of its own
    torch.testing.assert_close(seen[:, 0], seen[:, 1])
    # Depth is the pixel nearest to where colour was interpolated.
    row, column = torch.div(metres - 1.0, SIZE[1], rounding_mode="floor"), torch.remainder(metres - 1.0, SIZE[1])
    assert (column - seen[:, :, 1] * SIZE[1]).abs().max() <= 0.51
    assert (row - seen[:, :, 0] * SIZE[1]).abs().max() <= 0.51


def test_every_window_is_taken_and_the_two_steps_share_it() -> None:
    colour, depth = coordinates(400)
    seen, _ = varied(colour, depth, (44, 60), crop=True)
    corners = {(round(float(y) * 64), round(float(x) * 64)) for y, x in seen[:, 0, :2, 0, 0]}
    assert corners == {(y, x) for y in range(5) for x in range(5)}
    torch.testing.assert_close(seen[:, 0], seen[:, 1])


def test_what_leaves_the_picture_is_a_hole_in_depth() -> None:
    colour, depth = coordinates(50)
    _, metres = varied(colour, depth, camera_shift=0.2)
    assert (metres == 0.0).any() and not (depth == 0.0).any()


def test_the_same_generator_varies_alike() -> None:
    colour, depth = coordinates(5)
    settings = {"crop": True, "brightness": 0.2, "camera_shift": 0.01}
    one, two, other = (varied(colour, depth, (44, 60), seed=seed, **settings)[0] for seed in (3, 3, 4))
    assert torch.equal(one, two) and not torch.equal(one, other)

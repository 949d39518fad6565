"""Octave bands of a residual: they add up, and their factors give a sample the spectrum that was measured."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from realdiff_enhancer.two_stage import bands  # noqa: E402
from realdiff_enhancer.two_stage.config import StepCalibration, TwoStageConfig  # noqa: E402
from realdiff_enhancer.two_stage.decoding import decode_fields  # noqa: E402
from realdiff_enhancer.two_stage.training.calibration import _band_gains  # noqa: E402

SCALE_PX = 0.15


def residual(seed: int, *, side: int = 192) -> torch.Tensor:
    """White noise of 0.1 px with as much of it smooth: every band has a part."""
    generator = torch.Generator().manual_seed(seed)
    rough, smooth = torch.randn((2, 1, 1, side, side), generator=generator)
    for radius in (2, 5):
        smooth = smooth + bands._smooth(torch.randn((1, 1, side, side), generator=generator), radius) * 5 * radius
    return 0.03 * (rough + smooth)


def test_bands_add_up_to_the_residual() -> None:
    field = residual(0)
    parts = bands.split(field)
    assert len(parts) == bands.BANDS
    torch.testing.assert_close(sum(parts[1:], parts[0]), field, rtol=0, atol=1e-6)
    torch.testing.assert_close(bands.with_band_gains(field, (1.0,) * bands.BANDS, SCALE_PX), field)
    torch.testing.assert_close(
        bands.with_band_gains(0.5 * bands.small(field, SCALE_PX), (2.0,) * bands.BANDS, SCALE_PX),
        bands.small(field, SCALE_PX),
    )


@pytest.mark.parametrize(("wavelength_px", "band"), [(4, 0), (11, 1), (24, 2), (96, 3)])
def test_a_wave_is_in_its_band(wavelength_px: int, band: int) -> None:
    x = torch.arange(384) * (2 * torch.pi / wavelength_px)
    field = (0.1 * torch.sin(x)).expand(384, 384)[None, None]
    strengths = bands.band_strengths(field, torch.ones_like(field), SCALE_PX)
    assert int(strengths[:-1].argmax()) == band


def test_gross_errors_get_no_factor() -> None:
    field = torch.zeros((1, 1, 96, 96))
    field[..., 48:] = 10.0
    changed = bands.with_band_gains(field, (2.0, 2.0, 2.0, 2.0), SCALE_PX) - field
    assert float(changed.abs().max()) <= 4 * SCALE_PX + 1e-6


@pytest.mark.parametrize("gains", [(1.3, 0.7, 1.1, 0.9), (0.6, 1.5, 1.0, 1.2)])
def test_every_band_gets_the_cameras_strength(gains: tuple[float, ...]) -> None:
    """The camera's noise is the sample's, coloured otherwise, in other draws; holes are left out."""
    mask = torch.ones((1, 1, 192, 192))
    mask[..., 80:90, 40:60] = 0.0
    gain = 1.2
    frames = [
        (bands.with_band_gains(residual(seed), gains, SCALE_PX), residual(100 + seed) / gain, mask) for seed in range(4)
    ]
    found = _band_gains(frames, gain, SCALE_PX)

    def strengths(fields: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack([bands.band_strengths(field, mask, SCALE_PX)[:-1] for field in fields]).mean(0)

    real = strengths([frame[0] for frame in frames])
    plain = strengths([gain * frame[1] for frame in frames])
    ours = strengths([bands.with_band_gains(gain * frame[1], found, SCALE_PX) for frame in frames])
    assert float((plain / real - 1).abs().max()) > 0.25
    torch.testing.assert_close(ours, real, rtol=0.05, atol=0)


def test_too_little_noise_gives_no_factors() -> None:
    field = residual(0)
    assert _band_gains([(field, field, torch.zeros_like(field))], 1.0, SCALE_PX) == ()


def test_decoding_applies_them() -> None:
    config = TwoStageConfig()
    cells, holes = config.fine.stride**2 // config.residual_px**2, config.fine.stride**2
    sample = 0.3 * torch.randn((1, cells + holes, 24, 24), generator=torch.Generator().manual_seed(2))
    proximity = torch.zeros((1, 1, 48, 48))
    coarse = torch.zeros((1, 1, 12, 12))
    found = [
        decode_fields(coarse, sample, config, StepCalibration(steps=4, band_gain=gain), proximity)[1]
        for gain in ((), (1.0,) * bands.BANDS, (0.5, 1.0, 1.0, 1.0))
    ]
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
    assert float(found[2].std()) < float(found[0].std())

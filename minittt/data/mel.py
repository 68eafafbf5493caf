"""Mel filter banks: triangles over the bins of a spectrum, evenly spaced on the mel scale.

The codec's training loss and the referee look at sound through them; nothing that talks does.
"""

import torch
from torch import Tensor


def hertz_to_mel(frequency: Tensor) -> Tensor:
    """Mel, the scale of perceived pitch: 2595 log10(1 + f / 700)."""
    return 2595 * torch.log10(1 + frequency / 700)


def mel_to_hertz(mel: Tensor) -> Tensor:
    """The inverse of `hertz_to_mel`."""
    return 700 * (10 ** (mel / 2595) - 1)


def mel_filters(bands: int, n_fft: int, sample_rate: int, lowest: float = 0.0) -> Tensor:
    """Triangles from `lowest` Hz to half the sample rate, of height at most 1: (bands, n_fft // 2 + 1) float32.

    A triangle reaches at least one bin to either side of its centre: a narrower one could fall between two bins.
    """
    # 1. The corners: each triangle begins at the centre of the one before and ends at the centre of the next.
    ends = hertz_to_mel(torch.tensor([lowest, sample_rate / 2], dtype=torch.float64, device="cpu"))
    mel = torch.linspace(ends[0].item(), ends[1].item(), bands + 2, dtype=torch.float64)
    corners = mel_to_hertz(mel)[:, None]  # (bands + 2, 1) Hz
    left = corners[:-2]  # (bands, 1)
    centre = corners[1:-1]
    right = corners[2:]
    # 2. Widen those that are narrower than a bin.
    bin_width = sample_rate / n_fft  # Hz
    left = torch.minimum(left, centre - bin_width)
    right = torch.maximum(right, centre + bin_width)
    # 3. The height of each triangle at each bin.
    frequency = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)  # (F,) Hz
    rising = (frequency - left) / (centre - left)  # (bands, F)
    falling = (right - frequency) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0).float()

"""Mel filters: every band hears something, higher bands hear higher, and between the outermost peaks nothing is lost."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from minittt.data.mel import hertz_to_mel, mel_filters, mel_to_hertz

RATES = st.sampled_from([8000, 16000, 24000])
LOWEST = st.sampled_from([0.0, 30.0, 120.0])


@given(st.sampled_from([(48, 512), (16, 128), (32, 1024)]), RATES, LOWEST)
def test_triangles_overlap_into_a_partition(shape, rate, lowest):
    bands, n_fft = shape
    filters = mel_filters(bands, n_fft, rate, lowest)
    frequency = torch.linspace(0, rate / 2, n_fft // 2 + 1)
    assert filters.shape == (bands, n_fft // 2 + 1)
    assert filters.min() == 0 and filters.max() <= 1
    # Corners by the definition: equal steps of 2595 log10(1 + f / 700).
    first, last = (2595 * torch.log10(torch.tensor(1 + f / 700)).item() for f in (lowest, rate / 2))
    corners = [
        700 * (10 ** ((first + (last - first) * i / (bands + 1)) / 2595) - 1) for i in range(bands + 2)
    ]
    bin_width = rate / n_fft
    narrow = [b for b in range(bands + 1) if corners[b + 1] - corners[b] < bin_width]
    safe = corners[narrow[-1] + 2] if narrow else corners[1]  # above it no triangle had to be widened
    inside = (frequency > safe + 1) & (frequency < corners[-2] - 1)
    assert inside.any()
    torch.testing.assert_close(filters.sum(0)[inside], torch.ones(int(inside.sum())), rtol=0, atol=1e-3)
    if not narrow:
        assert filters[:, frequency < lowest - 1].abs().sum() == 0


@given(st.sampled_from([(40, 256), (64, 512), (20, 128), (80, 256)]), RATES)
def test_no_triangle_falls_between_two_bins(shape, rate):
    bands, n_fft = shape
    filters = mel_filters(bands, n_fft, rate)
    weight = filters.sum(1)  # (bands,)
    assert (weight >= 0.5).all()
    places = (filters * torch.arange(filters.shape[1])).sum(1) / weight
    assert (places.diff() >= 0).all()


@given(st.floats(0, 20_000))
def test_mel_and_hertz_undo_each_other(frequency):
    f = torch.tensor(frequency, dtype=torch.float64)
    torch.testing.assert_close(mel_to_hertz(hertz_to_mel(f)), f, rtol=1e-9, atol=1e-9)
    assert abs(hertz_to_mel(torch.tensor(1000.0, dtype=torch.float64)).item() - 1000) < 0.1

"""The whole method in one short file says what the package says."""

import importlib.util
import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minittt.attention import TARGET, TEXT, assign_groups, two_stream_mask

PATH = Path(__file__).parent.parent / "tutorials" / "tiny_ttt.py"
spec = importlib.util.spec_from_file_location("tiny_ttt", PATH)
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 3))
def test_groups_are_those_of_the_package(before, blocks, after):
    n_audio = blocks * tiny.BLOCK
    kinds = torch.tensor([TEXT] * before + [TARGET] * n_audio + [TEXT] * after)
    assert torch.equal(tiny.groups_of(before, n_audio, after), assign_groups(kinds, tiny.BLOCK))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.data())
def test_the_mask_is_that_of_the_package(groups, data):
    noisy = data.draw(st.lists(st.booleans(), min_size=len(groups), max_size=len(groups)))
    groups = torch.tensor(groups)
    noisy = torch.tensor(noisy)
    itself = torch.eye(len(groups), dtype=torch.bool)  # the package lets every query see itself besides
    mask = tiny.two_stream_mask(groups, noisy) | itself
    assert torch.equal(mask, two_stream_mask(groups[None], noisy[None])[0])


def test_every_number_of_masks_is_as_likely_and_weighs_n_over_k():
    torch.manual_seed(0)
    masked, weight = tiny.mask_blocks(4000, tiny.BLOCK)
    k = masked.sum(1)
    assert k.min() == 1 and k.max() == tiny.BLOCK
    for count in range(1, tiny.BLOCK + 1):
        assert (k == count).float().mean() == pytest.approx(1 / tiny.BLOCK, abs=0.03)
    assert torch.equal(weight, masked * tiny.BLOCK / k[:, None])


def test_the_audio_loss_is_an_unbiased_estimate_of_the_bound():
    """Over many draws the mean is the sum over masked sets S of (|S|-1)! (n-|S|)! / n! CE(S), per slot."""
    n = tiny.BLOCK
    surprise = torch.rand(
        2**n, n, generator=torch.Generator().manual_seed(1)
    ).double()  # CE of each slot given S

    def cross_entropy(masked):
        return surprise[int((masked * 2 ** torch.arange(n)).sum())]

    exact = 0.0
    for size in range(1, n + 1):
        sets = list(itertools.combinations(range(n), size))
        for chosen in sets:
            masked = torch.zeros(n, dtype=torch.long)
            masked[list(chosen)] = 1
            exact += float((cross_entropy(masked) * masked).sum()) / (size * len(sets))
    torch.manual_seed(2)
    masked, weight = tiny.mask_blocks(20_000, n)
    drawn = [(weight[i] * cross_entropy(masked[i].long())).sum() for i in range(len(masked))]
    assert float(torch.stack(drawn).mean()) == pytest.approx(exact, rel=0.02)


def test_text_is_read_one_token_earlier_and_audio_at_its_own_place():
    """A network that always predicts the token it sees knows all clean audio slots, and no next token."""

    class Echo(torch.nn.Module):
        def forward(self, ids, positions, mask):
            return 50.0 * torch.nn.functional.one_hot(ids, tiny.MASK + 1).float()

    row, reply_start, audio_start = tiny.conversation([0, 1, 2], 1)
    ids = torch.tensor([row])
    text, audio = tiny.losses(Echo(), ids, reply_start, audio_start)
    assert text > 10
    assert audio > 1  # masked slots alone are counted, and there it sees MASK


def test_every_reply_of_a_half_trained_network_is_proper():
    model = tiny.train(60, seed=0, batch=32)
    for letters in ([0, 1], [3, 2, 1], [7, 7, 7, 7]):
        for steps in (1, 3, tiny.BLOCK):
            written, spoken = tiny.reply(model, letters, steps)
            assert all(0 <= letter < tiny.LETTERS for letter in written)
            assert all(tiny.FIRST_CODE <= code < tiny.EOA for code in spoken)


@pytest.mark.slow
def test_the_whole_minute_says_why_there_are_steps(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["tiny_ttt.py"])
    tiny.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if "steps a block" in line]
    right = [int(line.split(": ")[1].split(" %")[0]) for line in lines]
    one_voice = [int(line.split("right, ")[1].split(" %")[0]) for line in lines]
    assert min(right) > 90
    assert one_voice[0] < 30 < 80 < one_voice[-1]

"""The pictures: their colours stay apart, they show what they are given, they leave matplotlib alone."""

import ast
import io
import itertools
import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colors
from matplotlib.figure import Figure

from minittt.app import plotting
from minittt.attention import PAD_KIND, SOURCE, TARGET, TEXT, assign_groups, group_mask, two_stream_mask
from minittt.decoding import DenoisingStep

KINDS = [TEXT, TEXT, SOURCE, SOURCE, SOURCE, TEXT, TARGET, TARGET, TARGET, TARGET, TEXT]
NAMES = {0: "BOS", 1: " two", 2: "OPEN", 5: "#5", 6: "#6", 8: "EOA", 9: "MASK"}
IDS = [0, 1, 5, 6, 8, 2, 5, 6, 8, 9, 1]


def new_axes():
    return Figure(figsize=(6, 4), layout="constrained").subplots()


def saved(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def lightness(colour: str) -> float:
    """CIE L* of an sRGB colour: what is left of it in greyscale."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colors.to_rgb(colour)]
    y = float(np.dot([0.2126, 0.7152, 0.0722], linear))
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def test_any_two_colours_differ_in_greyscale():
    lights = {name: lightness(colour) for name, colour in plotting.COLOURS.items()}
    for a, b in itertools.combinations(lights, 2):
        assert abs(lights[a] - lights[b]) > 10, (a, b)


def test_colours_stay_apart_without_red_green_or_blue_vision():
    """Simulated by leaving out one cone; of blue blindness, rare and roughly drawn, less is asked."""
    to_lms = np.array(
        [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
    )
    protan = np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]])
    deutan = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])
    tritan = np.array([[1, 0, 0], [0, 1, 0], [-0.395913, 0.801109, 0]])
    rgb = np.array([colors.to_rgb(colour) for colour in plotting.COLOURS.values()]) ** 2.2  # (n, 3), linear
    for blindness, least in ((protan, 0.3), (deutan, 0.3), (tritan, 0.15)):
        seen = rgb @ to_lms.T @ blindness.T @ np.linalg.inv(to_lms).T
        seen = np.clip(seen, 0, 1) ** (1 / 2.2)
        for a, b in itertools.combinations(seen, 2):
            assert np.linalg.norm(a - b) > least, blindness


LINE = {"step": 1, "text": 3.0, "audio": 4.0, "gradient_norm": 1.0, "tokens_per_s": 100.0}


def test_drawing_leaves_pyplot_and_settings_alone():
    tree = ast.parse(Path(plotting.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert "pyplot" not in " ".join(map(ast.unparse, imports))
    before = matplotlib.rcParams.copy()
    plotting.draw_curves([LINE])
    with plotting.house_style():
        assert matplotlib.rcParams["axes.spines.top"] is False
    assert matplotlib.rcParams.copy() == before


@given(
    st.lists(st.sampled_from([TEXT, SOURCE, TARGET, PAD_KIND]), min_size=1, max_size=12), st.integers(1, 4)
)
def test_shade_mask_says_hidden_other_or_own_group(kinds, block_size):
    groups = assign_groups(torch.tensor([kinds]), block_size)
    mask = group_mask(groups)[0]
    shade = plotting.shade_mask(mask, kinds, groups[0])
    for q, k in itertools.product(range(len(kinds)), repeat=2):
        visible = bool(mask[q, k]) and kinds[k] != PAD_KIND
        own = int(groups[0, q]) == int(groups[0, k])
        assert shade[q, k] == (1 + 2 * kinds[k] + own if visible else 0)


def test_the_palette_has_a_pale_and_a_full_colour_of_each_kind():
    palette = plotting.mask_palette()
    assert palette.shape == (7, 4) and palette[0, 3] == 0
    for kind, name in ((TEXT, "text"), (SOURCE, "source"), (TARGET, "target")):
        pale, full = palette[1 + 2 * kind], palette[2 + 2 * kind]
        assert tuple(pale[:3]) == tuple(full[:3]) == colors.to_rgb(plotting.COLOURS[name])
        assert full[3] == 1 and pale[3] < 0.6


def test_draw_mask_paints_the_mask_and_takes_two_streams():
    kinds = torch.tensor([KINDS])
    groups = assign_groups(kinds, 2)
    ax = new_axes()
    plotting.draw_mask(ax, group_mask(groups)[0], kinds[0], groups[0])
    painted = ax.images[0].get_array()
    expected = plotting.mask_palette()[plotting.shade_mask(group_mask(groups)[0], KINDS, groups[0])]
    assert np.array_equal(painted, expected)
    shown = [label.get_text() for label in ax.get_xticklabels()]
    assert shown == [str(g) for g in range(int(groups.max()) + 1)]
    plotting.legend(ax, ["text", "mask"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["text", "MASK"]
    noisy = kinds == TARGET
    twice = torch.cat([groups, groups[noisy][None]], 1)
    stream = torch.cat([torch.zeros_like(noisy), torch.ones_like(noisy[noisy])[None]], 1)
    ax, labels = new_axes(), [f"t{i}" for i in range(twice.shape[1])]
    both = torch.cat([kinds, kinds[noisy][None]], 1)[0]
    plotting.draw_mask(ax, two_stream_mask(twice, stream)[0], both, twice[0], labels)
    assert [label.get_text() for label in ax.get_yticklabels()] == labels
    assert saved(ax.figure)


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.sampled_from([TEXT, SOURCE, TARGET, PAD_KIND]), min_size=1, max_size=12), st.integers(1, 4)
)
def test_what_is_hatched_is_audio_heard_and_nothing_else(kinds, block_size):
    groups = assign_groups(torch.tensor([kinds]), block_size)
    mask = group_mask(groups)[0]
    ax = Figure().subplots()
    plotting.draw_mask(ax, mask, kinds, groups[0])
    hatched = np.zeros((len(kinds), len(kinds)), int)
    for patch in ax.patches:
        assert patch.get_hatch()
        if patch.get_x() >= -0.5 and patch.get_y() >= -0.5:  # the others lie on the bands
            left, top = round(patch.get_x() + 0.5), round(patch.get_y() + 0.5)
            hatched[top : top + round(patch.get_height()), left : left + round(patch.get_width())] += 1
    assert np.array_equal(hatched, mask.numpy() & (np.array(kinds) == SOURCE)[None, :])


def test_boxes_and_the_legend_hatch_audio_heard_alone():
    ax = new_axes()
    plotting.draw_sequence(ax, [1, 5, 8, 5], [TEXT, SOURCE, SOURCE, TARGET], [0, 1, 1, 2], NAMES.get)
    [hatching] = ax.collections  # of the second box; EOA, the third, is hollow
    [outline] = hatching.get_paths()
    assert hatching.get_hatch() and np.allclose(outline.get_extents(), ax.patches[1].get_bbox())
    plotting.legend(ax, ["text", "source", "target"])
    assert [bool(patch.get_hatch()) for patch in ax.get_legend().get_patches()] == [False, True, False]


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match="as many kinds"):
        plotting.draw_mask(new_axes(), np.ones((3, 3)), [0, 0], [0, 1])


@given(st.sampled_from([8000, 16000, 24000]), st.floats(0.05, 0.45))
def test_a_tone_is_loudest_at_its_frequency(sample_rate, share):
    frequency = share * sample_rate
    wave = 0.5 * np.sin(2 * np.pi * frequency * np.arange(sample_rate // 2) / sample_rate)
    decibels = plotting.spectrogram(wave, sample_rate)
    bins = np.linspace(0, sample_rate / 2, len(decibels))
    middle = decibels[:, decibels.shape[1] // 2]
    assert abs(bins[middle.argmax()] - frequency) <= 1 / 0.032  # one bin, in Hz
    assert (
        middle[abs(bins - frequency) > 10 / 0.032].max() < -60
    )  # ten bins off, the window lets nothing through
    assert decibels.max() == 0 and decibels.min() >= plotting.FLOOR
    assert decibels.shape[1] == len(wave) // round(0.008 * sample_rate) + 1


def test_silence_short_and_empty_waves():
    assert np.all(plotting.spectrogram(np.zeros(800), 8000) == plotting.FLOOR)
    assert plotting.spectrogram(np.ones(1), 8000).shape[1] == 1
    with pytest.raises(ValueError, match="1 or more"):
        plotting.spectrogram(np.zeros(0), 8000)
    ax = new_axes()
    plotting.draw_spectrogram(ax, np.ones(4000), 8000)
    assert ax.images[0].get_extent() == [0, 0.5, 0, 4]
    assert saved(ax.figure)


def boxes_overlap(boxes) -> bool:
    return any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


@given(st.floats(8, 60), st.integers(1, 4))
def test_a_sequence_has_a_box_per_token_and_a_number_per_group(width, block_size):
    groups = assign_groups(torch.tensor(KINDS), block_size).tolist()
    ax = new_axes()
    plotting.draw_sequence(ax, IDS, KINDS, groups, NAMES.get, width)
    assert len(ax.patches) == len(IDS) and not boxes_overlap([patch.get_bbox() for patch in ax.patches])
    looks = ["control", "text", "source", "source", "source", "control"]
    looks += ["target", "target", "target", "mask", "text"]
    for patch, look, token in zip(ax.patches, looks, IDS, strict=True):
        assert patch.get_edgecolor()[:3] == colors.to_rgb(plotting.COLOURS[look])
        face = (1, 1, 1) if NAMES[token] == "EOA" else patch.get_edgecolor()[:3]
        assert patch.get_facecolor()[:3] == face
    said = [text.get_text() for text in ax.texts]
    assert [word for word in said if word in ("BOS", "two", "OPEN", "?")] == [
        "BOS",
        "two",
        "OPEN",
        "?",
        "two",
    ]
    assert [int(word) for word in said if word.isdigit()] == sorted(set(groups))
    assert max(patch.get_bbox().x1 for patch in ax.patches) <= width
    for number in [text for text in ax.texts if text.get_text().isdigit()]:
        last_line = [
            patch.get_bbox()
            for patch, group in zip(ax.patches, groups, strict=True)
            if str(group) == number.get_text() and 0 < number.get_position()[1] - patch.get_y() < 1.7
        ]
        middle = (last_line[0].x0 + last_line[-1].x1) / 2
        assert number.get_position()[0] == pytest.approx(middle)


def steps_of_two_blocks() -> list[DenoisingStep]:
    return [
        DenoisingStep(0, 0, 0, 0, (9, 5), (1,), (2.0, 1.0)),
        DenoisingStep(0, 0, 0, 1, (6, 5), (0,), (0.5, 0.0)),
        DenoisingStep(0, 0, 1, 0, (7, 8), (0, 1), (1.5, 1.0)),
    ]


def test_unmasking_shows_every_slot_that_has_begun():
    ax = new_axes()
    plotting.draw_unmasking(ax, steps_of_two_blocks(), mask_id=9, end_audio=8, first_code=5)
    cells = [patch for patch in ax.patches if patch.get_fill()]
    frames = [patch for patch in ax.patches if not patch.get_fill()]
    assert len(cells) == 2 + 2 + 4 and len(frames) == 1 + 1 + 2
    assert [text.get_text() for text in ax.texts] == ["0", "1", "0", "1", "0", "2", "EOA"]
    masked = [p for p in cells if len(set(p.get_facecolor()[:3])) == 1]
    assert len(masked) == 1 and masked[0].get_facecolor()[0] == pytest.approx(
        0.35
    )  # the reply's highest entropy
    assert saved(ax.figure)


def test_unmasking_takes_one_span():
    with pytest.raises(ValueError, match="one span, not of 0"):
        plotting.draw_unmasking(new_axes(), [], 9)
    with pytest.raises(ValueError, match="one span, not of 2"):
        plotting.draw_unmasking(
            new_axes(), [*steps_of_two_blocks(), DenoisingStep(0, 1, 0, 0, (5,), (0,), (1.0,))], 9
        )


def test_curves_hold_every_line_of_the_log():
    lines = [
        {"step": s, "text": 3 / s, "audio": 4 / s, "gradient_norm": 1.0 + s, "tokens_per_s": 100.0 * s}
        for s in range(1, 201)
    ]
    for line in lines[99::100]:
        line |= {"held_out_text": 2.0 + line["step"], "held_out_audio": 3.0}
    figure = plotting.draw_curves(lines)
    text, audio, norm, speed = figure.axes
    raw, mean, held_out = text.lines
    assert raw.get_xydata().tolist() == [[s, 3 / s] for s in range(1, 201)]
    assert held_out.get_xydata().tolist() == [[100, 102.0], [200, 202.0]]
    assert mean.get_xydata()[0] == pytest.approx(
        [3, sum(3 / s for s in range(1, 6)) / 5]
    )  # 200 // 40 at a time
    assert audio.lines[2].get_ydata().tolist() == [3.0, 3.0]
    assert norm.lines[0].get_ydata()[-1] == 201 and norm.get_yscale() == "log"
    assert speed.lines[0].get_ydata()[-1] == 20_000 and math.isclose(speed.get_ylim()[0], 0)
    assert saved(figure)


def test_curves_of_one_line_and_of_none():
    assert saved(plotting.draw_curves([LINE]))
    with pytest.raises(ValueError, match="no lines"):
        plotting.draw_curves([])

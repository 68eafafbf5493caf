"""The instruments count what they say they count."""

import json
from dataclasses import asdict
from pathlib import Path

import compare
import density
import device_counts
import pytest

ROOT = Path(__file__).parent.parent

SPARSE = '''
def plain(a):
    """A docstring does not count,
    however long."""
    b = a + 1  # nor does a comment
    return b
'''
DENSE = """
def packed(a, b): x, y = (a + b, a - b) if a > b else (a * b, a / b); return [i for i in range(x) if i % y], {x: y}
"""


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_tokens_of_logical_lines(tmp_path):
    """def plain ( a ) : -> 6, b = a + 1 -> 5, return b -> 2."""
    [function] = density.functions_of(write(tmp_path, "sparse.py", SPARSE))
    assert (function.name, function.lines) == ("plain", 3)
    assert function.density == pytest.approx((6 + 5 + 2) / 3)


def test_wrapping_a_line_changes_nothing(tmp_path):
    wrapped = SPARSE.replace("b = a + 1", "b = (\n        a\n        + 1\n    )")
    plain = SPARSE.replace("b = a + 1", "b = (a + 1)")
    one = density.functions_of(write(tmp_path, "a.py", wrapped))[0].density
    other = density.functions_of(write(tmp_path, "b.py", plain))[0].density
    assert one == other


def test_short_functions_are_not_judged_and_rows_are_summed_up(tmp_path, capsys):
    write(tmp_path, "dense.py", DENSE)
    write(tmp_path, "sparse.py", SPARSE)
    made = density.main([str(tmp_path), "--worst", "5"])
    assert made["paths"][str(tmp_path)]["functions"] == 1
    assert "sparse.py" in capsys.readouterr().out


def test_the_package_is_measured():
    made = density.main(["--worst", "3"])
    [row] = made["paths"].values()
    assert row["functions"] > 300
    assert made["worst"][0]["density"] >= made["worst"][-1]["density"]


@pytest.mark.slow
def test_a_checkout_compared_with_itself():
    lines = compare.compare(ROOT, ROOT, pairs=2, size=2)
    assert [line["work"] for line in lines] == list(compare.WORKS)
    assert all(len(line["ratios"]) == 2 and line["low"] <= line["ratio"] <= line["high"] for line in lines)


def test_pairs_alternate_and_the_ratio_is_new_over_old(monkeypatch):
    asked = []

    def seconds_of(checkout, work, size):
        asked.append(checkout.name)
        return 3.0 if checkout.name == "new" else 2.0

    monkeypatch.setattr(compare, "seconds_of", seconds_of)
    lines = compare.compare(Path("old"), Path("new"), pairs=3, size=1)
    assert asked[:6] == ["old", "new", "new", "old", "old", "new"]
    assert [line["ratio"] for line in lines] == [1.5, 1.5, 1.5]
    assert (lines[0]["low"], lines[0]["high"]) == (1.5, 1.5)


def test_recorded_counts_are_those_of_today():
    """Fails when a change adds a wait of the host for the device, or takes one away without saying so."""
    recorded = json.loads(
        (ROOT / "benchmarks" / "figures" / "device_counts.json").read_text(encoding="utf-8")
    )
    corpus = device_counts.small_corpus()
    assert asdict(device_counts.training_step(corpus, "exact")) == recorded["training step"]["exact"]
    today = {name: asdict(counts) for name, counts in device_counts.decoding(corpus, 4).items()}
    assert today == recorded["decoding, 4 rows"]


@pytest.mark.parametrize("preset", device_counts.PRESETS)
def test_a_training_step_waits_once(preset):
    assert device_counts.training_step(device_counts.small_corpus(), preset).waits == 1


def test_decoding_waits_once_a_forward_for_all_rows():
    corpus = device_counts.small_corpus()
    for rows in (1, 3):
        for counts in device_counts.decoding(corpus, rows).values():
            assert counts.waits == 1


def test_types_count_unless_they_are_left_out(tmp_path):
    """The same function with and without types: equal without them, and the place is that in the file."""
    typed = "import math\n\n\ndef f(x: int, y: float = 1.0) -> float:\n    z: float = x * y\n    return z\n"
    plain = "def f(x, y=1.0):\n    z = x * y\n    return z\n"
    typed_file = write(tmp_path, "typed.py", typed)
    plain_file = write(tmp_path, "plain.py", plain)
    [bare] = density.functions_of(typed_file, bare=True)
    [reference] = density.functions_of(plain_file)
    [counted] = density.functions_of(typed_file)
    assert bare.density == reference.density < counted.density
    assert bare.line == counted.line == 4

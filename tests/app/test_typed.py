"""What people type reaches the talker in words it was taught, or is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minittt.app.cli import main
from minittt.app.typed import pieces, question, sentence, spelled_out
from minittt.errors import MinitttError
from minittt.settings import samples_folder
from minittt.talker import Talker
from minittt.world import lexicon

TAUGHT = Talker.load(samples_folder() / "talker.safetensors").words


@pytest.mark.parametrize(
    "typed",
    [
        "what is two plus three",
        "What is 2 plus 3?",
        "2+3",
        "2 + 3 = ?",
        "two plus three",
        "How much is 2 plus 3?",
        "what's two plus three",
        "Please tell me what is 2 + 3.",
        "what does two plus three make?",
        "TWO PLUS THREE EQUALS WHAT",
        "２＋３",
    ],
)
def test_a_sum_is_understood_however_it_is_typed(typed):
    assert question(typed, TAUGHT) == "what is two plus three"


@pytest.mark.parametrize(
    "typed, asked",
    [
        ("9-4", "what is nine minus four"),
        ("9 − 4", "what is nine minus four"),
        ("how much is 2 and 3?", "what is two plus three"),
        ("Please add two and three.", "what is two plus three"),
        ("what is the sum of 2 and 3", "what is two plus three"),
        ("add 4 to 5", "what is four plus five"),
        ("subtract 4 from 9", "what is nine minus four"),
        ("what is 2 to 3", "what is two to three"),  # no sum
        ("two and three", "two and three"),  # nothing is asked
        ("Count from 3 to 8!", "count from three to eight"),
        ("count up to... no", None),
        ("count 3 to 8", "count from three to eight"),
        ("repeat 7 2 9", "say seven two nine"),
        ("say seven two nine", "say seven two nine"),
        ("hello", "hello"),
    ],
)
def test_other_questions(typed, asked):
    if asked is None:
        with pytest.raises(MinitttError, match="does not know"):
            question(typed, TAUGHT)
    else:
        assert question(typed, TAUGHT) == asked


@given(st.sampled_from(lexicon.SUMS))
def test_every_sum_is_found_in_digits_and_in_words(fact):
    a, operator, b = fact
    sign = "+" if operator == "plus" else "-"
    for typed in (f"{a}{sign}{b}", f"{a} {operator} {b}", *lexicon.ways_to_ask(*fact)):
        assert question(typed, TAUGHT) == lexicon.question(*fact)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text):
    for read in (question, sentence):
        try:
            words = read(text, TAUGHT).split()
        except MinitttError as error:
            words = ["hello"]
            message = str(error)
        else:
            message = ""
        assert words
        assert set(words) <= set(TAUGHT)
        assert "\n" not in message


def test_words_never_taught_are_named():
    with pytest.raises(MinitttError, match="does not know 'weather', 'today'"):
        question("what is the weather today, weather", TAUGHT)
    with pytest.raises(MinitttError, match="does not know 'times'"):
        sentence("two times three", TAUGHT)
    for elsewhere in (None, ["good", "morning"]):  # another world: nothing is known about how it reads
        assert sentence("Two times 3!", elsewhere) == "Two times 3!"
        assert question("2+3", elsewhere) == "2+3"
    for nothing in ("", "  ", "?!"):
        with pytest.raises(MinitttError, match="no words"):
            question(nothing, TAUGHT)


def test_numbers_have_an_end_and_a_hyphen_is_no_minus():
    assert spelled_out("0 20 twenty-three") == ["zero", "twenty", "twenty", "three"]
    with pytest.raises(MinitttError, match="21 is too large"):
        spelled_out("what is 21 plus 1")


@given(st.lists(st.sampled_from(lexicon.NUMBERS), min_size=1, max_size=40), st.integers(1, 7))
def test_a_long_text_is_cut_into_even_parts(words, longest):
    parts = pieces(" ".join(words), longest)
    assert " ".join(parts).split() == words
    lengths = [len(part.split()) for part in parts]
    assert max(lengths) <= longest
    assert max(lengths) - min(lengths) <= 1
    assert len(parts) == -(-len(words) // longest)


def test_the_command_line_takes_digits_and_refuses_what_was_never_taught(tmp_path, capsys):
    assert main(["talk", "2+3"]) == 0
    assert "two plus three equals five" in capsys.readouterr().out
    assert main(["talk", "what is love"]) == 2
    assert "does not know 'love'" in capsys.readouterr().err
    assert main(["speak", "love", "-o", str(tmp_path / "a.wav")]) == 2
    assert not list(tmp_path.iterdir())


def test_a_long_text_is_spoken_whole(tmp_path, capsys):
    import soundfile

    long = "one two three four five six seven eight nine ten eleven twelve"
    assert main(["speak", long, "-o", str(tmp_path / "long.wav")]) == 0
    assert main(["speak", "one two three four", "-o", str(tmp_path / "short.wav")]) == 0
    seconds = [soundfile.info(tmp_path / f"{name}.wav").duration for name in ("long", "short")]
    assert seconds[0] > 2 * seconds[1]
    assert "3 parts" in capsys.readouterr().out

"""Token files: the spoken world, one's own recordings, and what they are made of."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from minittt.codec import Codec, CodecConfig
from minittt.data import front_end
from minittt.data.corpus import load_corpus, mixed, save_corpus
from minittt.data.vocabulary import Vocabulary, train_tokeniser
from minittt.errors import MinitttError
from minittt.settings import samples_folder
from minittt.talker import Talker
from minittt.world import lexicon, spoken_world
from minittt.world.recordings import LONGEST_STRING, STRINGS, import_recordings, split_rows, strings_of
from tests.toy import toy_corpus

SAMPLES = samples_folder()

TINY = {"qa": 6, "asr": 3, "tts": 3, "caption": 4, "chat": 3, "document": 2}


BUILD = f"""
import sys
from minittt.codec import Codec
from minittt.world.spoken_world import build
build(sys.argv[2], Codec.load(sys.argv[1]), 0, {TINY}, {TINY})
"""


@pytest.fixture(scope="module")
def codec():
    return Codec(CodecConfig(n_filters=2, dimension=4, lstm_layers=0, codebook_size=8)).eval()


def test_no_two_roles_share_a_voice():
    sets = (lexicon.USER, lexicon.UNSEEN, lexicon.REPLY, lexicon.REFEREE)
    assert sum(map(len, sets)) == len(set().union(*sets))
    assert len(lexicon.REPLY) == 4
    assert len(lexicon.USER) >= 20


def test_a_drawn_world_keeps_its_promises():
    utterances, splits = spoken_world.draw_records(0, {k: 40 for k in TINY}, {k: 20 for k in TINY})
    held_sums, held_counts = spoken_world.hold_out(0)
    held = {lexicon.question(*s) for s in held_sums} | {lexicon.count_request(*c) for c in held_counts}

    def asked(split):
        return [u for r in splits[split] for role, *parts in r["messages"] if role == "user" for u in parts]

    for split in ("train", "renditions", "voices"):
        spoken = {utterances[u]["text"] if isinstance(u, int) else u for u in asked(split)}
        assert not spoken & held
    assert {utterances[u]["voice"] for u in asked("voices") if isinstance(u, int)} <= {
        *lexicon.UNSEEN,
        *spoken_world.synthesis.SOUNDS,
    }
    facts = {utterances[u]["text"] for u in asked("facts")}
    assert all(text in held or text.startswith("say ") for text in facts)
    replies = [
        u
        for r in splits["train"]
        for role, *parts in r["messages"]
        if role != "user"
        for u in parts
        if isinstance(u, int)
    ]
    assert {utterances[u]["voice"] for u in replies} == set(lexicon.REPLY)
    for record in splits["train"]:  # one reply, one voice
        said = {
            utterances[u]["voice"]
            for role, *parts in record["messages"]
            if role != "user"
            for u in parts
            if isinstance(u, int)
        }
        assert len(said) <= 1
    assert any(sum(isinstance(p, int) for p in r["messages"][-1]) >= 2 for r in splits["train"])
    assert any(len(r["messages"]) > 3 for r in splits["train"])


def test_training_alone_hears_disguised_voices():
    utterances, splits = spoken_world.draw_records(0, {k: 40 for k in TINY}, {k: 20 for k in TINY})

    def disguised(split: str, role: str) -> list[bool]:
        parts = [
            p for r in splits[split] for who, *parts in r["messages"] if (who == "user") == (role == "user")
            for p in parts
        ]  # fmt: skip
        return [bool(utterances[p].get("disguise")) for p in parts if isinstance(p, int)]

    assert 0.25 < sum(disguised("train", "user")) / len(disguised("train", "user")) < 0.65
    assert not any(disguised("train", "assistant"))
    for split in ("renditions", "voices", "facts"):
        assert not any(disguised(split, "user"))


@given(seed=st.integers(0, 2**31 - 1))
def test_a_disguise_moves_all_frequencies_by_one_factor_and_bends_the_spectrum(seed):
    from minittt.world import synthesis

    time = np.arange(8000) / 8000
    wave = sum(np.sin(2 * np.pi * f * time) for f in (300, 600, 1200)).astype(np.float32)
    bent = synthesis.disguise(wave, np.random.default_rng(seed))
    factor = len(bent) / len(wave)
    assert 0.899 < factor < 1.101
    spectrum = np.abs(np.fft.rfft(bent))
    peaks = [round(f / factor * len(bent) / 8000) for f in (300, 600, 1200)]  # bins where the tones should be
    heights = [spectrum[p - 3 : p + 4].max() for p in peaks]
    assert min(heights) > 10 * np.median(spectrum)
    assert max(heights) / min(heights) < 10 ** (16 / 20) * 1.5
    assert np.abs(bent).max() == pytest.approx(0.7, abs=1e-3) and bent.dtype == np.float32
    assert np.array_equal(bent, synthesis.disguise(wave, np.random.default_rng(seed)))


def test_equations_are_true():
    number = {word: i for i, word in enumerate(lexicon.NUMBERS)}
    for a, operator, b in lexicon.SUMS:
        left, _, right = lexicon.equation(a, operator, b).partition(" equals ")
        x, _, y = left.split()
        assert number[right] == (number[x] + number[y] if operator == "plus" else number[x] - number[y])
    assert lexicon.count_reply(3, 9) == ["three four five", "six seven eight", "nine"]


def test_a_built_corpus_reads_back(tmp_path, codec):
    pytest.importorskip("espeakng_loader")
    codec.save(tmp_path / "codec.safetensors")
    # each build in a process of its own: espeak-ng keeps a little state from one utterance to the next
    for out in (tmp_path / "once", tmp_path / "again"):
        subprocess.run(
            [sys.executable, "-c", BUILD, tmp_path / "codec.safetensors", out],
            check=True,
            capture_output=True,
        )
    corpus = load_corpus(tmp_path / "once")
    assert np.allclose(corpus.codebooks, codec.codebooks(), atol=1e-2)
    assert {name: len(records) for name, records in corpus.splits.items()} == {
        "train": 29, "renditions": 21, "voices": 21, "facts": 6
    }  # fmt: skip
    assert corpus.info["codec"] == codec.fingerprint()
    assert all(len(corpus.audio(i)) for i in range(len(corpus.utterances)))
    for file in ("train.jsonl.gz", "utterances.jsonl.gz", "corpus.json", "tokeniser.model"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "once" / file).read_bytes()
    assert np.array_equal(load_corpus(tmp_path / "again").codes, corpus.codes)


def recordings(folder, rows, header="file_name,transcript,speaker,reply"):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(len(rows)):
        soundfile.write(folder / f"{i}.wav", 0.3 * rng.normal(size=3000 + 500 * i), 16000)
    lines = [f"{i}.wav,{row}" for i, row in enumerate(rows)]
    (folder / "metadata.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder


def test_own_recordings_become_the_same_token_files(tmp_path, codec):
    rows = [f"word {i},speaker{i % 4},{'word 0' if i % 2 else ''}" for i in range(12)]
    import_recordings(recordings(tmp_path / "wavs", rows), tmp_path / "corpus", codec)
    corpus = load_corpus(tmp_path / "corpus")
    assert set(corpus.splits) == {"train", "renditions", "voices"}
    hidden = {
        corpus.utterances[r["messages"][1][1]]["voice"]
        for r in corpus.split("voices")
        if r["family"] == "asr"
    }
    seen = {
        corpus.utterances[r["messages"][1][1]]["voice"] for r in corpus.split("train") if r["family"] == "asr"
    }
    assert len(hidden) == 1
    assert not hidden & seen
    used = [r["messages"][1][1] for s in corpus.splits.values() for r in s if r["family"] == "asr"]
    assert sorted(used) == list(range(12))
    assert any(r["family"] == "qa" for r in corpus.split("train"))


def test_splits_hold_every_row_once():
    rows = [{"voice": random.Random(i).choice("abc")} for i in range(30)]
    splits = split_rows(rows)
    assert sorted(i for chosen in splits.values() for i in chosen) == list(range(30))
    assert "voices" not in split_rows([{"voice": ""}] * 5)


@pytest.mark.parametrize(
    "rows, header, what",
    [
        (["a", "b"], "name,text2", "file_name and transcript"),
        (["a"], "file_name,transcript", "two or more"),
        (["a", ""], "file_name,transcript", "line 3"),
    ],
)
def test_bad_metadata_is_named(tmp_path, codec, rows, header, what):
    folder = recordings(tmp_path / "wavs", rows, header)
    with pytest.raises(MinitttError, match=what):
        import_recordings(folder, tmp_path / "corpus", codec)
    assert not (tmp_path / "corpus").exists()


def test_a_missing_recording_leaves_nothing_behind(tmp_path, codec):
    folder = recordings(tmp_path / "wavs", ["one", "two", "three"], "file_name,transcript")
    (folder / "1.wav").unlink()
    with pytest.raises(MinitttError, match="line 3"):
        import_recordings(folder, tmp_path / "corpus", codec)
    assert not (tmp_path / "corpus").exists()


def test_a_folder_that_is_no_corpus_is_named(tmp_path):
    with pytest.raises(MinitttError, match="is not a corpus"):
        load_corpus(tmp_path)
    train_tokeniser(["one two"], tmp_path / "tokeniser.model")
    save_corpus(
        tmp_path,
        {"codec": "none", "codebook_size": 4, "n_codebooks": 1},
        [np.array([1, 2])],
        [{"text": "", "voice": ""}],
        {"train": []},
    )
    (tmp_path / "audio.npz").write_bytes(b"broken")
    with pytest.raises(MinitttError, match="damaged"):
        load_corpus(tmp_path)


def test_the_tokeniser_keeps_words_and_refuses_what_it_never_saw(tmp_path):
    tokeniser = train_tokeniser(["two plus three"] * 3, tmp_path / "t.model")
    assert tokeniser.decode(tokeniser.encode("Two PLUS three")) == "two plus three"
    with pytest.raises(MinitttError, match="never seen 'Ж'"):
        tokeniser.encode("two Ж")


def test_ids_lie_on_one_line():
    v = Vocabulary(10, 4, 2)
    ranges = [range(10), range(v.pad, v.end + 1), range(v.first_code, v.eoa), [v.eoa], [v.mask]]
    assert [i for r in ranges for i in r] == list(range(v.size))
    classes = v.classes()
    assert not (classes.text & classes.audio).any()
    for never in (v.pad, v.bos, v.user, v.assistant, v.mask, 0):
        assert not classes.text[never]
        assert not classes.audio[never]
    assert (
        json.dumps([v.name(v.open), v.name(v.first_code + 3), v.name(v.eoa), v.name(v.mask)])
        == '["OPEN", "#3", "EOA", "MASK"]'
    )


# ---- own recordings for a talker


def words_of_three(tmp_path, more=()):
    """Two words by each of ann (4 recordings), bob (3) and cy (5)."""
    rows = [f"word {i % 2},{who}," for who, n in (("ann", 4), ("bob", 3), ("cy", 5)) for i in range(n)]
    return recordings(tmp_path / "wavs", [*rows, *more])


def heard_by(corpus, split):
    return {
        corpus.utterances[r["messages"][1][1]]["voice"] for r in corpus.split(split) if r["family"] == "asr"
    }


def test_who_is_held_out_is_said_first_and_may_be_chosen(tmp_path, codec, capsys):
    folder = words_of_three(tmp_path)
    import_recordings(folder, tmp_path / "a", codec)
    assert heard_by(load_corpus(tmp_path / "a"), "voices") == {"bob"}  # the fewest recordings
    assert "held out: bob (3 recordings, the split voices)" in capsys.readouterr().out
    import_recordings(folder, tmp_path / "b", codec, hold_out=("ann", "cy"))
    corpus = load_corpus(tmp_path / "b")
    assert heard_by(corpus, "voices") == {"ann", "cy"}
    assert heard_by(corpus, "train") | heard_by(corpus, "renditions") == {"bob"}
    with pytest.raises(MinitttError, match="no recording is by dan; speakers are ann, bob, cy"):
        import_recordings(folder, tmp_path / "c", codec, hold_out=("dan",))
    with pytest.raises(MinitttError, match="hold out fewer speakers"):
        import_recordings(folder, tmp_path / "c", codec, hold_out=("ann", "bob", "cy"))
    assert not (tmp_path / "c").exists()


@given(st.integers(0, 1000), st.lists(st.integers(0, 5), min_size=4, max_size=30))
def test_equal_recordings_stay_on_one_side(seed, contents):
    rng = random.Random(seed)
    rows = [{"voice": rng.choice(["ann", "bob", "cy"])} for _ in contents]
    try:
        splits = split_rows(rows, seed, contents=[str(c) for c in contents])
    except MinitttError:
        return  # too few different recordings are left
    where = {}
    for name, chosen in splits.items():
        for i in chosen:
            assert where.setdefault(contents[i], name) == name
    assert sorted(i for chosen in splits.values() for i in chosen) == list(range(len(rows)))


def test_an_import_may_be_for_tests_alone(tmp_path, codec):
    import_recordings(words_of_three(tmp_path), tmp_path / "corpus", codec, test_only=True)
    corpus = load_corpus(tmp_path / "corpus")
    assert set(corpus.splits) == {"test"}
    assert len([r for r in corpus.split("test") if r["family"] == "asr"]) == 12


def test_copies_are_of_the_training_alone_and_listened_to_alone(tmp_path, codec):
    import_recordings(words_of_three(tmp_path), tmp_path / "plain", codec)
    import_recordings(words_of_three(tmp_path / "x"), tmp_path / "corpus", codec, copies=2)
    plain, corpus = load_corpus(tmp_path / "plain"), load_corpus(tmp_path / "corpus")
    n_trained = len([r for r in plain.split("train") if r["family"] == "asr"])
    assert len(corpus.utterances) == 12 + 2 * n_trained
    for name in ("renditions", "voices"):
        assert corpus.split(name) == plain.split(name)
    added = corpus.split("train")[len(plain.split("train")) :]
    assert {r["family"] for r in added} == {"asr"}
    assert len(added) == 2 * n_trained
    for record in added:
        assert record["messages"][1][1] >= 12
        said = corpus.utterances[record["messages"][1][1]]
        assert record["messages"][2][1] == said["text"]
    assert not any(part >= 12 for r in added for part in r["messages"][2][1:] if isinstance(part, int))


def test_single_words_of_a_speaker_are_joined_to_strings(tmp_path, codec):
    words = ["one", "two", "three", "two"]
    rows = [f"{word},{who}," for who in ("ann", "bob", "cy") for word in words]
    import_recordings(recordings(tmp_path / "wavs", rows), tmp_path / "corpus", codec, copies=1)
    corpus = load_corpus(tmp_path / "corpus")
    train = corpus.split("train")
    heard = [r["messages"][1][1] for r in train if r["family"] == "asr"]
    n_singles = len([number for number in heard if number < len(rows)])
    strings = [number for number in heard if number >= len(rows) + n_singles]
    assert len(strings) == STRINGS * n_singles
    by_text = {(u["voice"], u["text"]) for u in corpus.utterances[: len(rows)]}
    for number in strings:
        said = corpus.utterances[number]
        parts = said["text"].split()
        assert 2 <= len(parts) <= LONGEST_STRING
        assert all((said["voice"], part) in by_text for part in parts)
        assert len(corpus.audio(number)) > 0


@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), min_size=1, max_size=12),
)
def test_a_string_is_of_one_speaker_and_of_what_is_trained_on(seed, said):
    rows = [{"voice": voice, "text": text} for voice, text in said]
    chosen = [i for i in range(len(rows)) if i % 3]
    for string in strings_of(rows, chosen, seed):
        assert set(string) <= set(chosen)
        assert len({rows[i]["voice"] for i in string}) == 1
        assert 2 <= len(string) <= LONGEST_STRING


def test_recordings_for_a_talker_have_its_tokeniser_and_front_end(tmp_path, capsys):
    talker = Talker.load(SAMPLES / "talker.safetensors")
    codec = Codec.load(SAMPLES / "codec.safetensors")
    rows = ["two plus two,ann,", "two,ann,", "three,ann,"]
    import_recordings(recordings(tmp_path / "wavs", rows), tmp_path / "a", codec, like=talker)
    corpus = load_corpus(tmp_path / "a")
    assert corpus.tokeniser.fingerprint() == talker.tokeniser.fingerprint()
    assert corpus.info["front_end"] == front_end.NAME
    talker.info["front_end"] = front_end.NAME
    talker.check_corpus(corpus)
    capsys.readouterr()
    rows = ["čtyři plus dvě,ann,", "two,ann,", "three,ann,"]
    import_recordings(recordings(tmp_path / "others", rows), tmp_path / "b", codec, like=talker)
    assert "'č ě ř'" in capsys.readouterr().out
    extended = load_corpus(tmp_path / "b").tokeniser
    assert extended.decode(extended.encode("čtyři")) == "čtyři"


def test_two_corpora_are_mixed_and_each_record_keeps_what_it_says():
    own, other = toy_corpus(1), toy_corpus(2, n=8)
    both = mixed(own, other, 0.5)
    train = both.split("train")
    n_other = len(other.split("train"))
    assert train[-n_other:] != other.split("train")  # utterances have other numbers
    for record, original in zip(train[-n_other:], other.split("train"), strict=True):
        assert both.seed_of(record) == other.seed_of(original)  # made of the codes and words themselves
    for record, original in zip(train, own.split("train"), strict=False):
        assert both.seed_of(record) == own.seed_of(original)
    assert both.split("renditions") == own.split("renditions")
    n_own = len(train) - n_other
    assert n_own == n_other
    assert len(mixed(own, other, 0.75).split("train")) == 4 * n_other


def test_corpora_that_do_not_go_together_are_not_mixed():
    own, other = toy_corpus(1), toy_corpus(2)
    other.info["codec"] = "another"
    with pytest.raises(MinitttError, match="codec toy, the other of another"):
        mixed(own, other, 0.5)
    other = toy_corpus(2)
    other.info["front_end"] = "listen-1"
    assert mixed(own, other, 0.5)  # what passed no front end was clean
    own.info["front_end"] = "listen-2"
    with pytest.raises(MinitttError, match="listen-1 and listen-2"):
        mixed(own, other, 0.5)

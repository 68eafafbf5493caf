"""Files say what they are: equal content, equal bytes; damage is found; what does not belong together is refused."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import minittt
from minittt import codec, talker
from minittt.app.cli import SAMPLES
from minittt.codec import Codec, CodecConfig, CodecError, read_header, read_tensors, write_tensors
from minittt.data import corpus, headers
from minittt.data.corpus import load_corpus, save_corpus, words_taught
from minittt.data.vocabulary import TextTokeniser, Vocabulary, train_tokeniser, words_of
from minittt.errors import MinitttError
from minittt.evaluation import referee
from minittt.evaluation.evaluate import Evaluation
from minittt.evaluation.referee import Referee, RefereeConfig
from minittt.talker import Talker, decoding_settings
from minittt.training import checkpoints
from minittt.training.trainer import Trainer
from tests.toy import toy_corpus, toy_model
from tests.training.test_trainer import SETTINGS

OLD = Path(__file__).parents[1] / "golden" / "old_files"  # as they were written before headers said all this
KINDS = {
    "codec": (Codec, codec.FORMAT),
    "talker": (Talker, talker.FORMAT),
    "referee": (Referee, referee.FORMAT),
}
OURS = (MinitttError, CodecError)
TINY = "minittt thing 1"


def content_of(name: str, loaded) -> tuple:
    """All that a loaded file is, to be compared."""
    if name == "codec":
        return loaded.config, loaded.licence, loaded.state_dict()
    if name == "referee":
        networks = {
            **loaded.recogniser.state_dict(),
            **{f"j{n}": t for n, t in loaded.judge.state_dict().items()},
        }
        return loaded.config, loaded.info, networks
    return (
        loaded.model.config,
        loaded.vocabulary,
        loaded.info,
        loaded.tokeniser.content,
    ), loaded.model.state_dict()


def same(left: tuple, right: tuple) -> bool:
    """Whether two contents are equal, tensors bit for bit."""
    *about, tensors = left
    *other_about, other_tensors = right
    if about != other_about or tensors.keys() != other_tensors.keys():
        return False
    return all(torch.equal(tensors[name], other_tensors[name]) for name in tensors)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny files of `OLD`, written anew with all that a header has today."""
    made = tmp_path_factory.mktemp("new")
    for name, (kind, _) in KINDS.items():
        kind.load(OLD / f"{name}.safetensors").save(made / f"{name}.safetensors")
    return made


@pytest.fixture(scope="module")
def tiny_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("thing") / "thing"
    tensors = {"b": torch.arange(3.0).half(), "a": torch.arange(4).reshape(2, 2), "c": torch.ones(3).half()}
    write_tensors(path, tensors, {"format": TINY, "text": 'ä \x01 "quoted"'})
    return path.read_bytes()


def edited(path: Path, out: Path, **changes) -> Path:
    """A copy whose header has other fields, without a checksum; a field that becomes None is left out."""
    header = {**read_header(path), **changes}
    header.pop("checksum", None)
    save_file(load_file(path), out, {name: value for name, value in header.items() if value is not None})
    return out


# ---- one writer


WRITE = """
import sys
from minittt.codec import Codec
from minittt.evaluation.referee import Referee
from minittt.talker import Talker
for kind, name in ((Codec, "codec"), (Talker, "talker"), (Referee, "referee")):
    kind.load(f"{sys.argv[1]}/{name}.safetensors").save(f"{sys.argv[2]}/{name}.safetensors")
"""


def test_equal_content_gives_equal_bytes_in_two_processes(tmp_path, folder):
    again = subprocess.run(
        [sys.executable, "-c", WRITE, OLD, tmp_path], check=False, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    for name in KINDS:
        assert (tmp_path / f"{name}.safetensors").read_bytes() == (
            folder / f"{name}.safetensors"
        ).read_bytes()


@settings(max_examples=20)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=5), st.text(st.characters(codec="utf-8")), max_size=5
    ),
    st.dictionaries(
        st.text("abc.é", min_size=1, max_size=4), st.lists(st.integers(0, 255), max_size=9), max_size=4
    ),
)
def test_what_is_written_is_read_whatever_it_is(tmp_path_factory, header, rows):
    path = tmp_path_factory.mktemp("any") / "file"
    header = {**header, "format": TINY}
    tensors = {name: torch.tensor(row, dtype=torch.uint8) for name, row in rows.items()}
    write_tensors(path, tensors, header)
    found, read = read_tensors(path, TINY)
    assert found.pop("checksum") == read_header(path)["checksum"]
    assert found == {**header, "written_by": codec.WRITER}
    assert read.keys() == tensors.keys() and all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert load_file(path).keys() == tensors.keys()  # any reader of safetensors reads it
    size = int.from_bytes(path.read_bytes()[:8], "little")
    assert size % 8 == 0  # so that tensors lie aligned
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_file_names_the_version_of_the_package():
    assert f"minittt {minittt.__version__}" == codec.WRITER


# ---- one reader: damage


def test_any_byte_changed_is_refused_or_harmless(tmp_path, tiny_bytes):
    path = tmp_path / "thing"
    path.write_bytes(tiny_bytes)
    header, tensors = read_tensors(path, TINY)
    harmless = 0
    for position in range(len(tiny_bytes)):
        for change in (1, 0x20, 0x80):
            damaged = bytearray(tiny_bytes)
            damaged[position] ^= change
            path.write_bytes(damaged)
            try:
                found, read = read_tensors(path, TINY)
            except CodecError:
                continue
            harmless += 1
            assert all(found[name] == header[name] for name in ("format", "text", "written_by"))
            assert read.keys() == tensors.keys() and all(torch.equal(read[n], tensors[n]) for n in tensors)
    assert harmless < 40  # in the name of the field `checksum`, and blanks that fill the header up


@settings(max_examples=60)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_a_changed_byte_in_a_codec_talker_or_referee_is_refused_or_harmless(
    folder, tmp_path_factory, name, data
):
    kind, _ = KINDS[name]
    file = folder / f"{name}.safetensors"
    damaged = bytearray(file.read_bytes())
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("damaged") / "file"
    path.write_bytes(damaged)
    try:
        loaded = kind.load(path)
    except OURS:
        return
    assert same(content_of(name, loaded), content_of(name, kind.load(file)))


def test_a_file_cut_short_anywhere_is_refused(tmp_path, tiny_bytes):
    path = tmp_path / "thing"
    for length in range(len(tiny_bytes)):
        path.write_bytes(tiny_bytes[:length])
        with pytest.raises(CodecError, match="thing"):
            read_tensors(path, TINY)
    path.write_bytes(tiny_bytes + b"\0")
    with pytest.raises(CodecError, match="is damaged"):
        read_tensors(path, TINY)


@pytest.mark.parametrize("name", KINDS)
def test_a_header_longer_than_its_file_is_refused_before_it_is_read(tmp_path, name):
    kind, _ = KINDS[name]
    path = tmp_path / "long"
    path.write_bytes((90_000_000).to_bytes(8, "little") + b"{}")
    with pytest.raises(OURS, match="90000000 bytes, but the whole file has 10"):
        kind.load(path)


@pytest.mark.parametrize(
    "head", [b"[]", b"3", b"{", b"[" * 60_000, b'{"__metadata__": []}', b'{"__metadata__": {"format": 1}}']
)
def test_a_header_that_is_no_object_of_strings_is_refused(tmp_path, head):
    path = tmp_path / "odd"
    path.write_bytes(len(head).to_bytes(8, "little") + head)
    for read in (lambda: read_tensors(path, TINY), lambda: read_header(path)):
        with pytest.raises(CodecError, match="safetensors file"):
            read()


# ---- one reader: formats


@pytest.mark.parametrize("name", KINDS)
def test_another_or_a_newer_format_is_refused_by_name(folder, tmp_path, name):
    kind, known = KINDS[name]
    file = folder / f"{name}.safetensors"
    newer = known[:-1] + "2"
    with pytest.raises(OURS, match=f"a {name} of the newer format {newer!r}.*reads {known!r}: update"):
        kind.load(edited(file, tmp_path / "a", format=newer))
    with pytest.raises(OURS, match=f"not a {name} of format {known!r}; its header says None"):
        kind.load(edited(file, tmp_path / "a", format=None))
    for other, (_, stated) in KINDS.items():
        if other != name:
            with pytest.raises(OURS, match=f"not a {name} of format {known!r}; its header says {stated!r}"):
                kind.load(folder / f"{other}.safetensors")


def test_a_checkpoint_is_a_file_of_its_own_format(tmp_path, capsys):
    checkpoints.save(tmp_path, 3, {"model.a": torch.ones(2)}, {"settings": {"seed": 1}, "parts": 1}, keep=2)
    step, tensors, run = checkpoints.load(tmp_path)
    assert (step, run) == (3, {"settings": {"seed": 1}, "parts": 1})
    assert torch.equal(tensors["model.a"], torch.ones(2))
    [path] = checkpoints.states(tmp_path)
    for run, what in (
        (None, "has no field 'run'"),
        ("{", "field 'run' is not JSON"),
        ('{"step": 3}', "'settings' is missing"),
        ('{"step": "3", "settings": {}}', "'step' must be a whole number"),
    ):
        edited(path, path, run=run)
        with pytest.raises(MinitttError, match="no state to resume"):
            checkpoints.load(tmp_path)
        assert what in "".join(capsys.readouterr())


# ---- fields


@pytest.mark.parametrize("name", ["talker", "referee"])
@pytest.mark.parametrize("text", [None, "", "{", "[]", "null", "3", '{"words": 3}', '{"unknown_entry": 3}'])
def test_a_config_that_is_not_what_it_should_be_is_named(folder, tmp_path, name, text):
    kind, _ = KINDS[name]
    for field in ("model", "vocabulary") if name == "talker" else ("config",):
        with pytest.raises(MinitttError, match=f"field '{field}'") as caught:
            kind.load(edited(folder / f"{name}.safetensors", tmp_path / "a", **{field: text}))
        assert str(tmp_path / "a") in str(caught.value)


@pytest.mark.parametrize(
    "name, field", [("talker", "model"), ("talker", "vocabulary"), ("referee", "config")]
)
@pytest.mark.parametrize("value", [None, "two", -1, 0, 1.5, [], {}, True])
def test_a_size_of_another_kind_is_named(folder, tmp_path, name, field, value):
    kind, _ = KINDS[name]
    file = folder / f"{name}.safetensors"
    config = json.loads(read_header(file)[field])
    for entry, right in config.items():
        if (
            isinstance(right, int)
            and not isinstance(right, bool)
            and entry not in ("max_length", "sample_rate")
        ):
            if value == right and not isinstance(value, bool):
                continue
            changed = json.dumps({**config, entry: value})
            with pytest.raises(MinitttError, match=f"field '{field}'"):
                kind.load(edited(file, tmp_path / "a", **{field: changed}))


@pytest.mark.parametrize("field", headers.TALKER)
def test_a_wrong_or_missing_field_of_a_talker(folder, tmp_path, field):
    file = folder / "talker.safetensors"
    info = json.loads(read_header(file)["info"])
    wrong = 3 if headers.FIELDS[field].kind != "a whole number" else "three"
    with pytest.raises(MinitttError, match=f"field '{field}' must be {headers.FIELDS[field].kind}, not"):
        Talker.load(edited(file, tmp_path / "a", info=json.dumps({**info, field: wrong})))
    del info[field]
    path = edited(file, tmp_path / "a", info=json.dumps(info))
    if field == "codec":
        with pytest.raises(MinitttError, match="'codec' is missing"):
            Talker.load(path)
    else:
        assert field in Talker.load(path).info


@pytest.mark.parametrize("name", KINDS)
def test_unknown_fields_are_ignored(folder, tmp_path, name):
    kind, _ = KINDS[name]
    file = folder / f"{name}.safetensors"
    changes = {"mood": "good"}
    if name != "codec":
        changes["info"] = json.dumps({**json.loads(read_header(file)["info"]), "mood": ["good"]})
    loaded = kind.load(edited(file, tmp_path / "a", **changes))
    if name != "codec":
        assert loaded.info.pop("mood") == ["good"]
    assert same(content_of(name, loaded), content_of(name, kind.load(file)))


def test_a_talker_without_its_tokeniser_or_with_another_is_refused(folder, tmp_path):
    file = folder / "talker.safetensors"
    tensors = load_file(file)
    other = train_tokeniser(["three four five"] * 3, tmp_path / "other.model", 60)
    header = read_header(file)
    for row, what in (
        (None, "has no tokeniser"),
        (torch.ones(3), "has no tokeniser"),
        (torch.ones(30, dtype=torch.uint8), "not a SentencePiece model"),
        (torch.frombuffer(bytearray(other.content), dtype=torch.uint8), "field 'vocabulary' has"),
    ):
        changed = {name: tensor for name, tensor in tensors.items() if name != "tokeniser"}
        if row is not None:
            changed["tokeniser"] = row
        write_tensors(tmp_path / "a", changed, header)
        with pytest.raises(MinitttError, match=what):
            Talker.load(tmp_path / "a")


# ---- older files


def test_files_older_than_these_fields_load():
    old = Talker.load(OLD / "talker.safetensors")
    assert old.info["codec"] == Codec.load(OLD / "codec.safetensors").fingerprint() == "96d99dba"
    assert old.info["step"] == 7
    assert old.info["block_sizes"] == [1, 4, 8, 16]  # those of its preset
    assert old.info["tokeniser"] == old.tokeniser.fingerprint()
    assert old.words is None and old.info["licence"] is None and old.info["front_end"] is None
    assert Referee.load(OLD / "referee.safetensors").info == {"licence": None, "heard": None}
    assert Codec.load(OLD / "codec.safetensors").licence == "unknown"


@pytest.mark.parametrize("name", KINDS)
def test_an_older_file_written_anew_has_the_same_tensors(folder, name):
    old, new = load_file(OLD / f"{name}.safetensors"), load_file(folder / f"{name}.safetensors")
    assert old.keys() == new.keys()
    assert all(torch.equal(old[key], new[key].to(old[key].dtype)) for key in old)


# ---- corpora


INFO = {"codec": "40bfd677", "sample_rate": 8000, "frame_rate": 25.0, "codebook_size": 4, "n_codebooks": 1}


def write_corpus(folder: Path, text: str = "one two", **changes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    train_tokeniser([text, "Don't you see three!"], folder / "tokeniser.model", 60)
    messages = [["system", "speak"], ["user", "Don't you see three!"], ["assistant", text, 0]]
    record = {"family": "tts", "messages": messages}
    codes, spoken = [np.array([1, 2])], [{"text": "nine", "voice": ""}]
    save_corpus(folder, INFO | changes, codes, spoken, {"train": [record], "renditions": []})
    return folder


def test_a_corpus_says_what_it_is(tmp_path):
    folder = write_corpus(tmp_path)
    info = load_corpus(folder).info
    assert set(headers.CORPUS) == set(info) and None not in info.values()
    assert info["words"] == [
        "don't",
        "one",
        "see",
        "three",
        "two",
        "you",
    ]  # no instruction, nothing only spoken
    assert (info["licence"], info["front_end"]) == ("unknown", "none")
    assert info["written_by"] == codec.WRITER
    assert info["tokeniser"] == TextTokeniser(folder / "tokeniser.model").fingerprint()
    assert set(info["checksums"]) | {"corpus.json"} == {path.name for path in folder.iterdir()}
    assert headers.describe(folder / "corpus.json") == info


@settings(max_examples=40)
@given(st.data())
def test_a_changed_byte_in_a_corpus_is_refused(tmp_path_factory, data):
    folder = write_corpus(tmp_path_factory.mktemp("corpus"))
    name = data.draw(st.sampled_from(sorted(load_corpus(folder).info["checksums"])))
    content = bytearray((folder / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / name).write_bytes(content)
    with pytest.raises(MinitttError, match=f"damaged \\({name} is not"):
        load_corpus(folder)


def test_a_corpus_whose_fields_are_wrong_is_named(tmp_path):
    file = write_corpus(tmp_path) / "corpus.json"
    info = json.loads(file.read_text(encoding="utf-8"))
    for change, what in (
        ({"format": "minittt corpus 2"}, "format 'minittt corpus 2'; this version reads 'minittt corpus 1'"),
        ({"codec": None}, "'codec' is missing"),
        ({"codec": 4}, "'codec' must be a string, not 4"),
        ({"splits": ["train"]}, "'splits' must be an object"),
        ({"splits": {"train": "many"}}, "'splits' must be an object of whole numbers"),
        ({"words": "one two"}, "'words' must be a list of strings"),
        ({"checksums": {"../secret": "0"}}, "names '../secret', no file of a corpus"),
        ({"tokeniser": "abc", "checksums": None}, "but corpus.json names abc"),
    ):
        file.write_text(json.dumps({**info, **change}), encoding="utf-8")
        with pytest.raises(MinitttError, match=what):
            load_corpus(tmp_path)
    for text in ("{", "[]", "[" * 100_000):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(MinitttError, match="damaged"):
            load_corpus(tmp_path)


def test_a_corpus_older_than_these_fields_loads(tmp_path):
    file = write_corpus(tmp_path) / "corpus.json"
    new = load_corpus(tmp_path).info
    old = (*("codec", "sample_rate", "frame_rate", "codebook_size", "n_codebooks"), "splits", "utterances")
    file.write_text(json.dumps({name: new[name] for name in old}, indent=1) + "\n", encoding="utf-8")
    found = load_corpus(tmp_path).info
    assert (
        found["words"] == new["words"] and found["tokeniser"] == new["tokeniser"]
    )  # they follow from the content
    assert {found[name] for name in ("licence", "front_end", "format", "written_by")} == {None}
    (tmp_path / "audio.npz").write_bytes(b"broken")
    with pytest.raises(MinitttError, match="damaged"):
        load_corpus(tmp_path)


def test_words_are_told_from_punctuation():
    assert words_of("What's 2+2, Élan?  it’s") == ["what's", "2", "2", "élan", "it’s"]
    assert words_taught([{"messages": [["document", "b a", 1, "A"]]}]) == ["a", "b"]


# ---- what belongs together


def talker_of(made: corpus.Corpus) -> Talker:
    info = {"codec": made.info["codec"], "front_end": made.info["front_end"]}
    return Talker(toy_model(made.vocabulary), made.vocabulary, made.tokeniser, info)


def test_a_corpus_of_another_tokeniser_codec_or_front_end_is_refused_by_name(tmp_path):
    made = load_corpus(write_corpus(tmp_path / "a"))
    other = load_corpus(write_corpus(tmp_path / "b", "one four"))
    mine = talker_of(made)
    mine.check_corpus(made)
    names = f"tokeniser {made.tokeniser.fingerprint()} and the corpus {other.tokeniser.fingerprint()}"
    with pytest.raises(MinitttError, match=names):
        mine.check_corpus(other)
    for field, value, what in (
        ("codec", "0123abcd", "codec 40bfd677 and the corpus 0123abcd"),
        ("codebook_size", 8, "codes in a codebook 4 and the corpus 8"),
        ("n_codebooks", 2, "codebooks 1 and the corpus 2"),
        ("front_end", "denoise 1", "front end none and the corpus denoise 1"),
    ):
        with pytest.raises(MinitttError, match=what):
            mine.check_corpus(replace(made, info={**made.info, field: value}))
    mine.check_corpus(replace(made, info={**made.info, "front_end": None}))  # an older corpus does not say


def test_corpus_and_codec_must_belong_together(tmp_path):
    made = load_corpus(write_corpus(tmp_path))
    tiny = Codec(CodecConfig(n_filters=2, dimension=4, lstm_layers=0, codebook_size=8))
    with pytest.raises(MinitttError, match=f"codec 40bfd677, but the codec given is {tiny.fingerprint()}"):
        made.check_codec(tiny)


def test_a_referee_of_another_sample_rate_is_refused():
    tiny = Codec(CodecConfig(n_filters=2, dimension=4, lstm_layers=0, codebook_size=8, sample_rate=16000))
    with pytest.raises(MinitttError, match="hears 8000 Hz, but the codec given speaks at 16000 Hz"):
        Referee(RefereeConfig(width=2, voice_width=2)).check_codec(tiny)


def test_an_evaluation_refuses_what_does_not_belong_together():
    parts = (
        Talker.load(SAMPLES / "talker.safetensors"),
        load_corpus(SAMPLES / "corpus"),
        Codec.load(SAMPLES / "codec.safetensors"),
        Referee.load(SAMPLES / "referee.safetensors"),
    )
    mine, made, through, judge = parts
    Evaluation(*parts, "voices", decoding_settings())
    other = replace(made, tokeniser=Talker.load(OLD / "talker.safetensors").tokeniser)
    with pytest.raises(MinitttError, match=f"tokeniser {made.tokeniser.fingerprint()} and the corpus"):
        Evaluation(mine, other, through, judge, "voices", decoding_settings())
    judge.config = replace(judge.config, sample_rate=16000)
    with pytest.raises(MinitttError, match="this referee hears 16000 Hz"):
        Evaluation(*parts, "voices", decoding_settings())


def test_a_run_is_not_resumed_on_a_corpus_of_another_tokeniser(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "sample", lambda self: "")
    monkeypatch.setattr(Talker, "save", lambda self, path: None)
    made = toy_corpus(1)
    Trainer(made, tmp_path, SETTINGS).train(until=2)
    made.tokeniser.fingerprint = lambda: "other"
    with pytest.raises(MinitttError, match="tokeniser 'toy', not 'other'"):
        Trainer(made, tmp_path, SETTINGS, resume=True)


def test_a_trained_talker_says_what_it_was_trained_on(tmp_path):
    made = toy_corpus(1)
    made.info |= {"licence": "CC0-1.0", "front_end": "none"}
    found = Trainer(made, tmp_path, SETTINGS).talker().info
    assert set(headers.TALKER) - set(found) == {
        "confidence",
        "declines",
    }  # they come later, by `minittt calibrate`
    assert [name for name, value in found.items() if value is None] == ["started_from"]
    assert found["words"] == ["four", "one", "three", "two"]
    assert (found["licence"], found["front_end"]) == ("CC0-1.0", "none")
    assert found["block_sizes"] == [1, 4, 8, 16]
    assert Vocabulary(len(made.tokeniser), 5) == made.vocabulary


# ---- the shipped files


@pytest.mark.parametrize("name", KINDS)
def test_a_shipped_file_says_all_there_is_to_say(name):
    found = headers.describe(SAMPLES / f"{name}.safetensors")
    assert found["format"] == KINDS[name][1] and found["written_by"].startswith("minittt ")
    assert len(found["checksum"]) == 64
    info = found if name == "codec" else found["info"]
    assert info["licence"] == "MIT"
    if name == "codec":
        assert found["fingerprint"] == Codec.load(SAMPLES / "codec.safetensors").fingerprint() == "40bfd677"
    if name == "talker":
        later = {"confidence", "started_from", "declines"}
        assert set(headers.TALKER) - later <= set(info)
        assert None not in [value for name, value in info.items() if name not in later]
        made = load_corpus(SAMPLES / "corpus")
        assert info["words"] == made.words and {"two", "plus", "hello"} <= set(info["words"])
        assert info["tokeniser"] == made.info["tokeniser"] == made.tokeniser.fingerprint()
    if name == "referee":
        assert info["heard"] == ["formant"]


def test_the_shipped_corpus_says_all_there_is_to_say(tmp_path):
    shutil.copytree(SAMPLES / "corpus", tmp_path / "corpus")
    corpus.write_info(tmp_path / "corpus", load_corpus(SAMPLES / "corpus").info)
    written = (tmp_path / "corpus" / "corpus.json").read_text(encoding="utf-8")
    shipped = (SAMPLES / "corpus" / "corpus.json").read_text(encoding="utf-8")
    for version in (
        codec.WRITER,
        json.loads(shipped)["written_by"],
    ):  # the shipped one may be of an older version
        written, shipped = written.replace(version, ""), shipped.replace(version, "")
    assert written == shipped
    assert None not in json.loads(shipped).values()

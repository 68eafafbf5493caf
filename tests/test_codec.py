"""Laws of the codec: what holds for every configuration, trained or not."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from minittt import codec as module
from minittt.codec import (
    Codec,
    CodecConfig,
    CodecError,
    flatten,
    import_encodec,
    pretrained_encodec_24khz,
    read_audio,
    unflatten,
    write_audio,
)
from tests.test_lift import example_in_the_docstring, run_alone

SEEDS = st.integers(0, 2**31 - 1)
SOURCE = Path(module.__file__)


def tiny(seed: int = 0, **changes) -> Codec:
    """An untrained codec of a few hundred weights, in double precision."""
    torch.manual_seed(seed)
    shape = {
        "ratios": (3, 2),
        "n_filters": 2,
        "dimension": 4,
        "n_codebooks": 2,
        "codebook_size": 16,
    } | changes
    codec = Codec(CodecConfig(**shape)).double().eval()
    codec.quantizer.apply(spread)
    return codec


def spread(layer: torch.nn.Module) -> None:
    """Codebook entries as far apart as untrained latents are: else a few of them would name everything."""
    if hasattr(layer, "embed"):
        layer.embed.normal_(std=0.05)


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.3


def write_tone(
    path: Path, rate: int = 16000, seconds: float = 0.3, channels: int = 1, gain: float = 0.5, **how
):
    tone = gain * np.sin(2 * np.pi * 220 * np.arange(int(rate * seconds)) / rate)
    soundfile.write(path, np.tile(tone[:, None], (1, channels)), rate, **how)
    return path


CODES = st.tuples(st.integers(1, 5), st.integers(0, 7), st.integers(1, 9), SEEDS)  # K, T, codebook size, seed


def draw_codes(case) -> tuple[torch.Tensor, int]:
    K, T, size, seed = case
    return torch.randint(size, (K, T), generator=torch.Generator().manual_seed(seed)), size


# 1 to 4: codes and tokens


@given(CODES)
def test_law_01_unflatten_undoes_flatten(case):
    codes, size = draw_codes(case)
    tokens = flatten(codes, size)
    assert tokens.shape == (codes.numel(),)
    assert torch.equal(unflatten(tokens, len(codes), size), codes)
    assert torch.equal(flatten(unflatten(tokens, len(codes), size), size), tokens)


@given(CODES)
def test_law_02_tokens_come_frame_by_frame_and_codebooks_share_no_token(case):
    codes, size = draw_codes(case)
    tokens = flatten(codes, size).tolist()
    expected = []
    for t in range(codes.shape[1]):  # the rule, spelt out
        for k in range(len(codes)):
            expected.append(k * size + int(codes[k, t]))
    assert tokens == expected
    owned = [set(tokens[k :: len(codes)]) for k in range(len(codes))]
    assert all(ids <= set(range(k * size, (k + 1) * size)) for k, ids in enumerate(owned))
    assert len(set().union(*owned)) == sum(len(ids) for ids in owned)


@given(CODES, st.data())
def test_law_03_one_token_out_of_place_is_named(case, data):
    codes, size = draw_codes(case)
    tokens = flatten(codes, size)
    if len(tokens) == 0:
        return
    i = data.draw(st.integers(0, len(tokens) - 1))
    k = i % len(codes)
    outside = [v for v in range(-1, len(codes) * size + 1) if not k * size <= v < (k + 1) * size]
    tokens[i] = data.draw(st.sampled_from(outside))
    with pytest.raises(
        CodecError, match=rf"token {int(tokens[i])} at position {i} .* codebook {k} \({k * size}"
    ):
        unflatten(tokens, len(codes), size)


def test_law_04_counts_and_shapes_that_cannot_be_are_refused():
    with pytest.raises(CodecError, match="frames of 3"):
        unflatten(torch.arange(4), 3, 8)
    with pytest.raises(CodecError, match="one row"):
        unflatten(torch.zeros(2, 2, dtype=torch.long), 2, 8)
    for codes in (torch.tensor([[8]]), torch.tensor([[-1]]), torch.tensor([1])):
        with pytest.raises(CodecError, match=r"0\.\.7"):
            flatten(codes, 8)


# 5 to 9: waveform to codes and back


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(1, 200),
    st.integers(1, 3),
    st.booleans(),
    SEEDS,
)
def test_law_05_frames_are_the_ceiling_and_decoding_fills_them(ratios, samples, batch, causal, seed):
    codec = tiny(seed, ratios=tuple(ratios), causal=causal)
    hop = int(np.prod(ratios))
    frames = len(range(0, samples, hop))  # how many frames begin inside the wave
    codes = codec.encode(noise(seed, batch, samples))
    assert codec.hop == hop
    assert codec.frame_rate == 8000 / hop
    assert codes.shape == (batch, 2, frames)
    assert codes.dtype == torch.long
    assert codes.min() >= 0
    assert codes.max() < 16
    wave = codec.decode(codes)
    assert wave.shape == (batch, frames * hop)
    assert wave.is_floating_point()
    assert wave.isfinite().all()


@given(st.integers(1, 60), st.integers(2, 5), SEEDS)
def test_law_06_a_batch_is_its_rows_one_by_one(samples, batch, seed):
    codec, wave = tiny(seed), noise(seed, batch, samples)
    codes = codec.encode(wave)
    assert torch.equal(codes, torch.cat([codec.encode(row[None]) for row in wave]))
    decoded = torch.cat([codec.decode(row[None]) for row in codes])
    assert torch.allclose(codec.decode(codes), decoded, rtol=1e-12, atol=1e-14)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 4), SEEDS)
def test_law_07_many_waves_of_any_length_are_encoded_as_each_alone(lengths, batch_size, seed):
    codec = tiny(seed).float()
    waves = [noise(seed + i, n).float().numpy() for i, n in enumerate(lengths)]
    with patch.object(Codec, "encode", autospec=True, side_effect=Codec.encode) as encode:
        codes = codec.encode_many(waves, batch_size)
    assert all(call.args[1].shape[0] <= batch_size for call in encode.call_args_list)
    assert len(codes) == len(waves)
    for wave, code in zip(waves, codes, strict=True):
        alone = codec.encode(torch.from_numpy(wave)[None])[0]
        assert code.shape == alone.shape
        # Ties aside: where single precision picks another entry, both are equally near.
        assert (code != alone).float().mean() <= 0.05


@given(st.integers(1, 100), SEEDS)
def test_law_08_encoding_and_decoding_use_no_chance_and_change_nothing(samples, seed):
    codec, wave = tiny(seed), noise(seed, 1, samples)
    name, state = codec.fingerprint(), torch.random.get_rng_state()
    for training in (True, False):
        codec.train(training)
        codes = codec.encode(wave)
        decoded = codec.decode(codes)
        torch.manual_seed(seed + 1)
        assert torch.equal(codec.encode(wave), codes)
        assert torch.equal(codec.decode(codes), decoded)
    assert codec.fingerprint() == name
    torch.random.set_rng_state(state)
    codec.encode(wave)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not codes.is_inference()
    assert not decoded.requires_grad


@given(st.integers(1, 60), SEEDS)
def test_law_09_zeros_may_fill_the_last_frame_and_what_is_wrong_is_refused(samples, seed):
    codec, wave = tiny(seed), noise(seed, 1, samples)
    filled = torch.cat([wave, wave.new_zeros(1, -samples % codec.hop)], 1)
    assert torch.equal(codec.encode(wave), codec.encode(filled))
    for wrong in (wave[:, :0], wave[0], wave[None]):
        with pytest.raises(CodecError, match="shape"):
            codec.encode(wrong)
    codes = codec.encode(wave)
    for wrong, message in (
        (codes[:, :1], "shape"),
        (codes[..., :0], "shape"),
        (codes + 16, "0..15"),
        (codes - 16, "0..15"),
    ):
        with pytest.raises(CodecError, match=message):
            codec.decode(wrong)


@given(st.integers(1, 60), SEEDS)
def test_law_10_training_sees_what_encoding_and_decoding_do(samples, seed):
    codec, wave = tiny(seed), noise(seed, 2, samples)
    reconstruction, codes, commitment = codec(wave)
    assert torch.equal(codes, codec.encode(wave))
    assert torch.allclose(reconstruction, codec.decode(codes)[:, :samples], rtol=1e-12, atol=1e-14)
    codec.train()
    reconstruction, _, commitment = codec(wave)
    for loss in (reconstruction.square().mean(), commitment):  # each passes the quantiser into the encoder
        grads = torch.autograd.grad(
            loss, list(codec.encoder.parameters()), retain_graph=True, allow_unused=True
        )
        assert any(grad is not None and grad.abs().sum() > 0 for grad in grads)


# 11 to 13: files of codecs


@settings(max_examples=6)
@given(SEEDS, st.integers(1, 3), st.sampled_from([torch.float32, torch.float16]))
def test_law_11_a_saved_codec_comes_back_with_its_name(tmp_path_factory, seed, n_codebooks, dtype):
    path = tmp_path_factory.mktemp("codec") / "folder" / "codec.safetensors"
    codec = tiny(seed, n_codebooks=n_codebooks).float()
    codec.save(path, dtype)
    loaded = Codec.load(path)
    assert loaded.config == codec.config
    assert loaded.fingerprint() == codec.fingerprint()
    assert not loaded.training
    for name, value in codec.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.to(dtype).float())
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["config"])["n_codebooks"] == n_codebooks
    assert [p.name for p in path.parent.iterdir()] == ["codec.safetensors"]


@settings(max_examples=6)
@given(SEEDS)
def test_law_12_another_codec_has_another_name(seed):
    codec = tiny(seed)
    name = codec.fingerprint()
    assert re.fullmatch("[0-9a-f]{8}", name)
    assert tiny(seed).fingerprint() == name
    assert tiny(seed + 1).fingerprint() != name
    assert tiny(seed, sample_rate=16000).fingerprint() != name  # the same weights, heard at another rate
    with torch.no_grad():
        next(codec.decoder.parameters())[0] += 0.25
    assert codec.fingerprint() == name  # the same tokens, another sound
    with torch.no_grad():
        next(codec.encoder.parameters())[0] += 0.25
    assert codec.fingerprint() != name


def test_law_13_a_file_that_is_no_codec_is_refused_and_says_why(tmp_path):
    def refused(message, path=tmp_path / "codec.safetensors"):
        with pytest.raises(CodecError, match=message):
            Codec.load(path)

    refused("there is no such codec")
    refused("there is no such codec", tmp_path)
    path = tmp_path / "codec.safetensors"
    for content in (b"", b"RIFF and no more", bytes(100)):
        path.write_bytes(content)
        refused("not a codec, nor any safetensors")
    save_file({"x": torch.zeros(1)}, path)
    refused("not a codec of format .*says None")
    save_file({"x": torch.zeros(1)}, path, metadata={"format": module.FORMAT})
    refused("has no field 'config'")
    for config, message in (
        ("[]", "field 'config' is a list, not"),
        ("{", "field 'config' is not JSON"),
        ("[" * 100_000, "field 'config' is not JSON"),
        ('{"ratios": []}', "do not fit .* 'config'"),
        ('{"ratios": 2}', "do not fit .* 'config'"),
        ('{"lstm_layers": "two"}', "do not fit .* 'config'"),
        ('{"wings": 2}', "do not fit .* 'config'"),
        ('{"ratios": [3, 2], "n_filters": 2}', "do not fit .* 'config'"),
    ):
        save_file({"x": torch.zeros(1)}, path, metadata={"format": module.FORMAT, "config": config})
        refused(message)
    codec = tiny()
    codec.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])  # a copy that broke off
    refused("is damaged")


# 14 to 17: recordings


@given(
    rate=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 96000]),
    target=st.sampled_from([8000, 16000, 24000]),
    channels=st.integers(1, 3),
    how=st.sampled_from(
        [
            ("wav", "PCM_16"),
            ("wav", "PCM_U8"),
            ("wav", "FLOAT"),
            ("wav", "DOUBLE"),
            ("flac", "PCM_24"),
            ("flac", "PCM_16"),
        ]
    ),
    seconds=st.floats(0.1, 0.5),
)
def test_law_14_any_rate_channel_count_and_format_is_read(
    tmp_path_factory, rate, target, channels, how, seconds
):
    path = tmp_path_factory.mktemp("audio") / f"tone.{how[0]}"
    wave = read_audio(write_tone(path, rate, seconds, channels, subtype=how[1]), target)
    assert wave.ndim == 1
    assert wave.dtype == np.float32
    assert abs(len(wave) - int(rate * seconds) * target / rate) <= 1  # far within one frame
    inner = wave[len(wave) // 4 : -len(wave) // 4]
    assert abs(np.abs(inner).max() - 0.5) < 0.03  # the level is kept, and
    t = np.arange(len(wave)) / target
    correlation = np.corrcoef(wave, np.sin(2 * np.pi * 220 * t))[0, 1]
    assert correlation > 0.99  # the pitch too


@given(SEEDS, st.integers(1, 3000), st.sampled_from(["wav", "flac"]))
def test_law_15_what_is_written_is_read_back(tmp_path_factory, seed, samples, suffix):
    path = tmp_path_factory.mktemp("audio") / "new" / f"wave.{suffix}"
    wave = np.random.default_rng(seed).uniform(-1.3, 1.3, samples)
    wave[0] = 0.9
    write_audio(path, torch.from_numpy(wave), 8000)
    assert np.abs(read_audio(path, 8000) - np.clip(wave, -1, 1)).max() <= 1 / 32767
    assert soundfile.info(path).samplerate == 8000
    assert soundfile.info(path).subtype == "PCM_16"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_law_16_channels_are_averaged_and_loud_files_are_scaled(tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.array([[0.5, 0.1], [-0.2, 0.4], [0.0, -0.6]]), 8000, subtype="FLOAT")
    assert np.allclose(read_audio(path, 8000), [0.3, 0.1, -0.3], atol=1e-6)
    soundfile.write(path, np.array([0.5, -2.0, 1.0]), 8000, subtype="FLOAT")
    assert np.allclose(read_audio(path, 8000), [0.25, -1.0, 0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        ("folder", "there is no such file"),
        (b"", "is empty"),
        (b"just some text, no sound at all", "not a readable recording"),
        (np.zeros(0), "is empty"),
        (np.zeros(800), "is silent"),
        (np.full(800, 4e-4), "is silent"),
        (np.array([0.1, np.nan, 0.2]), "no numbers"),
        (np.array([0.1, np.inf, 0.2]), "no numbers"),
    ],
)
def test_law_17_a_recording_without_sound_is_refused_and_says_why(tmp_path, content, message):
    path = tmp_path / "question.wav"
    if isinstance(content, np.ndarray):
        soundfile.write(path, content, 8000, subtype="FLOAT")
    elif content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(CodecError, match=message) as caught:
        read_audio(path, 8000)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_law_17_a_file_cut_short_or_of_raw_samples_is_no_crash(tmp_path):
    whole = write_tone(tmp_path / "tone.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "tone.raw").write_bytes(bytes(range(200)))
    with pytest.raises(CodecError, match="not a readable recording"):
        read_audio(tmp_path / "tone.raw", 8000)
    try:  # what there is may be used, or refused, but in no other way
        assert len(read_audio(tmp_path / "cut.flac", 8000)) > 0
    except CodecError as error:
        message = str(error)
        assert "not a readable recording" in message or "is cut off" in message


def test_law_18_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    for wave in (np.zeros(0), np.zeros((2, 3)), np.array([0.0, np.nan])):
        with pytest.raises(CodecError, match="one row of finite samples"):
            write_audio(tmp_path / "a.wav", wave, 8000)
    for name in ("a.xyz", "a"):
        with pytest.raises(CodecError, match=r"ends in \.wav, \.flac or \.ogg"):
            write_audio(tmp_path / name, np.ones(9), 8000)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(CodecError, match="cannot be written"):
        write_audio(tmp_path / "file" / "a.wav", np.ones(9), 8000)
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(CodecError, match="cannot be written"):
        write_audio(tmp_path / "a.wav", np.ones(9), 8000)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "file"]


def test_law_18_an_interrupted_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "codec.safetensors"
    tiny(0).save(path)
    old = path.read_bytes()

    def interrupted(_tensors, unfinished, metadata):
        Path(unfinished).write_bytes(b"half a file")
        raise KeyboardInterrupt

    with patch.object(module, "save_file", interrupted), pytest.raises(KeyboardInterrupt):
        tiny(1).save(path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


# 19 to 21: where it comes from


def test_law_19_torchaudio_is_not_needed(tmp_path):
    """A torchaudio that fails half-way, as the one built for another torch does."""
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "part.py").write_text("", encoding="utf-8")
    (tmp_path / "torchaudio" / "__init__.py").write_text(
        "import torchaudio.part\nraise OSError('libc10_cuda.so: cannot open shared object file')",
        encoding="utf-8",
    )
    program = (
        "import sys, torch\nfrom minittt.codec import Codec, CodecConfig\n"
        "assert 'encodec' not in sys.modules, 'encodec is imported only when a codec is made'\n"
        "codec = Codec(CodecConfig(n_filters=2, dimension=2)).eval()\n"
        "assert codec.decode(codec.encode(torch.ones(1, 400))).shape == (1, 640)\n"
        "assert not [name for name in sys.modules if name.startswith('torchaudio')]\n"
        "print('spoke')"
    )
    path = os.pathsep.join([str(tmp_path), str(SOURCE.parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "spoke", done.stderr


def test_law_19_nor_is_a_missing_torchaudio_needed():
    with patch.dict(sys.modules):
        for name in [name for name in sys.modules if name.split(".")[0] in ("encodec", "torchaudio")]:
            del sys.modules[name]
        with patch.dict(sys.modules, {"torchaudio": None}):  # Python's way to say: not installed
            assert hasattr(import_encodec(), "EncodecModel")
            assert sys.modules["torchaudio"] is None  # barred by the program, it stays so


def test_law_19_without_encodec_it_says_what_to_install():
    with patch.dict(sys.modules, {"encodec": None}), pytest.raises(CodecError, match="pip install encodec"):
        import_encodec()


def test_law_20_metas_codec_is_the_same_class():
    torch.manual_seed(0)
    original = import_encodec().EncodecModel.encodec_model_24khz(pretrained=False)
    original.quantizer.apply(spread)
    original.set_target_bandwidth(1.5)
    codec = pretrained_encodec_24khz(1.5, weights=original.state_dict())
    assert codec.config.n_codebooks == 2
    assert (codec.hop, codec.frame_rate) == (320, 75)
    wave = noise(0, 2, 320 * 5).float()  # whole frames: encodec pads others layer by layer
    codes = codec.encode(wave)
    with torch.no_grad():
        [(theirs, _)] = original.encode(wave[:, None])
        assert torch.equal(codes, theirs)
        assert len(codes.unique()) > 2
        assert torch.equal(codec.decode(codes), original.decode([(theirs, None)])[:, 0])
    assert torch.equal(unflatten(flatten(codes[0], 1024), 2, 1024), codes[0])


def test_law_20_metas_codec_without_a_network_or_of_another_bandwidth_is_refused():
    with pytest.raises(CodecError, match="not 2.0"):
        pretrained_encodec_24khz(2.0)
    failing = patch("torch.hub.load_state_dict_from_url", side_effect=OSError("no route"))
    with failing, pytest.raises(CodecError, match="network"):
        pretrained_encodec_24khz()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sample_rate": 0}, "a codec's sample_rate must be a whole number of at least 1, not 0"),
        ({"sample_rate": 192_001}, "a codec's sample_rate must be at most 192000 Hz, not 192001"),
        ({"n_filters": 1}, "a codec's n_filters must be a whole number of at least 2, not 1"),
        ({"n_filters": 4.0}, "a codec's n_filters must be a whole number of at least 2, not 4.0"),
        ({"dimension": 0}, "a codec's dimension must be a whole number of at least 1, not 0"),
        ({"lstm_layers": -1}, "a codec's lstm_layers must be a whole number of at least 0, not -1"),
        ({"lstm_layers": True}, "a codec's lstm_layers must be a whole number of at least 0, not True"),
        ({"n_codebooks": 0}, "a codec's n_codebooks must be a whole number of at least 1, not 0"),
        ({"codebook_size": "512"}, "a codec's codebook_size must be a whole number of at least 1, not '512'"),
        ({"ratios": ()}, "a codec must have at least one ratio"),
        ({"ratios": (2, 0)}, "each of a codec's ratios must be a whole number of at least 1, not 0"),
        ({"ratios": (2, 1.5)}, "each of a codec's ratios must be a whole number of at least 1, not 1.5"),
        ({"causal": 1}, "a codec's causal must be true or false, not 1"),
        ({"true_skip": None}, "a codec's true_skip must be true or false, not None"),
        ({"pad_mode": "replicate"}, "a codec's pad_mode must be 'constant' or 'reflect', not 'replicate'"),
    ],
)
def test_law_21_a_size_that_no_codec_has_is_refused_by_name(wrong, message):
    with pytest.raises(CodecError, match=message):
        CodecConfig(**wrong)


def test_law_21_the_smallest_codec_there_is():
    smallest = CodecConfig(
        sample_rate=1, ratios=(1,), n_filters=2, dimension=1, lstm_layers=0, n_codebooks=1, codebook_size=1
    )
    codec = Codec(smallest).eval()
    assert codec.decode(codec.encode(torch.zeros(1, 3))).shape == (1, 3)


def test_law_22_the_module_stands_alone_and_its_example_runs(tmp_path):
    source = SOURCE.read_text(encoding="utf-8")
    assert "minittt." not in re.sub(r'""".*?"""', "", source, flags=re.S).replace("minittt-codec", "")
    shutil.copy(SOURCE, tmp_path / "codec.py")
    done = run_alone(tmp_path, example_in_the_docstring(source))
    assert "25 frames a second" in done.stdout, done.stderr


@given(
    seed=SEEDS,
    samples=st.integers(1, 400),
    frames=st.integers(1, 30),
    lstm_layers=st.sampled_from([0, 1]),
    causal=st.booleans(),
)
@settings(max_examples=15)
def test_law_23_a_long_recording_in_pieces_has_the_codes_and_the_sound_of_the_whole(
    seed, samples, frames, lstm_layers, causal
):
    codec = tiny(seed, lstm_layers=lstm_layers, causal=causal)
    wave = noise(seed, 1, samples)
    seconds = frames / codec.frame_rate
    codes = codec.encode(wave)
    assert torch.equal(codec.encode_long(wave, seconds), codes)
    torch.testing.assert_close(codec.decode_long(codes, seconds), codec.decode(codes), rtol=1e-9, atol=1e-12)


def test_law_23_memory_of_pieces_does_not_grow_with_the_recording():
    """What the convolutions are given at once, in samples: never more than a piece and its overlap."""
    codec = tiny(0)
    given_at_once = []
    codec.encoder.model[0].register_forward_pre_hook(
        lambda _, inputs: given_at_once.append(inputs[0].shape[-1])
    )
    codec.encode_long(noise(0, 1, 6000), seconds=100 / codec.frame_rate)
    assert len(given_at_once) == 10
    assert max(given_at_once) <= (100 + 2 * codec._reach()) * codec.hop
    with pytest.raises(CodecError, match="longer than 0 seconds"):
        codec.encode_long(noise(0, 1, 60), seconds=0.0)

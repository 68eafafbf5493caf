"""The reply page: complete in itself, escaped, and its replay is the reply's events told again."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minittt.app import page
from minittt.app.page import Entry, PageSettings, write_page
from minittt.app.plotting import mask_palette, shade_mask
from minittt.app.replay import replay
from minittt.attention import SOURCE, TARGET, TEXT, assign_groups, group_mask
from minittt.codec import CodecError
from minittt.data.vocabulary import Vocabulary
from minittt.decoding import BlockClosed, DenoisingStep, Settings, TextToken, generate
from minittt.errors import MinitttError
from minittt.talker import Reply, Talker

RATE, HOP = 8000, 320
WORDS = ["<unk>", "▁two", "▁three", "▁<script>alert(1)</script>", "▁{{data}}"]
VOCABULARY = Vocabulary(len(WORDS), 6)
V = VOCABULARY


class Pieces:
    """What a page asks of a tokeniser."""

    def piece(self, token: int) -> str:
        return WORDS[token].replace("▁", " ")


class FakeTalker:
    vocabulary, info = V, {"codec": "0123abcd", "step": 7, "training": {"preset": "exact"}}
    tokeniser = Pieces()


class Noise:
    """A network of chance: each forward another; EOA likely enough for spans to end."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def step(self, commit, commit_groups, draft):
        logits = 2 * torch.randn(len(commit), 1 + draft.shape[1], V.size, generator=self.generator)
        logits[..., V.open] += 1.5
        return logits


def a_reply(seed: int, block_size=4, full_span=False, steps=2, max_text=8) -> Reply:
    """What `Talker.converse` returns for a network of chance: the same decoder, the same bookkeeping."""
    reply = Reply(prompt=[V.bos, V.user, V.open, V.first_code, V.first_code + 1, V.eoa, V.assistant])
    reply.kinds = [TEXT, TEXT, TEXT, SOURCE, SOURCE, SOURCE, TEXT]
    reply.groups = assign_groups(torch.tensor(reply.kinds), block_size).tolist()
    settings = Settings(block_size, full_span=full_span, steps=steps, max_text=max_text, max_span=12)
    talker = Talker(
        None, V, type("T", (), {"decode": lambda self, ids: " ".join(WORDS[i] for i in ids)})(), {}
    )
    generator = torch.Generator().manual_seed(seed)
    prompt, groups = [list(reply.prompt)], [list(reply.groups)]
    for event in generate(Noise(seed), prompt, groups, V.classes(), settings, [generator]):
        talker._note(reply, event)
        reply.events.append(event)
    return reply


def an_entry(reply: Reply, title="question.wav", seconds=0.4, **changed) -> Entry:
    tone = (0.5 * np.sin(np.arange(int(RATE * seconds)) * 0.2)).astype(np.float32)
    values = {"question_wave": tone, "question_text": None, "reply_wave": tone[: len(tone) // 2]}
    return Entry(
        **{
            "title": title,
            "reply": reply,
            "sample_rate": RATE,
            "coherence": None,
            "steps": 2,
            **values,
            **changed,
        }
    )


def written(path: Path, entries: list[Entry], settings: PageSettings | None = None) -> str:
    write_page(path, entries, FakeTalker(), settings)
    return path.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collects elements with their attributes, and the text that is neither script nor style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements, self.text, self.raw, self._in = [], "", {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._in = dict(attributes).get("id", tag) if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        if self._in:
            self.raw[self._in] = self.raw.get(self._in, "") + data
        else:
            self.text += data

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]

    def with_class(self, name: str) -> list[dict]:
        return [a for _, a in self.elements if name in (a.get("class") or "").split()]


def decoded(uri: str) -> bytes:
    return base64.b64decode(uri.split("base64,")[1])


# ---- the replay


@given(st.integers(0, 10**6), st.sampled_from([1, 3, 4, None]), st.booleans(), st.integers(1, 5))
def test_a_replay_has_a_frame_per_forward_and_ends_with_the_reply(seed, block_size, full_span, steps):
    reply = a_reply(seed, block_size, full_span, steps)
    items, frames = replay(reply, V.mask, str)
    assert len(frames) == reply.nfe
    placed = [item for item in items if item.position is not None]
    assert [item.id for item in placed] == reply.ids
    assert [item.group for item in placed] == reply.groups[len(reply.prompt) :]
    assert [item.kind for item in placed] == reply.kinds[len(reply.prompt) :]
    assert [item.position for item in placed] == list(range(len(reply.prompt), len(reply.groups)))
    assert all(
        item.id == V.eoa and full_or_whole(full_span, block_size) for item in items if item.position is None
    )
    groups = [item.group for item in items]
    assert groups == sorted(groups)
    json.dumps(frames)


def full_or_whole(full_span: bool, block_size: int | None) -> bool:
    return full_span or block_size is None


@given(st.integers(0, 10**6), st.sampled_from([3, 4, None]), st.booleans())
def test_played_forward_the_frames_give_every_state_of_the_decoder(seed, block_size, full_span):
    reply = a_reply(seed, block_size, full_span, steps=3)
    items, frames = replay(reply, V.mask, str)
    forwards = [event for event in reply.events if isinstance(event, TextToken | DenoisingStep)]
    state: dict[int, int] = {}
    for frame, event in zip(frames, forwards, strict=True):
        where = range(frame["at"], frame["at"] + frame["n"])
        if isinstance(event, TextToken):
            state[frame["at"]] = items[frame["at"]].id
            assert state[frame["at"]] == event.id and frame["n"] == 1 and str(event.id) in frame["say"]
            continue
        for i in where:
            state.setdefault(i, V.mask)
        for slot, token in zip(frame["revealed"], frame["drawn"], strict=True):
            state[where[slot]] = token
        assert [state[i] for i in where] == list(event.ids)
        if frame.get("closed"):
            assert V.mask not in event.ids
            state |= {i: items[i].id for i in where}
    assert sorted(state) == list(range(len(items)))
    closed = [event for event in reply.events if isinstance(event, BlockClosed)]
    assert sum(bool(frame.get("closed")) for frame in frames) == len(closed)
    shown = [frame["say"] for frame in frames if frame.get("closed")]
    assert [("overwritten" in say, "by force" in say) for say in shown] == [
        (event.changed > 0, event.forced) for event in closed
    ]
    entropies = [value for frame in frames for value in frame.get("entropy", [])]
    assert not entropies or (min(entropies) >= 0 and max(entropies) == 100)


def test_events_that_are_not_of_this_reply_are_refused():
    reply = a_reply(1)
    reply.ids[0] ^= 1
    with pytest.raises(MinitttError, match="do not add up"):
        replay(reply, V.mask, str)


# ---- the file


def test_the_page_is_complete_in_itself(tmp_path):
    text = written(
        tmp_path / "p.html", [an_entry(a_reply(3)), an_entry(a_reply(4), "other.wav", coherence=0.5)]
    )
    read = Reader(text)
    assert not re.search(r"https?:|//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+|// [^\n]*", "", text))
    assert not read.of("link") and "@import" not in text and "url(" not in text and "fetch(" not in text
    for _, attributes in read.elements:
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            assert attributes.get(name, "data:").startswith("data:")
    policy = next(a["content"] for a in read.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "http" not in policy
    assert "{{" not in re.sub(re.escape(WORDS[4][1:]), "", text)


def test_players_play_the_waves_and_pictures_have_their_sizes(tmp_path):
    entry = an_entry(a_reply(3))
    read = Reader(written(tmp_path / "p.html", [entry]))
    for audio, wave in zip(read.of("audio"), (entry.question_wave, entry.reply_wave), strict=True):
        samples, rate = soundfile.read(io.BytesIO(decoded(audio["src"])))
        assert rate == RATE and np.abs(samples - wave).max() < 1e-4
        assert audio["aria-label"] in ("question", "answer")
    *spectrograms, mask = [Image.open(io.BytesIO(decoded(image["src"]))) for image in read.of("img")]
    assert len(spectrograms) == 2 and all(image["alt"] for image in read.of("img"))
    L = len(entry.reply.groups)
    shades = shade_mask(
        group_mask(torch.tensor([entry.reply.groups]))[0], entry.reply.kinds, entry.reply.groups
    )
    expected = np.round(255 * mask_palette()[shades])  # (L, L, 4)
    scale = mask.size[0] // L
    assert mask.size == (scale * L, scale * L) and mask.size[0] >= page.MASK_PIXELS
    pixels = np.asarray(mask.convert("RGBA")).reshape(L, scale, L, scale, 4)
    as_expected = (pixels == expected[:, None, :, None]).all(-1)  # (L, scale, L, scale)
    is_clear = pixels[..., 3] == 0
    heard = np.isin(shades, (1 + 2 * SOURCE, 2 + 2 * SOURCE))[:, None, :, None] & np.ones_like(as_expected)
    # what is not audio heard is as it is in `plotting.draw_mask`; over audio heard lie stripes of nothing
    assert as_expected[~heard].all()
    assert (as_expected | is_clear)[heard].all()
    for shade in (1 + 2 * SOURCE, 2 + 2 * SOURCE):  # of an earlier group, of the own one
        striped = as_expected.transpose(0, 2, 1, 3)[shades == shade]  # (cells, scale, scale)
        assert 0.6 < striped.mean() < 0.8


@given(st.integers(0, 10**6), st.booleans())
def test_the_sequence_is_written_out_group_by_group(tmp_path_factory, seed, full_span):
    reply = a_reply(seed, full_span=full_span)
    read = Reader(written(tmp_path_factory.mktemp("page") / "p.html", [an_entry(reply)]))
    tokens = [a for a in read.with_class("tok") if a.get("data-i")]
    assert [int(a["data-i"]) for a in tokens] == list(range(len(reply.groups)))
    looks = {TEXT: {"text", "control"}, SOURCE: {"source"}, TARGET: {"target"}}
    for a, kind, group, token in zip(
        tokens, reply.kinds, reply.groups, reply.prompt + reply.ids, strict=True
    ):
        assert looks[kind] & set(a["class"].split()) and a["title"].endswith(f"group {group}")
        assert ("eoa" in a["class"].split()) == (token == V.eoa)
        assert f"code {token - V.first_code}," in a["title"] or not V.first_code <= token < V.eoa
    assert len(read.with_class("group")) == len(list(groupby(reply.groups)))


def test_what_is_written_stays_text(tmp_path):
    reply = a_reply(3)
    reply.text = "<script>alert('said')</script> & {{data}}"
    nasty = "</script><img src=x onerror=alert(1)>{{made}}"
    settings = PageSettings(heading=nasty, talker=nasty, seed=3, command=f"minittt talk '{nasty}' --seed 3")
    entry = an_entry(reply, title=nasty, question_wave=None, question_text=nasty)
    calm = Reader(
        written(tmp_path / "calm.html", [an_entry(a_reply(3), question_wave=None, question_text="two")])
    )
    read = Reader(written(tmp_path / "p.html", [entry], settings))
    assert [tag for tag, _ in read.elements if tag != "div"].count("script") == calm.elements.count(
        ("script", {})
    ) + 1
    assert len(read.of("img")) == len(calm.of("img"))
    assert read.text.count(nasty) == 6  # title, heading, talker, command, entry and question
    assert reply.text in read.text and "0123abcd" in read.text and "exact, 7 steps" in read.text
    json.loads(read.raw["data"])


def test_names_of_pieces_are_escaped_in_tokens_and_data(tmp_path):
    reply = Reply(prompt=[V.bos], kinds=[TEXT] * 4, groups=[0, 1, 2, 3], ids=[3, 4, V.end], nfe=3)
    reply.events = [TextToken(0, token) for token in reply.ids]
    text = written(tmp_path / "p.html", [an_entry(reply, reply_wave=np.zeros(0, np.float32))])
    read = Reader(text)
    assert "<script>alert(1)</script>" in read.text and "{{data}}" in read.text
    assert "<script>alert(1)" not in text
    [data] = json.loads(read.raw["data"])
    assert "“<script>alert(1)</script>”" in data["frames"][0]["say"]
    assert "This reply has no sound." in read.text


def test_replies_to_one_question_are_compared(tmp_path):
    replies = [a_reply(seed) for seed in (3, 4, 5)]
    entries = [
        an_entry(reply, f"one plus, {steps} steps per block", steps=steps, coherence=coherence)
        for reply, steps, coherence in zip(replies, (1, 4, 16), (0.55, 0.72, 1.2), strict=True)
    ]
    read = Reader(written(tmp_path / "p.html", entries))
    assert len(read.of("section")) == 1 and len(read.with_class("asked")) == 1
    assert [a["aria-label"] for a in read.of("audio")] == ["question", "answer", "answer", "answer"]
    for said in ("Answer, 1 step per block", "Answer, 16 steps per block", "0.55", "0.72"):
        assert said in read.text
    assert (
        read.text.count("one plus") == 1
        and "one plus, " not in read.text
        and len(read.with_class("measure")) == 3
    )
    assert len(read.of("details")) == 3 and not any("open" in a for a in read.of("details"))
    assert [reply.nfe for reply in replies] == [int(n) for n in re.findall(r"(\d+) forwards? ·", read.text)]
    apart = Reader(written(tmp_path / "p.html", [entries[0], an_entry(a_reply(3), question_text="two")]))
    assert len(apart.of("section")) == 2 and ["open" in a for a in apart.of("details")] == [True, False]


def test_what_it_was_too_unsure_to_say_is_told(tmp_path):
    reply = a_reply(3)
    reply.guess = "nine minus six"
    unsure = Reader(written(tmp_path / "p.html", [an_entry(reply)]))
    assert "too unsure to say: nine minus six" in unsure.text


def test_confidence_is_shown_where_there_is_one(tmp_path):
    sure = Reader(written(tmp_path / "p.html", [an_entry(a_reply(3), confidence=0.934)]))
    assert "confidence0.93" in sure.text
    assert "confidence" not in Reader(written(tmp_path / "p.html", [an_entry(a_reply(3))])).text


def test_the_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "p.html"
    target.write_text("before", encoding="utf-8")
    with pytest.raises(MinitttError, match="at least one reply"):
        write_page(target, [], FakeTalker())
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(CodecError, match="disk full"):
        write_page(target, [an_entry(a_reply(3))], FakeTalker())
    assert target.read_text(encoding="utf-8") == "before" and [p.name for p in tmp_path.iterdir()] == [
        "p.html"
    ]


def test_a_long_reply_stays_under_600_kilobytes(tmp_path):
    text = written(tmp_path / "p.html", [an_entry(a_reply(5, max_text=200, steps=4), seconds=8)])
    assert len(text.encode()) < 600_000
    assert page.__doc__


# ---- in a browser


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--virtual-time-budget=4000", "--dump-dom"]
PROBE = """<script>
const fail = what => { document.documentElement.dataset.error = what; };
window.addEventListener("error", event => fail(event.message));
document.addEventListener("securitypolicyviolation", event => fail(event.blockedURI));
</script>"""
DRIVE = """<script>
const out = {}, making = document.querySelector(".making"), slider = making.querySelector("input");
const looks = () => [...making.querySelectorAll(".reply .tok")].map(t => t.classList.contains("unborn") ? "-"
  : t.classList.contains("masked") ? "?" : t.classList.contains("dropped") ? "x" : "+").join("");
out.states = [];
for (let f = 0; f <= +slider.max; f++) {
  slider.value = f; slider.dispatchEvent(new Event("input"));
  out.states.push([looks(), making.querySelector(".caption").textContent, making.dataset.state]);
}
const press = key => making.querySelector(".sequence").dispatchEvent(new KeyboardEvent("keydown", { key }));
for (let i = 0; i < 6; i++) press("ArrowRight");
press("ArrowLeft");
out.told = making.querySelector(".told").textContent;
out.ready = document.documentElement.dataset.ready;
out.tooWide = document.documentElement.scrollWidth > innerWidth;
making.querySelector(".play").click();
setTimeout(() => { out.played = +making.dataset.state; out.error = document.documentElement.dataset.error;
  document.body.innerHTML = ""; document.body.dataset.out = JSON.stringify(out); }, 1500);
</script>"""


def in_browser(path: Path, text: str, profile: Path) -> dict:
    path.write_text(
        text.replace("<head>", "<head>" + PROBE).replace("</body>", DRIVE + "</body>"), encoding="utf-8"
    )
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--window-size=500,900", path.as_uri()]
    told = subprocess.run(command, capture_output=True, timeout=90, check=False).stdout.decode()
    return json.loads(Reader(told).of("body")[0]["data-out"])


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")
@pytest.mark.parametrize("full_span", [False, True])
def test_in_chromium_the_slider_replays_the_reply(tmp_path, full_span):
    reply = next(
        r
        for r in (a_reply(seed, full_span=full_span) for seed in range(99))
        if len(r.spans) > 1 and r.spans[0]
    )
    items, frames = replay(reply, V.mask, str)
    out = in_browser(
        tmp_path / "p.html", written(tmp_path / "p.html", [an_entry(reply)]), tmp_path / "profile"
    )
    assert out.get("error") is None and out["ready"] == "yes" and not out["tooWide"]
    masked, born, closed = set(), set(), set()
    expected = [""]
    for frame in frames:
        where = set(range(frame["at"], frame["at"] + frame["n"]))
        masked |= where - born if "entropy" in frame else set()
        masked -= {frame["at"] + slot for slot in frame.get("revealed", [])}
        born |= where
        closed |= where if frame.get("closed") else set()
        gone = {i for i in closed if items[i].position is None}
        signs = [
            "-" if i not in born else "?" if i in masked else "x" if i in gone else "+"
            for i in range(len(items))
        ]
        expected.append("".join(signs))
    expected[0] = "-" * len(items)
    assert [state for state, _, _ in out["states"]] == expected
    assert [caption for _, caption, _ in out["states"]][1:] == [
        f["say"].replace(*quoted(f["say"])) for f in frames
    ]
    assert [number for _, _, number in out["states"]] == [str(f) for f in range(len(frames) + 1)]
    assert out["told"] == (
        "Token 4 (audio heard, code 1, group 3). It sees tokens 0 to 2, and its own group, tokens 3 to 5."
    )
    assert 0 < out["played"] <= len(frames)


def quoted(say: str) -> tuple[str, str]:
    """The page names text tokens; the frames made here number them."""
    number = re.search(r"text token (\d+)$", say)
    if not number:
        return "", ""
    token = int(number[1])
    name = WORDS[token].strip("▁") if token < len(WORDS) else V.name(token)
    return f"text token {token}", f"text token “{name}”"

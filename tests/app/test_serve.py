"""The page answers whoever sits in front of it, in order, and nobody else; nothing that is sent to it makes it fall over."""

import asyncio
import copy
import json
import sys
import time
from dataclasses import replace
from http.client import HTTPConnection
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from minittt.app import gate
from minittt.app import serve as serving
from minittt.app.cli import main
from minittt.app.live import Answer, Speaker, Telling, pcm, wave_of
from minittt.codec import Codec, read_audio
from minittt.data.tokenisers import JsonTokeniser
from minittt.data.vocabulary import Vocabulary
from minittt.errors import MinitttError
from minittt.evaluation.referee import Referee
from minittt.settings import DecodingOptions, samples_folder
from minittt.talker import Reply, Talker
from tests import browser
from tests.small_llm import tokenizer_json

httpx = pytest.importorskip("httpx")
testclient = pytest.importorskip("starlette.testclient")

SAMPLES = samples_folder()
QUESTION = SAMPLES / "wav" / "question_1.wav"
HERE = "http://127.0.0.1:8765"
FAST = {"steps": 1, "block": 16}


@pytest.fixture(scope="module")
def speaker():
    talker = Talker.load(SAMPLES / "talker.safetensors")
    codec = Codec.load(SAMPLES / "codec.safetensors")
    return Speaker("shipped", talker, codec, Referee.load(SAMPLES / "referee.safetensors"))


@pytest.fixture
def client(speaker):
    return testclient.TestClient(serving.application([speaker], "127.0.0.1", 8765), base_url=HERE)


@pytest.fixture
def question():
    """A take, as the page sends it: a second of silence, the question, another, at the browser's rate."""
    wave = read_audio(QUESTION, 48_000)
    wave = np.pad(wave, (48_000, 48_000))
    return {"rate": 48_000, "pcm": pcm(wave)}


def ask(client, path="/ask", **request) -> list[dict]:
    """The events of an answer."""
    answer = client.post(path, json=request)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def names(events: list[dict]) -> list[str]:
    return [event["event"] for event in events]


# ---- events


def test_the_tokens_of_an_llm_have_names_too():
    tokeniser = JsonTokeniser(tokenizer_json(), "small")
    talker = SimpleNamespace(tokeniser=tokeniser, vocabulary=Vocabulary(len(tokeniser), 8))
    telling = Telling(talker, Reply(), full_span=False)
    assert "".join(telling.name(token) for token in tokeniser.encode("two plus")) == " two plus"
    assert telling.name(talker.vocabulary.end) == "END"


def test_a_spoken_question_is_answered_while_blocks_are_still_masked(client, question):
    events = ask(client, sound=question)
    told = names(events)
    assert told[:2] == ["heard", "prompt"] and told[-1] == "end" and told.count("end") == 1
    assert events[0]["text"] == "what is two plus three"
    assert events[-1]["text"] == "two plus three equals five"
    # by order, not by time: a piece of sound goes out before the last denoising step
    last_step = len(told) - 1 - told[::-1].index("step")
    assert told.index("sound") < last_step


def test_the_pieces_of_sound_add_up_to_the_answer(speaker):
    answer = Answer("one", DecodingOptions())
    events = list(speaker.tell("what is two plus three", [], answer))
    pieces = [wave_of(event["pcm"]) for event in events if event["event"] == "sound"]
    whole = np.concatenate([speaker.talker.sound(speaker.codec, span) for span in answer.reply.spans])
    assert len(pieces) > 2
    assert np.abs(np.concatenate(pieces) - whole.clip(-1, 1)).max() < 2e-4


@pytest.mark.parametrize("full_span", [False, True])
def test_what_is_told_step_by_step_is_the_reply(speaker, full_span, monkeypatch):
    """Groups are counted here as they are told, and by the decoder at the end: they must be the same."""
    monkeypatch.setattr(speaker, "full_span", full_span)
    answer = Answer("one", DecodingOptions(steps=3))
    events = list(speaker.tell("say seven two nine", [], answer))
    groups, span, blocks = [], [], []
    for event in events:
        if event["event"] == "prompt":
            groups = [token["group"] for token in event["tokens"]]
        elif event["event"] == "text":
            groups.append(event["group"])
        elif event["event"] == "step":
            group = event["group"]
        elif event["event"] == "block":
            span += [(slot, group) for slot in event["slots"]]
            blocks += event["slots"]
        elif event["event"] == "span":
            kept = event["codes"] + 1 if full_span else len(span)
            groups += [group for _, group in span[:kept]]
            span = []
    assert groups == answer.reply.groups == events[-1]["groups"]
    assert [code for code in blocks if code >= 0] == sum(answer.reply.spans, [])
    steps = [event for event in events if event["event"] == "step"]
    assert all(0 <= entropy <= 1 for event in steps for entropy in event["entropy"])


def test_the_next_turn_sees_the_one_before(client, speaker, monkeypatch):
    first = ask(client, text="2+3?", settings=FAST)[-1]
    stream = speaker.talker.stream
    seen = []

    def watched(conversations, *rest):
        seen.extend(conversations)
        return stream(conversations, *rest)

    monkeypatch.setattr(speaker.talker, "stream", watched)
    ask(client, text="say seven", settings=FAST, before=first["answer"])
    told = [message for message in seen if len(message) > 2]  # the words of a question are asked for, too
    [[system, asked, answered, now]] = told
    assert (system, asked, now) == (
        ["system", "answer"],
        ["user", "what is two plus three"],
        ["user", "say seven"],
    )
    assert answered[:2] == ["assistant", "two plus three equals five"]
    assert len(answered[2]) == first["codes"]


def test_a_seed_decides_the_answer_and_other_settings_change_it(client):
    one, same, other = (ask(client, text="2+3", settings={"seed": seed, **FAST}) for seed in (3, 3, 4))
    sound = [[event["pcm"] for event in events if event["event"] == "sound"] for events in (one, same, other)]
    assert sound[0] == sound[1] != sound[2]


def test_one_slot_again_changes_that_slot_alone(speaker):
    old = Answer("old", DecodingOptions())
    list(speaker.tell("what is two plus three", [], old))
    whole = [*old.reply.prompt, *old.reply.ids]
    slots = [i for i, kind in enumerate(old.reply.kinds) if i >= len(old.reply.prompt) and kind == 2]
    position = slots[len(slots) // 2]
    changed = set()
    for seed in range(4):
        new = Answer("new", replace(old.options, temperature=1.5))
        slot, sound, end = list(speaker.again(old, position, seed, new))
        now = [*new.reply.prompt, *new.reply.ids]
        assert [i for i in range(len(whole)) if now[i] != whole[i]] in ([], [position])
        assert now[position] == slot["now"] + speaker.talker.vocabulary.first_code
        assert new.turn[0] == old.turn[0] and end["answer"] == "new"
        assert sum(map(len, new.reply.spans)) == sum(map(len, old.reply.spans)) == end["codes"]
        assert 0 < slot["p"] <= 1
        changed.add(slot["now"])
    assert len(changed) > 1
    with pytest.raises(MinitttError, match="holds no code"):
        next(speaker.again(old, 0, 0, Answer("new", old.options)))


def test_a_slot_drawn_again_has_the_probabilities_it_had_when_it_was_denoised(speaker):
    """The slot that a block's last step revealed: the network sees the same again, and, greedy, draws the same again."""
    options = DecodingOptions(block=4, steps=4, temperature=0.0)
    answer = Answer("one", options)
    events = list(speaker.tell("count from three to nine", [], answer))
    lasts = {}  # by group: the slot, and what was told of the network's uncertainty there
    for event in events:
        if event["event"] == "step" and None not in event["slots"] and -1 not in event["slots"]:
            [slot] = event["revealed"]
            lasts[event["group"]] = (slot, event["entropy"][slot])
    assert len({slot for slot, _ in lasts.values()}) > 2  # not the ends of blocks alone
    for group, (slot, entropy) in lasts.items():
        position = answer.reply.groups.index(group) + slot
        told, *_ = speaker.again(answer, position, 0, Answer("new", options))
        assert told["now"] == told["was"]
        assert told["entropy"] == pytest.approx(
            entropy, abs=0.02
        )  # there, the end of audio could be drawn as well


def test_the_voice_of_each_slot_is_told(client, speaker):
    end = ask(client, text="count from three to nine")[-1]
    voices = sum(end["voices"], [])
    assert len(voices) == end["codes"]
    assert set(voices) <= set(range(-1, len(speaker.judge.config.voices)))
    assert voices.count(end["voice"]) > end["codes"] / 3


def test_a_slot_is_judged_by_the_sound_around_it(speaker):
    judge, hop = speaker.judge, speaker.codec.hop
    wave = read_audio(SAMPLES / "wav" / "answer_1.wav", judge.config.sample_rate)
    voices = judge.voices_along(wave, hop)
    assert len(voices) == -(-len(wave) // hop)
    for i in range(5, len(voices) - 5):
        around = wave[i * hop + hop // 2 - 800 : i * hop + hop // 2 + 800]
        if voices[i] >= 0:
            assert [voices[i]] == judge.window_voices(around).tolist()
    assert set(judge.voices_along(np.zeros(4000, np.float32), hop)) == {-1}
    # sound in the middle of silence is found in the middle
    noise = np.random.default_rng(0).normal(size=10 * hop).astype(np.float32)
    can_tell = judge.voices_along(np.pad(noise, 12 * hop), hop) >= 0
    assert can_tell.any() and not can_tell.all()
    assert (can_tell == can_tell[::-1]).all()


@given(st.lists(st.floats(-1, 1, width=32), max_size=40))
def test_sound_comes_through_as_it_was_sent(values):
    wave = np.array(values, np.float32)
    assert np.abs(wave_of(pcm(wave)) - wave).max(initial=0) <= 0.5 / 32767 + 1e-7


def test_a_page_says_what_there_is(client):
    about = client.get("/about").json()
    [talker] = about["talkers"]
    assert [q for q, _ in talker["examples"] if q.startswith("what")] == ["what is two plus three"]
    settings = {setting["name"]: setting for setting in about["settings"]}
    assert settings["steps"]["default"] == DecodingOptions().steps
    assert "entropy_bound" in settings["policy"]["choices"]
    for path, kind in (
        ("/", "html"),
        ("/serve.js", "javascript"),
        ("/recorder.js", "javascript"),
        ("/serve.css", "css"),
    ):
        part = client.get(path)
        assert kind in part.headers["content-type"]
        assert "default-src 'none'" in part.headers["content-security-policy"]
        assert "://" not in part.text.replace("http://www.w3.org", "")  # nothing from anywhere else


# ---- who may ask


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8765",
        "127.0.0.1:80",
        "127.0.0.1",
        "127.0.0.1.evil.example:8765",
        "",
        "[::1",
        "0.0.0.0:8765",
    ],
)
def test_a_foreign_name_is_refused(client, host):
    for path in ("/", "/about"):
        assert client.get(path, headers={"host": host}).status_code == 403
    assert client.post("/ask", json={"text": "2+3"}, headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1:8765", "[::1]:8765", "LOCALHOST:8765"])
def test_all_names_of_this_machine_are_its_own(client, host):
    assert client.get("/about", headers={"host": host}).status_code == 200


def test_where_others_may_come_numbers_and_the_name_asked_for_are_answered():
    here = gate.Gate(None, "0.0.0.0", 8765)
    assert here.is_ours("192.168.1.7:8765") and here.is_ours("localhost:8765")
    assert not here.is_ours("evil.example:8765")
    assert gate.Gate(None, "box.local", 80).is_ours("box.local")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8765"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_page_may_not_ask(client, headers):
    assert client.post("/ask", json={"text": "2+3"}, headers=headers).status_code == 403


def test_the_page_itself_may_ask(client):
    headers = {"origin": HERE, "sec-fetch-site": "same-origin"}
    assert client.post("/ask", json={"text": "2+3", "settings": FAST}, headers=headers).status_code == 200


def test_a_form_of_another_page_cannot_pass_for_json(client):
    answer = client.post("/ask", content='{"text": "2+3"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 415


# ---- what is no request


SOUND = {"rate": 8000, "pcm": pcm(np.ones(8000) / 2)}


@pytest.mark.parametrize(
    "request_, message",
    [
        ([], "JSON object"),
        ({}, "give one of them"),
        ({"text": "2+3", "sound": SOUND}, "give one of them"),
        ({"text": 5}, "text must be"),
        ({"text": "two plus banana"}, "banana"),
        ({"text": ""}, "no words"),
        ({"text": "two\nplus"}, "one line"),
        ({"text": "two " * 200}, "at most 500"),
        ({"text": "\ud800"}, "one line"),
        ({"text": "2+3", "talker": 1}, "talker must be"),
        ({"text": "2+3", "talker": True}, "talker must be"),
        ({"text": "2+3", "settings": {"steps": 0}}, "steps must be"),
        ({"text": "2+3", "settings": {"steps": 10**9}}, "steps must be at most"),
        ({"text": "2+3", "settings": {"steps": 2.5}}, "steps must be"),
        ({"text": "2+3", "settings": {"block": 10**9}}, "block must be"),
        ({"text": "2+3", "settings": {"temperature": -1}}, "temperature must be"),
        ({"text": "2+3", "settings": {"seed": 2**70}}, "seed must be"),
        ({"text": "2+3", "settings": {"policy": "best"}}, "policy must be"),
        ({"text": "2+3", "settings": {"policy": None}}, "policy must be"),
        ({"text": "2+3", "settings": {"colour": "red"}}, "no setting colour"),
        ({"text": "2+3", "settings": []}, "settings must be"),
        ({"text": "2+3", "before": "nonsense"}, "no longer kept"),
        ({"sound": []}, "sound must be"),
        ({"sound": {"rate": 8000}}, "pcm must be"),
        ({"sound": {"rate": 1, "pcm": ""}}, "rate must be"),
        ({"sound": {"rate": 8000, "pcm": "%%%"}}, "base64"),
        ({"sound": {"rate": 8000, "pcm": "AAA="}}, None),
        ({"sound": {"rate": 8000, "pcm": "AA=="}}, "whole number"),
        ({"sound": {"rate": 8000, "pcm": pcm(np.zeros(9 * 8000))}}, "8 seconds"),
    ],
)
def test_what_is_no_question_is_refused_in_one_sentence(client, request_, message):
    answer = client.post("/ask", content=json.dumps(request_), headers={"content-type": "application/json"})
    if message is None:  # well formed, and nothing to hear
        assert json.loads(answer.text.splitlines()[-1])["event"] == "error"
        return
    assert answer.status_code == 400
    assert message in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"text": NaN}', b"9" * 5000])
def test_what_is_no_json_is_refused(client, body):
    answer = client.post("/ask", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]


@pytest.mark.parametrize("wave", [np.zeros(8000), np.full(8000, 1e-4), np.zeros(0), np.zeros(3)])
def test_silence_is_said_to_be_silence(client, wave):
    [event] = ask(client, sound={"rate": 8000, "pcm": pcm(wave)})
    assert event["event"] == "error" and "nothing was heard" in event["message"]


def test_an_answer_that_was_forgotten_cannot_be_gone_on_from(client, monkeypatch):
    monkeypatch.setattr(serving, "KEPT", 1)
    first = ask(client, text="2+3", settings=FAST)[-1]["answer"]
    second = ask(client, text="2+3", settings=FAST)[-1]["answer"]
    position = ask(client, "/again", answer=second, position=0)[-1]
    assert "holds no code" in position["message"]
    refused = client.post("/again", json={"answer": first, "position": 0})
    assert refused.status_code == 400 and "no longer kept" in refused.json()["error"]


def test_an_answer_given_through_another_codec_cannot_be_gone_on_from(speaker):
    talker = speaker.talker
    other = copy.copy(speaker)
    other.talker = Talker(
        talker.model, talker.vocabulary, talker.tokeniser, {**talker.info, "codec": "other"}
    )
    both = testclient.TestClient(serving.application([speaker, other], "127.0.0.1", 8765), base_url=HERE)
    answer = ask(both, text="2+3", settings=FAST)[-1]["answer"]
    refused = both.post("/ask", json={"text": "2+3", "talker": 1, "before": answer})
    assert refused.status_code == 400 and "through another codec" in refused.json()["error"]


# ---- bodies, times, crowds


def scope_of(path, headers=()) -> dict:
    """A POST of JSON to this path, as a server announces it to an application."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8765"), (b"content-type", b"application/json"), *headers],
    }


def raw(app, chunks, headers=()) -> list[dict]:
    """What the server sends for a POST whose body arrives in these chunks; None: nothing comes for a second."""
    sent = []

    async def receive():
        chunk = next(chunks)
        if chunk is None:
            await asyncio.sleep(1)
            chunk = b" "
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope_of("/ask", headers), receive, send))
    return sent


def endless(chunk):
    while True:
        yield chunk


def test_a_body_without_end_is_cut_off(speaker, monkeypatch):
    app = serving.application([speaker], "127.0.0.1", 8765)
    assert raw(app, endless(b" " * 65_536))[0]["status"] == 413
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.05)
    assert raw(app, endless(None))[0]["status"] == 408


def test_a_body_that_is_too_large_is_refused(client):
    answer = client.post("/ask", json={"text": "x" * gate.LARGEST_BODY})
    assert answer.status_code == 413 and "bytes" in answer.json()["error"]


def test_fifty_at_once_are_answered_in_turn_or_refused(speaker, monkeypatch):
    monkeypatch.setattr(serving, "WAITING", 3)
    app = serving.application([speaker], "127.0.0.1", 8765)

    async def crowd():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=HERE, timeout=60) as client:
            requests = [client.post("/ask", json={"text": "2+3", "settings": FAST}) for _ in range(50)]
            answers = await asyncio.gather(*requests)
            after = await client.post("/ask", json={"text": "2+3", "settings": FAST})
            return answers, after

    answers, after = asyncio.run(crowd())
    codes = [answer.status_code for answer in answers]
    assert codes.count(200) == 4 and codes.count(503) == 46
    told = [
        [json.loads(line) for line in answer.text.splitlines()]
        for answer in answers
        if answer.status_code == 200
    ]
    assert all(events[-1]["text"] == "two plus three equals five" for events in told)
    ahead = sorted([event["ahead"] for event in events if event["event"] == "queued"] for events in told)
    assert ahead == [[], [1], [2, 1], [3, 2, 1]]
    assert after.status_code == 200  # every place was given back


def test_an_answer_that_takes_too_long_is_stopped_and_its_place_given_back(client, monkeypatch):
    monkeypatch.setattr(gate, "ANSWER_SECONDS", 0.0)
    assert "stopped after" in ask(client, text="2+3")[-1]["message"]
    monkeypatch.setattr(gate, "ANSWER_SECONDS", 60.0)
    assert ask(client, text="2+3", settings=FAST)[-1]["event"] == "end"


def test_who_takes_no_answer_gives_the_place_back(speaker, monkeypatch):
    """A browser that reads nothing any more, and says nothing either, must not hold up all others."""
    monkeypatch.setattr(gate, "SEND_SECONDS", 0.05)
    app = serving.application([speaker], "127.0.0.1", 8765)
    question = json.dumps({"text": "2+3", "settings": FAST}).encode()

    async def receive():
        if asked:
            return {"type": "http.request", "body": asked.pop(), "more_body": False}
        await asyncio.sleep(60)

    async def never_taken(message):
        await asyncio.sleep(60)

    async def take(message):
        taken.append(message)

    async def one_after_another():
        for send in (never_taken, take):
            asked.append(question)
            async with asyncio.timeout(20):
                await app(scope_of("/ask"), receive, send)

    asked, taken = [], []
    asyncio.run(one_after_another())
    assert b'"event":"end"' in b"".join(message.get("body", b"") for message in taken)


def test_what_goes_wrong_inside_ends_one_answer_alone(client, speaker, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(speaker.talker, "stream", lambda *_: 1 / 0)
        assert "ZeroDivisionError" in ask(client, text="2+3")[-1]["message"]
    assert ask(client, text="2+3", settings=FAST)[-1]["event"] == "end"


# ---- the command


def test_the_command_prints_its_address_and_ends_with_ctrl_c():
    with browser.served() as address:
        host = address.removeprefix("http://").rstrip("/")
        connection = HTTPConnection(host, timeout=60)
        connection.request("GET", "/")
        assert b"Talk to it" in connection.getresponse().read()
        # it ends, too, while an answer is being made
        connection.request(
            "POST", "/ask", json.dumps({"text": "count from 3 to 9"}), {"content-type": "application/json"}
        )
        assert json.loads(connection.getresponse().readline())["event"] == "heard"


def test_a_port_that_is_taken_and_talkers_without_codecs_are_said_in_one_line(capsys):
    with serving.listen_at("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port]) == 2
    assert "choose another --port" in capsys.readouterr().err
    talker, codec = str(SAMPLES / "talker.safetensors"), str(SAMPLES / "codec.safetensors")
    assert main(["serve", "--talker", talker, talker, talker, "--codec", codec, codec]) == 2
    assert "one for each" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "who"),
    [("uvicorn", "serve"), ("starlette.routing", "serve"), ("starlette.exceptions", "gate")],
)
def test_without_the_extra_one_line_says_how_to_get_it(missing, who, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, missing, None)
    for module in {"minittt.app.serve", f"minittt.app.{who}"}:
        monkeypatch.delitem(sys.modules, module)
    assert main(["serve"]) == 2
    told = capsys.readouterr().err
    assert "pip install 'minittt[serve]'" in told and told.count("\n") == 1


# ---- in a browser


@pytest.mark.slow
@pytest.mark.skipif(browser.program() is None, reason="no Chromium here")
def test_one_talks_to_it_in_a_browser(tmp_path):
    """Hold the button, speak, let go: the right words, the right answer, and sound before the last step."""
    pytest.importorskip("websockets")
    wave, rate = soundfile.read(QUESTION)
    said = tmp_path / "said.wav"
    soundfile.write(said, np.pad(wave, (rate // 2, 2 * rate)), rate, subtype="PCM_16")
    with browser.served() as address, browser.browser(tmp_path / "profile", said) as tab:
        state = lambda: tab.run("document.documentElement.dataset.state")  # noqa: E731
        tab.go(address)
        browser.until(lambda: state() == "idle", "the page")
        tab.press("#hold")
        browser.until(lambda: state() == "recording", "recording")
        time.sleep(0.5 + len(wave) / rate + 0.5)
        tab.release("#hold")
        browser.until(lambda: state() == "answered", "the answer")
        assert tab.run("document.querySelector('.asked blockquote').textContent") == "what is two plus three"
        assert (
            tab.run("document.querySelector('.answer blockquote').textContent")
            == "two plus three equals five"
        )
        told = tab.run("told")
        assert told[0] == "heard" and told[-1] == "end"
        assert told.index("sound") < len(told) - 1 - told[::-1].index("step")
        # a slot is masked and drawn again
        tab.click(".reply .tok.target:not(.eoa)")
        tab.click(".told button")
        browser.until(
            lambda: tab.run("told") == ["slot", "sound", "end"] and state() == "answered", "the slot"
        )
        # a typed question, in two settings
        tab.run("document.querySelector('#compare').click()")
        tab.run("document.querySelector('#text').value = 'say 7 2 9'")
        tab.run("document.querySelector('#typed').requestSubmit()")
        browser.until(lambda: state() == "answered" and tab.run("turns.number") == 2, "the second turn")
        answers = (
            "[...document.querySelectorAll('.turn:last-child .answer blockquote')].map(e => e.textContent)"
        )
        assert tab.run(answers) == ["seven two nine", "seven two nine"]
        tab.resize(380, 700)
        assert tab.run("document.documentElement.scrollWidth") <= 380
        assert tab.complaints() == []

// The page of `minittt serve`: records a question, sends it, and shows each event of the answer as it arrives.
//
//   1 small helpers    2 the server    3 sound out    4 sound in    5 one answer    6 turns and settings
"use strict";

// ---- 1 small helpers

const find = selector => document.querySelector(selector);

function make(tag, look = "", text = "") {
  const element = document.createElement(tag);
  element.className = look;
  element.textContent = text;
  return element;
}

function button(text, act, look = "small") {
  const element = make("button", look, text);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
}

const sleep = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
const percent = share => `${Math.round(100 * share)}\u00a0%`;

function inForm(state) {
  document.documentElement.dataset.state = state; // loading, idle, recording, answering or answered
}

function say(text, wrong = false) {
  find("#status").textContent = text;
  find("#status").classList.toggle("wrong", wrong);
}

// ---- 2 the server

// Sends a request and hands over the events of the answer, a line of JSON each, as they arrive. `take` may be slow: then the
// answer waits, which is all that slow motion is.
async function ask(path, request, take) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(request),
  });
  if (!response.ok) {
    const refusal = await response.json().catch(() => ({ error: `the server said ${response.status}` }));
    throw new Error(refusal.error);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  let last = null;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      break;
    }
    const lines = (waiting + value).split("\n");
    waiting = lines.pop(); // the last line is not whole yet
    for (const line of lines) {
      last = JSON.parse(line);
      if (last.event === "error") {
        throw new Error(last.message);
      }
      await take(last);
    }
  }
  if (last === null || last.event !== "end") {
    throw new Error("the answer broke off");
  }
}

// ---- 3 sound out

// 16-bit samples in base64 -> Float32Array, and back
function toSamples(base64) {
  const bytes = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
  return Float32Array.from(new Int16Array(bytes.buffer), sample => sample / 32767);
}

function toInt16(samples) {
  return Int16Array.from(samples, sample => Math.round(32767 * Math.max(-1, Math.min(1, sample))));
}

function toBase64(samples) {
  const bytes = new Uint8Array(toInt16(samples).buffer);
  let text = "";
  for (let start = 0; start < bytes.length; start += 8192) {
    text += String.fromCharCode(...bytes.subarray(start, start + 8192));
  }
  return btoa(text);
}

function join(pieces) {
  const whole = new Float32Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

// A context per sample rate: then the browser resamples the whole stream, and pieces join without a click.
const contexts = new Map();
let playing = []; // sources that are heard or scheduled
let free = 0; // when the last of them ends, in seconds of its context

function contextAt(rate) {
  if (!contexts.has(rate)) {
    contexts.set(rate, new AudioContext({ sampleRate: rate }));
  }
  const context = contexts.get(rate);
  context.resume(); // a browser keeps it suspended until somebody has touched the page
  return context;
}

// Plays samples after all that is playing already. Returns the context and when they begin in it.
function play(samples, rate) {
  const context = contextAt(rate);
  const buffer = context.createBuffer(1, samples.length, rate);
  buffer.copyToChannel(samples, 0);
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  const begin = Math.max(context.currentTime + 0.03, playing.length ? free : 0);
  source.start(begin);
  free = begin + samples.length / rate;
  playing.push(source);
  source.addEventListener("ended", () => {
    playing = playing.filter(other => other !== source);
  });
  return { context, begin };
}

function silence() {
  for (const source of playing) {
    source.stop();
  }
  playing = [];
}

// Offers samples as a WAV file: 44 bytes of header, then 16-bit mono.
function download(samples, rate, name) {
  const header = new DataView(new ArrayBuffer(44));
  const letters = (at, text) => [...text].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
  const size = 2 * samples.length;
  letters(0, "RIFF");
  header.setUint32(4, 36 + size, true);
  letters(8, "WAVEfmt ");
  header.setUint32(16, 16, true); // bytes that describe the format
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, rate, true);
  header.setUint32(28, 2 * rate, true); // bytes a second
  header.setUint16(32, 2, true); // bytes a frame
  header.setUint16(34, 16, true); // bits a sample
  letters(36, "data");
  header.setUint32(40, size, true);
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([header, toInt16(samples)], { type: "audio/wav" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// A row with a wave, to be played and downloaded. `show(samples)` draws it anew.
function soundRow(rate, name, onPlay) {
  const row = make("div", "sound");
  const canvas = make("canvas");
  let samples = new Float32Array(0);
  const start = () => {
    silence();
    const { context, begin } = play(samples, rate);
    onPlay?.(context, begin);
  };
  const playButton = button("▶ Play", start);
  const saveButton = button("↓ WAV", () => download(samples, rate, name));
  saveButton.title = `download ${name}`;
  row.append(playButton, canvas, saveButton);
  row.hidden = true;
  row.show = shown => {
    samples = shown;
    row.hidden = !samples.length;
    drawWave(canvas, samples);
  };
  return row;
}

function drawWave(canvas, samples) {
  const scale = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  const pen = canvas.getContext("2d");
  pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--quiet");
  const bars = Math.max(1, Math.floor(canvas.width / (3 * scale)));
  const share = samples.length / bars;
  for (let i = 0; i < bars; i++) {
    const part = samples.subarray(Math.floor(i * share), Math.floor((i + 1) * share));
    const peak = part.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0.01);
    const height = Math.min(1, 1.4 * peak) * canvas.height;
    pen.fillRect(3 * scale * i, (canvas.height - height) / 2, 2 * scale, height);
  }
}

// ---- 4 sound in

// Browsers treat a microphone for calls between people. All of it is off here, on purpose: noise suppression eats soft
// consonants, automatic gain raises the background in every pause (the talker's front end sets the level itself, once for the
// whole take), and there is no echo to cancel, because nothing plays while one speaks.
const MICROPHONE = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
const TAP = 300; // milliseconds: whoever lets go sooner has tapped, and taps again to end
const RELEASED_AFTER = 60_000; // milliseconds without a take, after which the microphone is let go

const microphone = {
  context: null,
  stream: null,
  pieces: null, // of the take that is being recorded; null between takes
  release: null,

  async open() {
    clearTimeout(this.release);
    if (this.stream) {
      return;
    }
    if (!navigator.mediaDevices) {
      throw new Error("a browser gives its microphone only to this machine's own pages (127.0.0.1) and to https");
    }
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: MICROPHONE });
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("recorder.js");
    const recorder = new AudioWorkletNode(this.context, "recorder");
    recorder.port.onmessage = ({ data }) => this.take(data);
    this.context.createMediaStreamSource(this.stream).connect(recorder);
    recorder.connect(this.context.destination); // it stays silent; unconnected, some browsers would not run it
  },

  take(piece) {
    if (this.pieces === null) {
      return;
    }
    this.pieces.push(piece);
    const level = Math.sqrt(piece.reduce((sum, sample) => sum + sample * sample, 0) / piece.length);
    find("#hold .dot").style.setProperty("--level", 1 + Math.min(1.5, 6 * level));
  },

  begin() {
    this.pieces = [];
  },

  end() {
    const samples = join(this.pieces);
    this.pieces = null;
    find("#hold .dot").style.removeProperty("--level");
    this.release = setTimeout(() => this.close(), RELEASED_AFTER);
    return { samples, rate: this.context.sampleRate };
  },

  close() {
    this.stream.getTracks().forEach(track => track.stop());
    this.context.close();
    this.stream = null;
  },
};

let pressed = 0; // when the button went down; 0: it is up
let limit = null; // timer that ends a take that is too long

async function press() {
  if (document.documentElement.dataset.state === "recording") {
    return finishTake(); // the second tap
  }
  if (document.documentElement.dataset.state === "answering") {
    return;
  }
  pressed = Date.now();
  silence();
  try {
    await microphone.open();
  } catch (error) {
    return say(`no microphone: ${error.message}`, true);
  }
  if (!pressed) {
    return say("the microphone is on now: hold the button while you speak");
  }
  microphone.begin();
  inForm("recording");
  pressed = Date.now();
  say(`listening; let go when you have said it (${about.longest} seconds at most)`);
  find("#hold .say").textContent = "Listening";
  limit = setTimeout(finishTake, 1000 * about.longest);
}

function release() {
  const held = Date.now() - pressed;
  pressed = 0;
  if (document.documentElement.dataset.state !== "recording") {
    return;
  }
  if (held < TAP) {
    say("listening; tap again when you have said it");
  } else {
    finishTake();
  }
}

function finishTake() {
  clearTimeout(limit);
  pressed = 0;
  find("#hold .say").textContent = "Hold and speak";
  inForm("idle");
  const take = microphone.end();
  takeTurn({ sound: { rate: take.rate, pcm: toBase64(take.samples) } }, take);
}

// ---- 5 one answer

let told = []; // names of the events of the last answer, in order

class Answer {
  constructor(talker, title, request) {
    this.talker = talker;
    this.request = request;
    this.events = []; // of the sequence: prompt, text, step, block, span
    this.forwards = []; // how many events there are before each pass of the network
    this.pieces = []; // of sound
    this.end = null;
    this.element = make("article", "card answer");
    this.text = make("blockquote");
    this.sound = soundRow(talker.rate, "answer.wav", (context, begin) => this.follow(context, begin));
    this.figures = make("div");
    this.sequence = make("div", "sequence");
    this.caption = make("p", "caption");
    this.told = make("p", "told");
    this.told.hidden = true;
    this.slider = make("input");
    this.slider.type = "range";
    this.slider.min = 0;
    this.slider.setAttribute("aria-label", "go through the making of the answer");
    this.slider.addEventListener("input", () => this.show(+this.slider.value));
    this.replay = make("div", "replay");
    this.replay.hidden = true;
    this.replay.append(button("▶ Replay", () => this.animate()), this.slider);
    this.element.append(
      make("h2", "", title), this.text, this.sound, this.figures, this.sequence, this.replay, this.caption, this.told,
    );
    this.sequence.addEventListener("click", event => this.choose(event.target.closest(".tok")));
    this.clear();
  }

  // -- events

  take(event) {
    told.push(event.event);
    if (event.event === "sound") {
      this.hear(toSamples(event.pcm));
    } else if (event.event === "end") {
      this.finish(event);
    } else if (["prompt", "text", "step", "block", "span"].includes(event.event)) {
      if (event.event === "text" || event.event === "step") {
        this.forwards.push(this.events.length);
      }
      this.events.push(event);
      this.apply(event);
      this.caption.scrollIntoView({ block: "nearest" });
    }
  }

  hear(samples) {
    this.pieces.push(samples);
    this.sound.show(join(this.pieces));
    play(samples, this.talker.rate);
  }

  finish(end) {
    this.end = end;
    this.text.textContent = end.text || "(it said nothing in words)";
    this.replay.hidden = false;
    this.slider.max = this.forwards.length;
    this.slider.value = this.forwards.length;
    this.sequence.querySelectorAll(".new").forEach(token => token.classList.remove("new"));
    this.colour();
    this.figures.replaceChildren();
    if (end.guess) {
      const unsaid = document.createElement("p");
      unsaid.textContent = `too unsure to say: ${end.guess}`;
      this.figures.append(unsaid);
    }
    if (end.confidence !== null) {
      this.figures.append(bar("confidence", end.confidence));
    } else if (end.certainty !== null) {
      this.figures.append(bar("sure of its words", end.certainty)); // not calibrated: no chance of being right
    }
    if (end.coherence !== null) {
      this.figures.append(bar("in one voice", end.coherence), this.voices());
    }
    const facts = [`${end.forwards} passes of the network`, `${end.codes} codes of sound`, `${end.seconds.toFixed(2)} s`];
    if (end.first_sound !== null) {
      facts.push(`first sound after ${end.first_sound.toFixed(2)} s`);
    }
    if (end.reason === "limit") {
      facts.push("cut off at the limit of words");
    }
    this.figures.append(make("p", "facts", facts.join(" · ")));
    this.caption.textContent = "complete; choose a token to see what it saw";
  }

  // -- the sequence

  clear() {
    this.sequence.replaceChildren();
    this.block = []; // tokens of the block that is being denoised
    this.span = []; // tokens of the open span
    this.spans = [];
    this.last = null; // box of the last group
  }

  apply(event) {
    this.sequence.querySelectorAll(".new").forEach(token => token.classList.remove("new"));
    if (event.event === "prompt") {
      for (const token of event.tokens) {
        this.add(token.name, token.look, token.group, "prompt");
      }
    } else if (event.event === "text") {
      const token = this.add(event.name, event.look, event.group);
      token.classList.add("new");
      token.dataset.p = event.p;
      this.text.textContent = event.text;
      this.caption.textContent = `“${event.name}”, with probability ${event.p.toFixed(2)}`;
    } else if (event.event === "step") {
      this.denoise(event);
    } else if (event.event === "block") {
      this.block.forEach((token, i) => this.set(token, event.slots[i]));
      this.caption.textContent += `; ${event.say}`;
    } else if (event.event === "span") {
      this.closeSpan(event.codes);
    }
  }

  // Adds a token to the box of its group, which is made where it is new.
  add(name, look, group, place = "reply") {
    if (!this.last || this.last.dataset.group !== String(group)) {
      this.last = make("span", `group ${place}`);
      this.last.dataset.group = group;
      this.last.append(make("span", "toks"), make("b", "n", group));
      this.sequence.append(this.last);
    }
    const isSound = look === "source" || look === "target";
    const token = make("i", `tok ${look}`, isSound ? "" : name);
    token.dataset.name = name;
    token.classList.toggle("eoa", name === "EOA");
    this.last.firstChild.append(token);
    return token;
  }

  denoise(event) {
    if (event.step === 0) {
      this.block = event.slots.map(() => this.add("MASK", "target", event.group));
      this.span.push(...this.block);
    }
    this.block.forEach((token, i) => {
      this.set(token, event.slots[i]);
      token.style.setProperty("--entropy", event.entropy[i]);
      token.dataset.entropy = event.entropy[i];
      token.classList.toggle("new", event.revealed.includes(i));
    });
    this.caption.textContent = event.say;
  }

  // A slot holds a code, the end of audio (-1), or nothing yet (null).
  set(token, slot) {
    token.classList.toggle("masked", slot === null);
    token.classList.toggle("eoa", slot === -1);
    token.dataset.name = slot === null ? "MASK" : slot === -1 ? "EOA" : `#${slot}`;
  }

  closeSpan(codes) {
    if (this.talker.full_span) {
      this.span.slice(codes + 1).forEach(token => token.remove()); // there is no filler where there are no whole blocks
    }
    this.spans.push(this.span.slice(0, codes));
    this.span = [];
  }

  // Each slot in the colour of the voice that is heard there.
  colour() {
    this.spans.forEach((tokens, span) =>
      tokens.forEach((token, i) => {
        const voice = this.end.voices[span]?.[Math.floor(i / this.talker.codebooks)] ?? -1;
        token.className = token.className.replace(/ ?voice-\d/, "");
        if (voice >= 0) {
          token.classList.add(`voice-${voice}`);
        }
        token.dataset.voice = voice;
      }),
    );
  }

  // The state after so many passes of the network.
  show(passes) {
    const all = passes >= this.forwards.length;
    const upTo = all ? this.events.length : this.forwards[passes];
    this.clear();
    this.point(null);
    this.events.slice(0, upTo).forEach(event => this.apply(event));
    this.slider.value = passes;
    this.caption.textContent = `pass ${passes} of ${this.forwards.length}: ${this.caption.textContent}`;
    if (all) {
      this.finish(this.end);
    }
  }

  async animate() {
    for (let passes = 0; passes <= this.forwards.length; passes++) {
      this.show(passes);
      await sleep(Math.max(40, Math.min(250, 9000 / this.forwards.length)));
    }
  }

  // While it plays, the slot that is heard lights up.
  follow(context, begin) {
    const tokens = this.spans.flat();
    const seconds = join(this.pieces).length / this.talker.rate;
    const step = () => {
      const share = (context.currentTime - begin) / seconds;
      const at = Math.floor(share * tokens.length);
      tokens.forEach((token, i) => token.classList.toggle("heard", i === at && share < 1));
      if (share < 1 && playing.length) {
        requestAnimationFrame(step);
      } else {
        tokens.forEach(token => token.classList.remove("heard"));
      }
    };
    requestAnimationFrame(step);
  }

  // Whose voice answered, and which colours mean which.
  voices() {
    const heard = new Set(this.end.voices.flat().filter(voice => voice >= 0));
    const line = make("p", "keys");
    const name = voice => this.talker.voices[voice].replace(/^.*\+/, "");
    line.append(make("span", "", this.end.voice < 0 ? "no voice was made out" : `answered by ${name(this.end.voice)}`));
    for (const voice of [...heard].sort()) {
      const key = make("span");
      key.append(make("i", `tok target voice-${voice}`), name(voice));
      line.append(key);
    }
    if (this.end.voices.flat().includes(-1)) {
      const key = make("span");
      key.append(make("i", "tok target"), "too quiet to tell");
      line.append(key);
    }
    return line;
  }

  // -- one token

  tokens() {
    return [...this.sequence.querySelectorAll(".tok")];
  }

  choose(token) {
    if (!token || !this.end) {
      return;
    }
    this.point(this.tokens().indexOf(token));
  }

  // Says what a token saw, and dims all that it did not see; null: none is chosen.
  point(position) {
    this.told.hidden = position === null;
    this.sequence.classList.toggle("pointed", position !== null);
    const tokens = this.tokens();
    tokens.forEach(token => token.classList.remove("chosen", "unseen"));
    if (position === null) {
      return;
    }
    const groupOf = token => +token.closest(".group").dataset.group;
    const token = tokens[position];
    const group = groupOf(token);
    tokens.forEach(other => other.classList.toggle("unseen", groupOf(other) > group));
    token.classList.add("chosen");
    const own = tokens.filter(other => groupOf(other) === group).length;
    const before = tokens.filter(other => groupOf(other) < group).length;
    const sentences = [
      `Token ${position}, ${token.dataset.name}, group ${group}.`,
      `It sees the ${before} tokens of earlier groups, and ${own === 1 ? "itself" : `all ${own} of its own group`}.`,
    ];
    if (token.dataset.p) {
      sentences.push(`Its probability was ${(+token.dataset.p).toFixed(3)}.`);
    }
    if (token.dataset.entropy) {
      sentences.push(`The network's uncertainty there was ${percent(token.dataset.entropy)} of the highest there can be.`);
    }
    this.told.textContent = `${sentences.join(" ")} `;
    if (this.spans.flat().includes(token)) {
      this.told.append(button("Mask it and draw again", () => this.again(position)));
    }
  }

  async again(position) {
    if (document.documentElement.dataset.state === "answering") {
      return;
    }
    const token = this.tokens()[position];
    const answer = this.end.answer;
    const seed = Math.floor(Math.random() * 2 ** 32);
    let slot = null;
    inForm("answering");
    silence();
    this.set(token, null);
    told = [];
    try {
      await ask("again", { answer, position, seed }, async event => {
        if (event.event === "slot") {
          await sleep(400); // so that the mask is seen
          slot = event;
          this.set(token, event.now);
          this.rewrite(token, event.now);
        } else if (event.event === "sound") {
          this.pieces = [];
        }
        this.take(event);
      });
      const likely = slot.likely.map(([code, p]) => `#${code} ${percent(p)}`).join(", ");
      this.point(position);
      this.told.prepend(
        `It was #${slot.was}; now it is #${slot.now}, with probability ${percent(slot.p)} (most likely: ${likely}). All else stayed. `,
      );
      turns.replaced(answer, this.end.answer);
      say("");
    } catch (error) {
      this.show(this.forwards.length);
      say(error.message, true);
    }
    inForm("answered");
  }

  // Notes in the events what a slot holds now, so that a replay ends with it.
  rewrite(token, code) {
    const blocks = this.events.filter(event => event.event === "block");
    const place = this.blockOf(token);
    blocks[place.block].slots[place.slot] = code;
  }

  // Which block of the reply a slot belongs to, and where in it.
  blockOf(token) {
    const targets = this.tokens().filter(other => other.closest(".reply") && other.classList.contains("target"));
    let slot = targets.indexOf(token);
    let block = 0;
    for (const { slots } of this.events.filter(event => event.event === "block")) {
      if (slot < slots.length) {
        break;
      }
      slot -= slots.length;
      block += 1;
    }
    return { block, slot };
  }

  fail(message) {
    this.element.classList.add("failed");
    this.text.textContent = message;
    [this.figures, this.replay, this.caption].forEach(part => part.remove());
  }
}

function bar(name, share) {
  const line = make("div", "measure");
  const track = make("span", "bar");
  const fill = make("i");
  fill.style.width = `${100 * share}%`;
  track.append(fill);
  line.append(make("span", "", name), track, make("b", "", share.toFixed(2)));
  return line;
}

// ---- 6 turns and settings

let about = null; // talkers, settings and limits
const columns = []; // one or two sets of settings

const turns = {
  before: [], // the id of the last answer of each column
  number: 0,

  // Where a slot was drawn again, the next turn goes on from that.
  replaced(old, now) {
    this.before = this.before.map(answer => (answer === old ? now : answer));
  },
};

// Settings as a form, made from what the server says of each: name, default, range.
class Column {
  constructor(title, number) {
    this.number = number;
    this.fields = new Map();
    this.element = make("fieldset", "settings");
    this.element.append(make("legend", "", title));
    this.talker = make("select");
    about.talkers.forEach((talker, i) => this.talker.append(new Option(talker.name, i)));
    this.talker.value = Math.min(number, about.talkers.length - 1);
    this.talker.addEventListener("change", () => delete turns.before[number]); // another talker knows nothing of it
    if (about.talkers.length > 1) {
      this.line("talker", this.talker, "who answers");
    }
    for (const setting of about.settings) {
      this.add(setting);
    }
  }

  line(name, input, help) {
    const label = make("label", "", name);
    label.title = help;
    label.append(input);
    this.element.append(label);
  }

  add({ name, default: value, at_least, at_most, help, choices, whole }) {
    let input = make("input");
    if (choices) {
      input = make("select");
      choices.forEach(choice => input.append(new Option(choice)));
    } else {
      input.type = "number";
      input.min = at_least ?? "";
      input.max = at_most ?? "";
      input.step = whole ? 1 : "any";
    }
    input.value = value;
    input.name = name;
    this.fields.set(name, input);
    this.line(name, input, help);
  }

  settings() {
    const values = {};
    for (const [name, input] of this.fields) {
      values[name] = input.tagName === "SELECT" ? input.value : input.valueAsNumber;
    }
    return values;
  }

  inWords() {
    const { block, steps, policy, temperature, seed } = this.settings();
    const who = about.talkers.length > 1 ? `${about.talkers[this.talker.value].name}: ` : "";
    return `${who}${steps} steps per block of ${block}, ${policy}, temperature ${temperature}, seed ${seed}`;
  }
}

// One turn: the question once, an answer for each column in use, one after the other.
async function takeTurn(question, take = null) {
  turns.number += 1;
  find("#anew").disabled = true;
  find("#legend").open = find("#legend").open && turns.number > 1; // it has been seen; whoever opens it again keeps it
  inForm("answering");
  say("");
  const turn = make("section", "turn");
  const asked = make("article", "card asked");
  const words = make("blockquote", "", question.text ?? "…");
  asked.append(make("h2", "", take ? "You said" : "You wrote"), words);
  const answers = make("div", "answers");
  turn.append(asked, answers);
  find("#turns").append(turn);
  if (take) {
    const row = soundRow(take.rate, `question_${turns.number}.wav`);
    asked.append(row);
    row.hidden = false;
    row.show(take.samples);
  }
  const used = find("#compare").checked ? columns : columns.slice(0, 1);
  for (const column of used) {
    await takeAnswer(column, question, answers, words);
  }
  inForm("answered");
  find("#anew").disabled = false;
}

async function takeAnswer(column, question, answers, words) {
  const talker = about.talkers[column.talker.value];
  const request = { talker: +column.talker.value, settings: column.settings(), ...question };
  request.before = (find("#remember").checked && turns.before[column.number]) || null;
  const answer = new Answer(talker, column.inWords(), request);
  answers.append(answer.element);
  answer.element.scrollIntoView({ block: "nearest" });
  told = [];
  try {
    await ask("ask", request, async event => {
      answer.take(event);
      if (event.event === "queued") {
        say(`waiting; ${event.ahead} ahead`);
      } else if (event.event === "heard") {
        say("");
        words.textContent = event.text || "(no words were made out)";
      } else if (event.event === "text" || event.event === "step") {
        const pace = +find("#pace").value;
        if (pace) {
          await sleep(pace);
        }
      }
    });
    turns.before[column.number] = answer.end.answer;
    const seed = column.fields.get("seed");
    seed.value = seed.valueAsNumber + 1; // the next answer is drawn anew
  } catch (error) {
    answer.fail(error.message);
    if (words.textContent === "…") {
      words.textContent = "(nothing that could be answered)";
    }
  }
  answer.element.scrollIntoView({ block: "nearest" });
}

function showExamples() {
  const [{ examples }] = about.talkers;
  const line = find("#examples");
  line.append(examples.length ? "What may be asked:" : "This talker does not say which words it was taught.");
  for (const [question, what] of examples) {
    const chip = button(question, () => {
      find("#text").value = question;
      find("#text").focus();
    });
    chip.title = what;
    line.append(chip);
  }
}

function listenToControls() {
  const hold = find("#hold");
  hold.disabled = false;
  const row = find("#ask");
  // what is scrolled to is not to hide behind the row of buttons
  new ResizeObserver(() => {
    document.documentElement.style.scrollPaddingBottom = `${row.offsetHeight + 12}px`;
  }).observe(row);
  hold.addEventListener("pointerdown", event => {
    hold.setPointerCapture(event.pointerId);
    press();
  });
  hold.addEventListener("pointerup", release);
  hold.addEventListener("pointercancel", release);
  hold.addEventListener("contextmenu", event => event.preventDefault()); // a long touch is no question for a menu
  const isKey = event => event.key === " " || event.key === "Enter";
  hold.addEventListener("keydown", event => {
    if (isKey(event)) {
      event.preventDefault();
      if (!event.repeat) {
        press();
      }
    }
  });
  hold.addEventListener("keyup", event => isKey(event) && release());
  find("#typed").addEventListener("submit", event => {
    event.preventDefault();
    const text = find("#text").value.trim();
    if (text && !["recording", "answering"].includes(document.documentElement.dataset.state)) {
      find("#text").value = "";
      silence();
      takeTurn({ text });
    }
  });
  find("#compare").addEventListener("change", event => {
    columns[1].element.hidden = !event.target.checked;
  });
  find("#anew").addEventListener("click", () => {
    silence();
    turns.before = [];
    find("#turns").replaceChildren();
    inForm("idle");
  });
}

async function begin() {
  about = await (await fetch("about")).json();
  columns.push(new Column("settings", 0), new Column("other settings", 1));
  columns[1].fields.get("block").value = 16;
  columns[1].fields.get("steps").value = 1; // slots drawn without knowledge of each other: what differs most by ear
  columns[1].element.hidden = true;
  find("#columns").append(...columns.map(column => column.element));
  find("#text").maxLength = about.longest_text;
  showExamples();
  listenToControls();
  inForm("idle");
}

begin().catch(error => say(`the server cannot be reached: ${error.message}`, true));

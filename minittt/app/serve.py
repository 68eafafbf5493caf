"""`minittt serve`: a page in the browser on which you talk to a talker and see how its answers are written.

    GET  /         the page; /serve.js, /recorder.js and /serve.css belong to it
    GET  /about    talkers, what they may be asked, settings and limits
    POST /ask      {"talker", "settings", "text" or "sound": {"rate", "pcm"}, "before"} -> events, a line of JSON each
    POST /again    {"answer", "position", "seed"} -> the same, after one slot was drawn again

Events are those of `live.py`, in the order in which they arise, with two more: `queued` says how many others are ahead, and
`error` says what went wrong. One request is answered at a time, a few wait, more are refused.

The server trusts nobody: `gate.py` decides who may come in, and how much at a time; here each field is checked.
"""

import errno
import secrets
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import torch

from minittt.app.chat import LONGEST
from minittt.app.gate import (
    HIGHEST_RATE,
    LOWEST_RATE,
    Gate,
    Queue,
    Telling,
    in_address,
    is_loopback,
    read_object,
    refusal,
)
from minittt.app.live import Answer, Speaker, wave_of
from minittt.app.plotting import COLOURS
from minittt.app.shipped import codec_for
from minittt.device import device_named
from minittt.errors import MinitttError
from minittt.evaluation.referee import Referee
from minittt.settings import (
    MAX_SPAN,
    POLICIES,
    DecodingOptions,
    DeviceOption,
    ServingOptions,
    kind_of,
    options_of,
    samples_folder,
    settings_from,
)
from minittt.talker import Talker

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise MinitttError(f"the page needs a web server ({error}): pip install 'minittt[serve]'") from error

LONGEST_TEXT = 500  # characters of a typed question
WAITING = 8  # requests that may wait while one is answered
KEPT = 64  # answers kept to continue from
ENCODING = "utf-8"
MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


def serve(args) -> None:
    """Load the talkers, open the page's address, and answer until Ctrl-C."""
    options = settings_from(args, ServingOptions)
    device = device_named(settings_from(args, DeviceOption).device)
    with listen_at(options.host, options.port) as listener:  # first: loading takes a while
        speakers = load_speakers(args.talker, args.codec, device)
        port = listener.getsockname()[1]
        app = application(speakers, options.host, port)
        print(f"talk at http://{in_address(options.host)}:{port}/  (Ctrl-C ends)", flush=True)
        if not is_loopback(options.host):
            print(
                "anyone who reaches this address may talk; browsers give a microphone only to https and to this machine",
                file=sys.stderr,
            )
        config = uvicorn.Config(
            app,
            log_level="critical",  # what Ctrl-C cuts off is not an error; what fails in an answer is logged below
            access_log=False,
            server_header=False,
            ws="none",
            limit_concurrency=64,
            timeout_graceful_shutdown=1,  # seconds; an answer that is being made is cut off
        )
        uvicorn.Server(config).run(sockets=[listener])


def load_speakers(
    talkers: list[Path], codecs: list[Path] | None = None, device: torch.device | None = None
) -> list[Speaker]:
    """The talkers to talk to; codecs: one for all, or one for each; if none, the shipped codecs that belong to them.

    Equal names are numbered. device: where all of them compute (default: the CPU).
    """
    given: list[Path | None] = list(codecs or [None])
    if len(given) == 1:
        given = given * len(talkers)
    if len(given) != len(talkers):
        raise MinitttError(f"{len(talkers)} talkers and {len(given)} codecs: give one codec, or one for each")
    judge = None
    referee = samples_folder() / "referee.safetensors"
    if referee.is_file():
        judge = Referee.load(referee)
    device = device or torch.device("cpu")
    speakers = []
    for path, file in zip(talkers, given, strict=True):
        name = f"{path.resolve().parent.name}/{path.stem}"
        alike = sum(speaker.name.startswith(name) for speaker in speakers)
        if alike:
            name += f" ({alike + 1})"
        talker = Talker.load(path).to(device)
        speakers.append(Speaker(name, talker, codec_for(talker, file).to(device), judge))
    return speakers


def listen_at(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free port. Raises MinitttError where that is impossible."""
    where = f"cannot listen at {host}, port {port}"
    try:
        [(family, *_), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise MinitttError(f"{where}: there is no such host; leave --host out for this machine") from error
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            why = "it is taken; choose another --port, or 0 for a free one"
        elif error.errno == errno.EADDRNOTAVAIL:
            why = "this machine has no such address; leave --host out, or give 0.0.0.0 for all that it has"
        elif error.errno == errno.EACCES:
            why = "it needs rights that you do not have; choose a --port from 1024 on"
        else:
            why = f"{error.strerror or error}; choose another --port, or 0 for a free one"
        raise MinitttError(f"{where}: {why}") from error


def application(speakers: list[Speaker], host: str, port: int) -> Callable:
    """The whole server as an ASGI application, to be reached as `host`:`port`."""
    page = Page(speakers)
    routes = [
        Route("/about", page.about),
        Route("/ask", page.ask, methods=["POST"]),
        Route("/again", page.again, methods=["POST"]),
    ]
    parts = {
        "/": "serve.html",
        "/serve.js": "serve.js",
        "/recorder.js": "recorder.js",
        "/serve.css": "serve.css",
    }
    routes += [Route(path, _file(name)) for path, name in parts.items()]
    refusals = {
        MinitttError: lambda _, error: refusal(400, str(error)),
        HTTPException: lambda _, error: refusal(error.status_code, error.detail),
    }
    return Gate(Starlette(routes=routes, exception_handlers=refusals), host, port)


def _file(name: str) -> Callable:
    """A handler that serves one part of the page. Colours come from `plotting.py`, so that they are the same everywhere."""
    content = files("minittt.app").joinpath(name).read_text(encoding=ENCODING)
    if name.endswith(".css"):
        palette = " ".join(f"--{key}: {colour};" for key, colour in COLOURS.items())
        content = f":root {{ {palette} }}\n{content}"
    response = Response(content, media_type=MEDIA_TYPES[name.rpartition(".")[2]])

    async def send(request: Request) -> Response:
        """The same for every request."""
        return response

    return send


# ---- what is asked


class Page:
    """What the page asks for. It keeps the last answers, so that a turn can continue from them."""

    def __init__(self, speakers: list[Speaker]) -> None:
        self.speakers = speakers
        self.queue = Queue(WAITING)
        self.answers: OrderedDict[str, tuple[Speaker, Answer]] = OrderedDict()

    async def about(self, request: Request) -> Response:
        """Talkers, settings and limits."""
        settings = [_described(entry) for entry in options_of(DecodingOptions)]
        return JSONResponse(
            {
                "talkers": [speaker.about() for speaker in self.speakers],
                "settings": settings,
                "longest": LONGEST,
                "longest_text": LONGEST_TEXT,
            }
        )

    async def ask(self, request: Request) -> Response:
        """Answer a question that is spoken or typed."""
        asked = Asked(await read_object(request))
        speaker = asked.choice("talker", self.speakers)
        options = decoding_options(asked.get("settings", dict, {}))
        before = []
        if asked.get("before", str, ""):
            other, earlier = self.kept(asked.get("before", str))
            if other.talker.info["codec"] != speaker.talker.info["codec"]:
                raise MinitttError("that answer was given through another codec: begin anew with this talker")
            before = earlier.turn
        hear = asked.question(speaker)

        def events(answer: Answer) -> Generator[dict, None, None]:
            """Listen when its turn has come, not while it waits, and answer."""
            yield from speaker.tell(hear(), before, answer)

        return self.telling(speaker, options, events)

    async def again(self, request: Request) -> Response:
        """Mask one slot of an answer, and draw it again."""
        asked = Asked(await read_object(request))
        speaker, old = self.kept(asked.get("answer", str))
        position = asked.get("position", int)
        options = decoding_options({"seed": asked.get("seed", int, 0)}, old.options)
        return self.telling(
            speaker, options, lambda answer: speaker.again(old, position, options.seed, answer)
        )

    def telling(
        self,
        speaker: Speaker,
        options: DecodingOptions,
        events: Callable[[Answer], Generator[dict, None, None]],
    ) -> Telling:
        """Queue up for an answer, which is kept once it is complete."""
        answer = Answer(secrets.token_urlsafe(9), options)

        def events_and_keep() -> Iterator[dict]:
            """The events; with the last one, the answer is kept."""
            with closing(events(answer)) as told:
                for event in told:
                    if event["event"] == "end":
                        self.keep(speaker, answer)
                    yield event

        return Telling(self.queue, self.queue.join(), events_and_keep())

    def keep(self, speaker: Speaker, answer: Answer) -> None:
        """Keep an answer; the oldest is forgotten."""
        self.answers[answer.id] = (speaker, answer)
        while len(self.answers) > KEPT:
            self.answers.popitem(last=False)

    def kept(self, name: str) -> tuple[Speaker, Answer]:
        """An answer by its id. Raises MinitttError if it was forgotten, or never there."""
        if name not in self.answers:
            raise MinitttError(f"that answer is no longer kept (the last {KEPT} are): begin anew")
        return self.answers[name]


def _described(entry) -> dict:
    """A setting in the form from which the page makes a field."""
    described = {key: entry.metadata[key] for key in ("at_least", "at_most", "help", "choices")}
    described |= {"name": entry.name, "default": entry.default, "whole": kind_of(entry) is int}
    if entry.name == "policy":
        described["choices"] = POLICIES
    return described


def decoding_options(given: dict, others: DecodingOptions | None = None) -> DecodingOptions:
    """Settings by name; the rest come from `others` or the defaults. Raises MinitttError for one that does not fit."""
    values = {entry.name: entry.default for entry in options_of(DecodingOptions)}
    if others is not None:
        values = vars(others)
    unknown = sorted(set(given) - set(values))
    if unknown:
        raise MinitttError(f"there is no setting {', '.join(unknown)}: there are {', '.join(values)}")
    options = DecodingOptions(**{**values, **given})
    if options.steps > MAX_SPAN:
        raise MinitttError(f"steps must be at most {MAX_SPAN}: a block has no more slots")
    return options


class Asked:
    """The fields of a request, checked one by one."""

    def __init__(self, fields: dict) -> None:
        self.fields = fields

    def get(self, name: str, kind: type, default=None):
        """A field of that kind, or `default` if it is absent or null. Raises MinitttError for another kind, or for none."""
        value = self.fields.get(name)
        if value is None:
            value = default
        if type(value) is not kind:
            raise MinitttError(f"{name} must be {kind.__name__}, not {type(value).__name__}")
        return value

    def choice(self, name: str, things: list):
        """One of several things, by its number, counted from 0; the default is 0."""
        number = self.get(name, int, 0)
        if not 0 <= number < len(things):
            raise MinitttError(f"{name} must be a number from 0 to {len(things) - 1}, not {number}")
        return things[number]

    def question(self, speaker: Speaker) -> Callable[[], str | list[int]]:
        """A function that makes a message part of the question; it takes a while if that is a recording."""
        if ("text" in self.fields) == ("sound" in self.fields):
            raise MinitttError('a question is either "text" or "sound": give one of them')
        if "text" in self.fields:
            text = self.get("text", str)
            if len(text) > LONGEST_TEXT or not text.isprintable():
                raise MinitttError(f"text must be one line of at most {LONGEST_TEXT} characters")
            part = speaker.read(text)
            return lambda: part
        sound = Asked(self.get("sound", dict))
        rate = sound.get("rate", int)
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise MinitttError(f"rate must be from {LOWEST_RATE} to {HIGHEST_RATE} Hz, not {rate}")
        wave = wave_of(sound.get("pcm", str))  # (samples,)
        if len(wave) > (LONGEST + 0.5) * rate:  # half a second's grace for the browser's last buffer
            raise MinitttError(f"a question may be {LONGEST:g} seconds long, not {len(wave) / rate:.1f}")
        return lambda: speaker.hear(wave, rate)

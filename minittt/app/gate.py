"""What guards the page of `minittt serve`: host names, origins, headers, sizes, times, and one answer at a time.

The server trusts nobody. A page from another origin, or a foreign name made to point at this machine (DNS rebinding), is
refused; bodies, queue and times are bounded; the page may not load anything from elsewhere.
"""

import asyncio
import ipaddress
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from urllib.parse import urlsplit

from minittt.app.chat import LONGEST
from minittt.codec import CodecError
from minittt.errors import MinitttError

try:
    from starlette.concurrency import iterate_in_threadpool
    from starlette.datastructures import Headers, MutableHeaders
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, StreamingResponse
    from starlette.types import Message, Receive, Scope, Send
except ImportError as error:
    raise MinitttError(f"the page needs a web server ({error}): pip install 'minittt[serve]'") from error

LOWEST_RATE, HIGHEST_RATE = 8000, 192_000  # Hz: what microphones deliver
LARGEST_BODY = (
    int(LONGEST * HIGHEST_RATE * 2 * 4 / 3) + 65_536
)  # bytes: the longest take in base64, and the rest
BODY_SECONDS = 20.0  # for a request to arrive
SEND_SECONDS = 60.0  # for the browser to accept an event; in slow motion it takes its time
ANSWER_SECONDS = 180.0  # for an answer, once its turn has come
SECURITY = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "permissions-policy": "microphone=(self)",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


# ---- who may come in


def is_loopback(host: str) -> bool:
    """Whether a host is this machine as seen from itself."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


def in_address(host: str) -> str:
    """A host as written in a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


class Gate:
    """Sits in front of the application: refuses foreign hosts and origins, and adds security headers to all responses.

    Anyone could choose a host name and make it point here, so the server answers only to numeric addresses, localhost and
    the name it was given; where the page is for this machine alone, only to this machine's own names.
    """

    def __init__(self, app: Callable, host: str, port: int) -> None:
        self.app = app
        self.host = host
        self.port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_guarded(message: Message) -> None:
            """Pass a message on, adding the headers that guard the page to the first one."""
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY)
            await send(message)

        headers = Headers(scope=scope)
        answering = self.app
        if not self.is_ours(headers.get("host", "")):
            answering = refusal(403, "this name is not the page's own: use the address that was printed")
        elif not self.is_same_origin(headers):
            answering = refusal(403, "only the page itself may ask: open the address that was printed")
        await answering(scope, receive, send_guarded)

    def is_ours(self, host: str) -> bool:
        """Whether a Host header names this server."""
        try:
            url = urlsplit(f"//{host}")
            name = url.hostname or ""
            port = url.port or 80
        except ValueError:
            return False
        if port != self.port:
            return False
        if is_loopback(self.host):
            return is_loopback(name)
        return name == self.host.lower() or name == "localhost" or _is_address(name)

    def is_same_origin(self, headers: Headers) -> bool:
        """Whether a request comes from this page, or from no page at all (a browser always says where one comes from)."""
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{headers['host']}":
            return False
        # "none": typed by hand. Absent: not a browser, or one too old to say
        return headers.get("sec-fetch-site", "none") in ("same-origin", "none")


def refusal(status: int, message: str) -> JSONResponse:
    """What the page is told when it is refused: a status, and one sentence under `error`."""
    return JSONResponse({"error": message}, status)


# ---- what comes in, bounded


async def read_object(request: Request) -> dict:
    """The JSON object in a request's body, which is limited in size and time."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "a request is JSON: say so in its content-type, application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_BODY:
                    raise HTTPException(413, f"a request may have {LARGEST_BODY:,} bytes: record less")
    except TimeoutError:
        raise HTTPException(408, f"the request was not whole after {BODY_SECONDS:g} seconds") from None
    except ClientDisconnect:
        raise HTTPException(400, "the request broke off") from None
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MinitttError(f"the request is no JSON ({error})") from error
    if not isinstance(asked, dict):
        raise MinitttError(f"the request must be a JSON object, not {type(asked).__name__}")
    return asked


# ---- one at a time


class Ticket:
    """A place in the queue. `moved` is set when somebody ahead leaves."""

    def __init__(self) -> None:
        self.moved = asyncio.Event()


class Queue:
    """Requests in order of arrival: the first is answered, `waiting` more may wait."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.tickets: list[Ticket] = []

    def join(self) -> Ticket:
        """Take a place at the end. Raises HTTPException 503 if there is none."""
        if len(self.tickets) > self.waiting:
            raise HTTPException(503, f"{len(self.tickets)} others are waiting already: try again in a while")
        ticket = Ticket()
        self.tickets.append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give a place back, answered or not."""
        self.tickets.remove(ticket)
        for other in self.tickets:
            other.moved.set()

    async def wait(self, ticket: Ticket) -> AsyncIterator[int]:
        """Yield how many are ahead, at once and whenever that changes, until nobody is."""
        while ahead := self.tickets.index(ticket):
            yield ahead
            await ticket.moved.wait()
            ticket.moved.clear()


class Telling(StreamingResponse):
    """Events as lines of JSON, once their turn has come. However it ends, the place in the queue is given back."""

    def __init__(self, queue: Queue, ticket: Ticket, events: Iterator[dict]) -> None:
        self.queue = queue
        self.ticket = ticket
        super().__init__(self.lines(events), media_type="application/x-ndjson")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            """Pass a message on, and give up on whoever does not take it in time."""
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        try:
            with suppress(TimeoutError, ClientDisconnect):  # nobody is left to tell
                await super().__call__(scope, receive, send_in_time)
        finally:
            self.queue.leave(self.ticket)

    async def lines(self, events: Iterator[dict]) -> AsyncIterator[str]:
        """Wait for the turn, then tell event by event. If something goes wrong, that is the last event."""
        async for ahead in self.queue.wait(self.ticket):
            yield _line({"event": "queued", "ahead": ahead})
        deadline = time.monotonic() + ANSWER_SECONDS
        try:
            # each event is made in another thread, so that the server can attend to others meanwhile
            async for event in iterate_in_threadpool(events):
                yield _line(event)
                if time.monotonic() > deadline:
                    raise MinitttError(
                        f"stopped after {ANSWER_SECONDS:g} seconds: ask for fewer steps or larger blocks"
                    )
        except (MinitttError, CodecError) as error:
            yield _line({"event": "error", "message": str(error)})
        except Exception as error:  # the boundary: the page is told, the terminal shows where
            logging.getLogger("minittt").exception("an answer ended early")
            yield _line({"event": "error", "message": f"{type(error).__name__}: see the terminal"})


def _line(event: dict) -> str:
    return json.dumps(event, separators=(",", ":")) + "\n"

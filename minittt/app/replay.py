"""A reply's events, told again as frames: what each forward pass of the network did to which token.

The reply page plays them; so can anything else that shows how a reply was written. Every text token and every denoising
step is one forward pass and one frame.
"""

from collections.abc import Callable
from dataclasses import dataclass

from minittt.attention import TARGET, TEXT
from minittt.decoding import BlockClosed, DenoisingStep, SpanClosed, TextToken
from minittt.errors import MinitttError
from minittt.talker import Reply


@dataclass
class Item:
    """One token in its final state. Filler that a full-span reply threw away has no position."""

    id: int
    kind: int
    group: int = -1
    position: int | None = None  # in prompt and reply


def count(n: int, what: str) -> str:
    """'1 step', '2 steps'."""
    plural = "" if n == 1 else "s"
    return f"{n} {what}{plural}"


def replay(reply: Reply, mask_id: int, name: Callable[[int], str]) -> tuple[list[Item], list[dict]]:
    """All tokens that the reply ever held, in order, and one frame per forward pass, as JSON-ready data.

    A frame has `at`, the first item it is about; `n`, how many items; and `say`, what happened, in words. The frame of a
    denoising step also has `revealed`, which of the n slots; `drawn`, their ids; `entropy` of each of the n slots, in per
    cent of the reply's highest; and `closed`, if the block is complete after it (the items then have their final ids). An
    item is there from its first frame on. name: a text id -> its name. Raises: MinitttError if the events do not add up to
    the reply's ids.
    """
    items: list[Item] = []
    frames: list[dict] = []
    dropped: list[Item] = []  # EOA after the first of a span
    span_start = 0  # the number of its first item
    for event in reply.events:
        if isinstance(event, TextToken):
            frames.append({"at": len(items), "n": 1, "say": f"text token {name(event.id)}"})
            items.append(Item(event.id, TEXT))
        elif isinstance(event, DenoisingStep):
            if event.step == 0:
                if event.block == 0:
                    span_start = len(items)
                items += [Item(mask_id, TARGET) for _ in event.ids]
            frames.append({"at": len(items) - len(event.ids), **denoising_frame(event, mask_id)})
        elif isinstance(event, BlockClosed):
            for item, final in zip(items[-len(event.ids) :], event.ids, strict=True):
                item.id = final
            frames[-1] |= {"closed": True, "say": frames[-1]["say"] + in_closing(event)}
        elif isinstance(event, SpanClosed):
            dropped += items[span_start + len(event.ids) + 1 :]  # all after its first EOA
    if len(items) == len(reply.ids):
        dropped = []  # the reply keeps its filler
    _place(items, dropped, reply)
    entropies = [value for frame in frames for value in frame.get("entropy", [])]
    highest = max([1e-9, *entropies])
    for number, frame in enumerate(frames, 1):
        frame["say"] = f"forward {number} of {len(frames)}: {frame['say']}"
        if "entropy" in frame:
            frame["entropy"] = [round(100 * max(0.0, value) / highest) for value in frame["entropy"]]
    return items, frames


def denoising_frame(event: DenoisingStep, mask_id: int) -> dict:
    """The frame of one denoising step."""
    place = f"span {event.span + 1}, block {event.block + 1}, step {event.step + 1}"
    say = f"{place}: {count(len(event.revealed), 'slot')} revealed"
    n_masked = event.ids.count(mask_id)
    if n_masked:
        say += f", {n_masked} still masked"
    return {
        "n": len(event.ids),
        "revealed": list(event.revealed),
        "drawn": [event.ids[slot] for slot in event.revealed],
        "entropy": list(event.entropies),
        "say": say,
    }


def in_closing(event: BlockClosed) -> str:
    """What a frame says about the block that is complete after it."""
    say = "; block closed"
    if event.changed:
        say += f", {count(event.changed, 'slot')} overwritten"
    if event.forced:
        say += ", ended by force"
    return say


def _place(items: list[Item], dropped: list[Item], reply: Reply) -> None:
    """Give each item its group and position; what was dropped keeps the group of its span."""
    gone = {id(item) for item in dropped}
    kept = [item for item in items if id(item) not in gone]
    if [item.id for item in kept] != list(reply.ids):
        raise MinitttError(
            "the events of this reply do not add up to its tokens: give it as `Talker.converse` made it"
        )
    start = len(reply.prompt)
    for position, (item, group) in enumerate(zip(kept, reply.groups[start:], strict=True), start):
        item.position = position
        item.group = group
    for before, item in zip(items, items[1:], strict=False):
        if id(item) in gone:
            item.group = before.group

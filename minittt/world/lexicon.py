"""What is said in the spoken world, and by whom: numbers, sums, counting, echoes; four sets of voices.

Sentences are text only: lower case, one space between words. Voices are espeak-ng's, each an English voice with a variant;
the four sets have no member in common. USER asks in training, UNSEEN asks only in tests, REPLY answers (exactly four; which
one is never given), REFEREE is heard only by the recogniser that judges. LOW and HIGH sort them for captions.
"""

import numpy as np

# ---- voices


def _english(names: str) -> tuple[str, ...]:
    return tuple(f"en-us+{name}" for name in names.split())


USER_LOW = _english(
    "m1 m2 m3 m4 m5 m6 Andy Denis Diogo Gene2 Lee Michael Mike Reed edward ian john paul victor quincy"
)
USER_HIGH = _english("f1 f4 f5 Alicia Annie belinda grandma steph anikaRobot shelby")
USER_OTHER = _english(  # in training too, but sorted neither as low nor as high
    "AnxiousAndy RicishayMax UniRobot benjamin edward2 grandpa iven2 iven3 klatt2 klatt3 michel pedro steph2 steph3 zac"
)
USER = USER_LOW + USER_HIGH + USER_OTHER
UNSEEN_LOW = _english("m7 Alex adam travis")
UNSEEN_HIGH = _english("f3 aunty linda")
UNSEEN = UNSEEN_LOW + UNSEEN_HIGH
REPLY = _english("m8 rob f2 anika")  # about 80, 140, 190 and 270 Hz: nobody takes one for another
REFEREE = _english(
    "Gene Hugo Henrique Marco Mario Jacky Storm Nguyen antonio boris david ed gustave iven kaukovalta klatt "
    "marcelo max miguel norbert pablo robert sandro Andrea mike2 Tweaky announcer caleb"
)


# ---- sentences

NUMBERS = (
    "zero one two three four five six seven eight nine ten "
    "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"
).split()
OPERATORS = ("plus", "minus")
WORDS = (*NUMBERS, *OPERATORS, "equals", "what", "is", "count", "from", "to", "say", "again", "hello", "and")
NOT_UNDERSTOOD = "i did not understand"  # the reply to what was never taught
ALL_WORDS = (*WORDS, "how", "much", *NOT_UNDERSTOOD.split())  # all that users and replies say
SUMS = tuple((a, "plus", b) for a in range(10) for b in range(10)) + tuple(
    (a, "minus", b) for a in range(10) for b in range(a + 1)
)
COUNTS = tuple((a, b) for a in range(13) for b in range(a + 2, min(a + 6, 20) + 1))


def value(a: int, operator: str, b: int) -> int:
    """The value of a sum. Example: value(2, 'plus', 3) is 5."""
    return a + b if operator == "plus" else a - b


def question(a: int, operator: str, b: int) -> str:
    """'what is two plus three'."""
    return f"what is {NUMBERS[a]} {operator} {NUMBERS[b]}"


def equation(a: int, operator: str, b: int) -> str:
    """'two plus three equals five': the whole equation, which a small model learns sooner than the result alone."""
    return f"{NUMBERS[a]} {operator} {NUMBERS[b]} equals {NUMBERS[value(a, operator, b)]}"


def count_request(a: int, b: int) -> str:
    """'count from three to nine'."""
    return f"count from {NUMBERS[a]} to {NUMBERS[b]}"


def count_reply(a: int, b: int, chunk: int = 3) -> list[str]:
    """['three four five', 'six seven eight', 'nine']: chunks of `chunk` words, each spoken after it is written."""
    words = NUMBERS[a : b + 1]
    chunks = []
    for start in range(0, len(words), chunk):
        chunks.append(" ".join(words[start : start + chunk]))
    return chunks


def ways_to_ask(a: int, operator: str, b: int) -> tuple[str, ...]:
    """A sum as people ask for it: 'what is two plus three', 'two plus three', 'how much is two plus three'."""
    bare = f"{NUMBERS[a]} {operator} {NUMBERS[b]}"
    return question(a, operator, b), bare, f"how much is {bare}"


Fact = tuple[int, str, int] | tuple[int, int]  # a sum, or where counting begins and ends


def fact_of(text: str) -> Fact | None:
    """The sum or the counting that a question is about, however it is asked; None for any other question."""
    return _FACTS.get(text)


def reply_to(text: str) -> list[str] | None:
    """The reply to what a user says, chunk by chunk: sums, counting, echo; None if it is none of these."""
    fact = fact_of(text)
    if fact in _ALL_SUMS:
        return [equation(*fact)]
    if fact is not None:
        return count_reply(*fact)
    first, *rest = text.split()
    if first == "say" and rest and all(word in NUMBERS for word in rest):
        return [" ".join(rest)]
    return None


def draw_sentence(rng: np.random.Generator) -> str:
    """A sentence of the spoken world, or one to nine words in random order: hearing must not rest on grammar."""
    kind = rng.random()
    chosen_sum = SUMS[rng.integers(len(SUMS))]
    chosen_count = COUNTS[rng.integers(len(COUNTS))]
    if kind < 0.15:
        return question(*chosen_sum)
    if kind < 0.3:
        return equation(*chosen_sum)
    if kind < 0.4:
        return count_request(*chosen_count)
    if kind < 0.5:
        return " ".join(count_reply(*chosen_count))
    words = NUMBERS if kind < 0.75 else WORDS
    longest = rng.integers(2, 11)
    return " ".join(rng.choice(words, rng.integers(1, longest)))


_ALL_SUMS = frozenset(SUMS)
_FACTS: dict[str, Fact] = {text: fact for fact in SUMS for text in ways_to_ask(*fact)}
_FACTS |= {count_request(*fact): fact for fact in COUNTS}

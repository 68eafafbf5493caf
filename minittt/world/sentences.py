"""What is said in the spoken world: numbers, sums, counting, echoes. Text only, all lower case, one blank between words."""

NUMBERS = (
    "zero one two three four five six seven eight nine ten "
    "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"
).split()
OPERATORS = ("plus", "minus")
WORDS = (*NUMBERS, *OPERATORS, "equals", "what", "is", "count", "from", "to", "say", "again", "hello", "and")
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
    """'two plus three equals five': the whole equation, which a small model learns sooner than the bare result."""
    return f"{NUMBERS[a]} {operator} {NUMBERS[b]} equals {NUMBERS[value(a, operator, b)]}"


def count_request(a: int, b: int) -> str:
    """'count from three to nine'."""
    return f"count from {NUMBERS[a]} to {NUMBERS[b]}"


def count_reply(a: int, b: int, chunk: int = 3) -> list[str]:
    """['three four five', 'six seven eight', 'nine']: chunks of `chunk` words, each to be spoken after it is written."""
    words = NUMBERS[a : b + 1]
    return [" ".join(words[i : i + chunk]) for i in range(0, len(words), chunk)]

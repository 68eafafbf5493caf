"""Many mutated files for one reader, in a process of its own: `python -m tests.fuzz.run READER --cases 100000`.

Prints one JSON object and writes it to --json as it goes: cases, how many were read, kinds of error, and by how many
MiB the resident memory grew at most (Linux). An error that is not ours is reported with the number of its case,
which is all that is needed to see it again: `--first NUMBER --cases 1`. A process that dies (a library in C may end it)
is reported with the case it died in, and the next process goes on after that one.

What `benchmarks/figures/fuzz.json` holds was counted so. One growth is not ours: libsndfile 1.2.2 keeps 5.7 KiB of each
malformed OGG that it refuses to open.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path

STEP = 200  # cases between two notes


def resident() -> float:
    """MiB of memory that this process holds; 0 where there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def child(name: str, first: int, cases: int, minutes: float) -> None:
    """Run cases and print a note, one JSON object a line, before those that may kill the process and after each STEP."""
    import resource

    from minittt.codec import CodecError
    from minittt.errors import MinitttError
    from tests.fuzz.readers import READERS

    errors: Counter[str] = Counter()
    foreign = {}
    with tempfile.TemporaryDirectory() as folder:
        reader = READERS[name](Path(folder))
        reader.read()  # valid, and all that is loaded once
        until = time.time() + 60 * minutes
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        for number in range(first, first + cases):
            print(json.dumps({"at": number}), flush=True)
            try:
                with redirect_stdout(sys.stderr):  # readers may warn; stdout is for notes alone
                    reader.case(number)
                errors["read"] += 1
            except (MinitttError, CodecError) as error:
                errors[type(error).__name__] += 1
            except Exception as error:
                errors[f"foreign {type(error).__name__}"] += 1
                foreign.setdefault(f"{type(error).__name__}: {error!s:.80}", number)
            is_last = number == first + cases - 1 or time.time() > until
            if is_last or (number - first) % STEP == STEP - 1:
                grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
                note = {"cases": number - first + 1, "errors": errors, "foreign": foreign}
                print(
                    json.dumps({**note, "grown": round(grown, 1), "held": round(resident(), 1)}), flush=True
                )
            if is_last:
                return


def fuzz(name: str, first: int = 0, cases: int = 1000, minutes: float = 1e9, out: Path | None = None) -> dict:
    """Cases first to first + cases - 1 of one reader, or as many as fit into some minutes."""
    total = {
        "reader": name,
        "first": first,
        "cases": 0,
        "errors": {},
        "foreign": {},
        "deaths": [],
        "grown": 0.0,
    }
    until = time.time() + 60 * minutes
    errors: Counter[str] = Counter()
    at = first
    while at < first + cases and time.time() < until:
        arguments = [
            name,
            "--first",
            str(at),
            "--cases",
            str(first + cases - at),
            "--minutes",
            str((until - time.time()) / 60),
        ]
        command = [sys.executable, "-m", "tests.fuzz.run", *arguments, "--child"]
        last = at
        seen: dict = {"cases": 0, "errors": {}, "foreign": {}, "grown": 0.0}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                note = json.loads(line)
                if "at" in note:
                    last = note["at"]
                    continue
                seen = note
                if out is not None:
                    so_far = {
                        **total,
                        "cases": total["cases"] + note["cases"],
                        "errors": errors + Counter(note["errors"]),
                    }
                    out.write_text(json.dumps(so_far, indent=1) + "\n", encoding="utf-8")
        errors += Counter(seen["errors"])
        total["foreign"].update(seen["foreign"])
        total["grown"] = max(total["grown"], seen["grown"])
        total["cases"] += last - at + 1
        at = last + 1
        if process.returncode:
            total["deaths"].append(last)
            if len(total["deaths"]) > 20:
                break
    total["errors"] = dict(sorted(errors.items()))
    if out is not None:
        out.write_text(json.dumps(total, indent=1) + "\n", encoding="utf-8")
    return total


def main() -> int:
    """Exit code 1 if a reader raised what is not ours, or its process died."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reader")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.reader, args.first, args.cases, args.minutes)
        return 0
    found = fuzz(args.reader, args.first, args.cases, args.minutes, args.json)
    print(json.dumps(found))
    return 1 if found["foreign"] or found["deaths"] else 0


if __name__ == "__main__":
    sys.exit(main())

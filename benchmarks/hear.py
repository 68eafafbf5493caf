"""Several talkers on one HTML page: a row for each question, a player for each talker, with its text below.

python benchmarks/hear.py data_samples/wav/question_?.wav --talkers runs/ar/talker.safetensors reference -o hear.html
"""

import argparse
import base64
import io
from pathlib import Path

import jinja2
import numpy as np
import soundfile

from minittt.app import typed
from minittt.app.shipped import codec_for
from minittt.codec import read_audio, whole_file
from minittt.evaluation.evaluate import trained_with
from minittt.settings import talker_file
from minittt.talker import Talker, decoding_settings

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Talkers side by side</title></head><body><table>
<tr><th>question</th>{% for name in names %}<th>{{ name }}</th>{% endfor %}</tr>{% for question, answers in rows %}
<tr><th>{{ question }}</th>{% for text, wav in answers %}<td>
{% if wav %}<audio controls src="data:audio/wav;base64,{{ wav }}"></audio>{% endif %}<p>{{ text or "(no text)" }}</p>
</td>{% endfor %}</tr>{% endfor %}</table></body></html>"""


def answer(talker: Talker, question: str, seed: int) -> tuple[str, str]:
    """Text and sound of an answer (a WAV in base64, empty if silent), in blocks of 8 where the talker knows them."""
    codec = codec_for(talker, None)
    if typed.is_audio(question):
        part = talker.listen(codec, read_audio(question, codec.config.sample_rate))
    else:
        part = typed.question(question, talker.words)
    trained = [size for size in talker.info.get("block_sizes") or [] if size is not None]
    block = 8 if not trained or 8 in trained else max(trained)
    settings = decoding_settings(block, block, full_span=not trained_with(talker).two_streams)
    [reply] = talker.converse([[["system", "answer"], ["user", part]]], settings, seed)
    waves = [talker.sound(codec, span) for span in reply.spans if span]
    if not waves:
        return reply.text, ""
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(waves), codec.config.sample_rate, format="WAV")
    return reply.text, base64.b64encode(file.getvalue()).decode()


def main(arguments: list[str] | None = None) -> None:
    """Ask every talker every question, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("questions", nargs="+", help="audio files, or text in quotes")
    parser.add_argument("--talkers", nargs="+", type=talker_file, required=True)
    parser.add_argument("-o", "--output", type=Path, default=Path("hear.html"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    talkers = [Talker.load(file) for file in args.talkers]
    names = [f"{file.parent.name}/{file.name}" for file in args.talkers]
    rows = [(Path(q).name, [answer(talker, q, args.seed) for talker in talkers]) for q in args.questions]
    page = jinja2.Environment(autoescape=True).from_string(PAGE).render(names=names, rows=rows)
    with whole_file(args.output) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()

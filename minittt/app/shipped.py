"""What is shipped, by name: two talkers, and the codec and the corpus that belong to each.

    reference    has met one synthesiser, in good recordings; all studies, chapters and notebooks are about it
    people       has met voices of many makes, and people, anywhere; it listens through the front end

A talker refuses tokens from another codec, so if you name a talker you need not name the codec.
"""

from pathlib import Path

from minittt.codec import Codec
from minittt.data.corpus import Corpus, load_corpus
from minittt.data.tokenisers import JsonTokeniser
from minittt.errors import MinitttError
from minittt.settings import SHIPPED, shipped_folder
from minittt.talker import Talker


def codec_for(talker: Talker, file: Path | None) -> Codec:
    """The codec in `file`, or if none is given, the shipped codec that the talker was trained with.

    Raises MinitttError if the talker was trained with another codec.
    """
    if file is not None:
        codec = Codec.load(file)
        talker.check_codec(codec)
        return codec
    for name in SHIPPED:
        codec = Codec.load(shipped_folder(name) / "codec.safetensors")
        if codec.fingerprint() == talker.info["codec"]:
            return codec
    raise MinitttError(
        f"this talker speaks through codec {talker.info['codec']}, which is not a shipped one: name its file with --codec"
    )


def corpus_for(talker: Talker, folder: Path | None) -> Corpus:
    """The corpus in `folder`, or if none is given, the shipped corpus that belongs to the talker.

    A talker that was an LLM reads any corpus of its codec with its own tokeniser. Raises MinitttError if there is none.
    """
    was_llm = isinstance(talker.tokeniser, JsonTokeniser)
    if folder is not None:
        corpus = load_corpus(folder)
        return corpus.read_by(talker.tokeniser) if was_llm else corpus
    for name in SHIPPED:
        corpus = load_corpus(shipped_folder(name) / "corpus")
        if was_llm and corpus.info["codec"] == talker.info["codec"]:
            return corpus.read_by(talker.tokeniser)
        if corpus.tokeniser.fingerprint() == talker.tokeniser.fingerprint():
            return corpus
    raise MinitttError("this talker was not trained on a shipped corpus: name the corpus that belongs to it")

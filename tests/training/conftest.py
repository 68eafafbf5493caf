"""What several test files about language models share."""

import sys

import pytest


@pytest.fixture(scope="module")
def transformers():
    """The library, imported as if torchaudio were not installed: one built for another torch breaks it with OSError."""
    pytest.importorskip("tokenizers")
    before = sys.modules.get("torchaudio")
    sys.modules["torchaudio"] = None
    try:
        library = pytest.importorskip("transformers")
        library.utils.logging.disable_progress_bar()
        from transformers import LlamaForCausalLM, Qwen2ForCausalLM  # noqa: F401 (loaded now, not when first used)

        yield library
    finally:
        del sys.modules["torchaudio"]
        if before is not None:
            sys.modules["torchaudio"] = before

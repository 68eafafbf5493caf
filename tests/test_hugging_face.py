"""What chapters 4 and 5 show with a Hugging Face model, and how transformers is imported beside encodec's torchaudio."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.test_lift import run_alone

ROOT = Path(__file__).resolve().parents[1]
DECODING = (ROOT / "tutorials" / "04_block_decoding.md").read_text(encoding="utf-8")
TRAINING = (ROOT / "tutorials" / "05_train_a_tiny_talker.md").read_text(encoding="utf-8")
needs_transformers = pytest.mark.skipif(not find_spec("transformers"), reason="transformers is not installed")

# A fresh Python, in which torchaudio has not been imported: the way of tutorials/from_tiny_to_real.md.
BARRED = """
import sys
sys.modules["torchaudio"] = None
{first}
{second}
assert sys.modules["torchaudio"] is None
"""
ENCODEC = "from minittt.codec import import_encodec; import_encodec()"
LOADED = """
import torch
from tests.small_llm import small_model, write_llm
from minittt.context import CachedContext
from minittt.decoding import Settings, TokenClasses, collect, generate
from transformers import Qwen2ForCausalLM

ours = small_model(tied=False)
write_llm(Path(sys.argv[1]), ours)

def theirs(attention):
    return Qwen2ForCausalLM.from_pretrained(sys.argv[1], attn_implementation=attention, dtype=torch.float32).eval()
"""
SAME_REPLIES = """
V = ours.config.vocab_size
ids = torch.arange(V)
classes = TokenClasses(ids < 200, (ids >= 200) & (ids < 280), open_audio=7, end_audio=270, end=8, mask=285, pad=286)
prompts = [[3, 4, 7], [5, 210, 211, 270, 6, 9], [1]]
groups = [[0, 1, 2], [0, 1, 1, 1, 2, 3], [0]]
settings_of = [
    Settings(block_size=4, steps=2, max_text=6, max_span=12, max_spans=2),
    Settings(block_size=None, steps=3, max_text=4, max_span=6, max_spans=2),
]
for settings in settings_of:
    replies = []
    for context in (CachedContext(ours, 3, 286), HuggingFaceContext(theirs("sdpa"), 3, 286)):
        generators = [torch.Generator().manual_seed(row) for row in range(3)]
        replies.append(collect(generate(context, prompts, groups, classes, settings, generators)))
    assert replies[0] == replies[1], replies
    assert sum(len(reply.spans) for reply in replies[0]) > 0
"""
EAGER = """
ids = torch.tensor([[3, 4, 5, 210, 211]])
groups = torch.tensor([0, 1, 2, 3, 3])
sees = (groups <= groups[:, None])[None, None]  # (1, 1, L, L)
everything = torch.ones_like(sees)
with torch.no_grad():
    right = theirs("sdpa")(ids, attention_mask=sees).logits
    eager = theirs("eager")
    as_numbers = eager(ids, attention_mask=sees).logits
    added = eager(ids, attention_mask=torch.where(sees, 0.0, torch.finfo(torch.float32).min)).logits
    by_ours = ours(ids, sees[0])
torch.testing.assert_close(right, by_ours, atol=1e-4, rtol=1e-4)
torch.testing.assert_close(added, right, atol=1e-4, rtol=1e-4)
assert (as_numbers - right).abs().max() > 0.01
"""

SAME_LOSS = """
from types import SimpleNamespace
from minittt.attention import PAD_KIND, SOURCE, TARGET, TEXT
from minittt.data.batches import lay_out, pack
from minittt.data.conversation import TokenSequence, filler
from minittt.objective import preset, unified_loss

# 1. Two conversations: text ids below 200, codes 200 to 269, EOA 270. The second has no audio to hear, and is shorter.
OPEN, END, EOA, MASK, PAD, BLOCK = 7, 8, 270, 285, 286, 4

def conversation(prompt, reply):
    sequence = TokenSequence()
    for kind, ids in prompt:
        sequence.add(ids, kind, False)
    for kind, ids in reply:
        n_filler = filler(len(ids), BLOCK) if kind == TARGET else 0
        sequence.add(ids + [EOA] * n_filler, kind, True)
    return sequence

long = conversation(
    [(TEXT, [3, OPEN]), (SOURCE, [210, 211, EOA]), (TEXT, [4])],
    [(TEXT, [5, OPEN]), (TARGET, [212, 213, 214, 215, 216, EOA]), (TEXT, [6, OPEN]), (TARGET, [217, EOA]), (TEXT, [END])],
)
short = conversation([(TEXT, [3, 9, 4])], [(TEXT, [5, OPEN]), (TARGET, [220, 221, 222, EOA]), (TEXT, [END])])

# 2. The loss of the package, one conversation in each row.
documents = [lay_out(sequence, BLOCK) for sequence in (long, short)]
batch = pack(documents, documents[0].shape[1], PAD)
assert len(batch.ids) == 2
text_ids = torch.arange(200)
audio_ids = torch.arange(200, EOA + 1)
vocabulary = SimpleNamespace(mask=MASK, text_choices=lambda: text_ids, audio_choices=lambda: audio_ids)

# 3. The same rows for the chapter's function, which makes the second stream itself.
L = len(long.ids)
padding = L - len(short.ids)
ids = torch.tensor([long.ids, short.ids + [PAD] * padding])  # (2, L)
kinds = torch.tensor([long.kinds, short.kinds + [PAD_KIND] * padding])  # (2, L)
text_targets = torch.tensor([long.targets, short.targets + [False] * padding])  # (2, L)
rows = (ids, kinds, text_targets, BLOCK, text_ids, audio_ids, MASK)

# 4. Equal weights and equal noise give equal losses and gradients, draw after draw.
model = theirs("sdpa")
for seed in range(5):
    ours.zero_grad()
    model.zero_grad()
    wanted = unified_loss(ours, batch, vocabulary, preset("exact"), torch.Generator().manual_seed(seed)).total
    found = two_stream_loss(model, *rows, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    wanted.backward()
    found.backward()
    gradient = model.model.embed_tokens.weight.grad
    torch.testing.assert_close(gradient, ours.embed_tokens.weight.grad, rtol=1e-4, atol=1e-5)
    assert gradient.abs().max() > 0.1

# 5. Eager attention takes the mask for numbers, and says nothing.
eager = two_stream_loss(theirs("eager"), *rows, torch.Generator().manual_seed(4))
assert (eager - found).abs() > 0.01
"""


def block_with(text: str, chapter: str = DECODING) -> str:
    """The one python block of the chapter that holds `text`."""
    blocks = re.findall(r"^```python\n(.*?)^```", chapter, flags=re.DOTALL | re.MULTILINE)
    [found] = [block for block in blocks if text in block]
    return found


def run_fresh(script: str, *arguments: str) -> None:
    """Run a script in a new Python that finds this repository."""
    script = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\n" + script
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@needs_transformers
@pytest.mark.slow
@pytest.mark.parametrize("encodec_first", [False, True])
def test_transformers_imports_beside_encodec(encodec_first, tmp_path):
    """In either order; and what the tutorial shows runs: replies equal ours, eager attention needs numbers."""
    lines = [
        "from transformers import Qwen2ForCausalLM",
        ENCODEC,
    ]
    if encodec_first:
        lines.reverse()
    run_fresh(BARRED.format(first=lines[0], second=lines[1]))


@needs_transformers
def test_a_hugging_face_context_replies_as_ours(tmp_path):
    script = (
        BARRED.format(first=ENCODEC, second="")
        + LOADED
        + block_with("class HuggingFaceContext")
        + SAME_REPLIES
    )
    run_fresh(script, str(tmp_path / "llm"))


@needs_transformers
def test_the_loss_for_a_hugging_face_model_is_that_of_the_package(tmp_path):
    """On the two core modules alone, copied; the chapter's block as it stands."""
    copies = tmp_path / "copies"
    copies.mkdir()
    for module in ("attention.py", "diffusion.py"):
        source = (ROOT / "minittt" / module).read_text(encoding="utf-8")
        (copies / module).write_text(source, encoding="utf-8")
    find_copies = f"sys.path.insert(0, {str(copies)!r})\n"
    block = block_with("def two_stream_loss", TRAINING)
    run_fresh(
        BARRED.format(first="", second="") + LOADED + find_copies + block + SAME_LOSS, str(tmp_path / "llm")
    )


@needs_transformers
@pytest.mark.slow
def test_eager_attention_takes_a_boolean_mask_for_numbers(tmp_path):
    run_fresh(BARRED.format(first="", second="") + LOADED + EAGER, str(tmp_path / "llm"))


def test_decoding_without_text_runs_as_the_chapter_shows(tmp_path):
    (tmp_path / "decoding.py").write_text(
        (ROOT / "minittt" / "decoding.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    done = run_alone(tmp_path, block_with("ids: 0..3 codes"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1 (6,)"

"""Text-to-Talk in one file: a Transformer that writes text left to right and fills in audio by absorbing diffusion.

    python tutorials/tiny_ttt.py          # trains for about a minute on a CPU core, then answers

It is asked a few letters, writes them down, and "speaks" them: each letter as two audio codes, in one of three voices that
is drawn at random and not given. So the codes of a span depend on each other, and a block filled in one step mixes voices.

Every token has a group number: a text token is a group of its own, a block of audio is one group. Who sees whom, what is
trained, and how a reply is decoded all follow from it (arXiv 2509.20072, in the variant that this project calls `exact`).
"""

import argparse
import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The vocabulary: letters and control tokens are text; codes and EOA are audio; MASK is never predicted.
LETTERS, VOICES, BLOCK = 8, 3, 4
ASK, ANSWER, OPEN, END = range(LETTERS, LETTERS + 4)
FIRST_CODE = END + 1
EOA = FIRST_CODE + VOICES * LETTERS * 2
MASK = EOA + 1
TEXT_IDS = torch.arange(0, FIRST_CODE)
AUDIO_IDS = torch.arange(FIRST_CODE, MASK)
NAMES = "abcdefgh"  # of the letters, for printing
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


# ---- the toy world


def speak(letters: list[int], voice: int) -> list[int]:
    """Two codes for each letter, in one voice; then EOA, repeated up to a whole number of blocks."""
    codes = []
    for letter in letters:
        first = FIRST_CODE + (voice * LETTERS + letter) * 2
        codes += [first, first + 1]
    n_filler = -(len(codes) + 1) % BLOCK
    return codes + [EOA] * (1 + n_filler)


def conversation(letters: list[int], voice: int) -> tuple[list[int], int, int]:
    """The tokens of one conversation, and where its reply and its audio begin."""
    prompt = [ASK, *letters, ANSWER]
    text = [*letters, OPEN]
    audio = speak(letters, voice)
    return prompt + text + audio + [END], len(prompt), len(prompt) + len(text)


# ---- groups and masks


def groups_of(n_text_before: int, n_audio: int, n_text_after: int) -> Tensor:
    """One group for each text token, one for each block of audio, counting up: (L,)."""
    before = torch.arange(n_text_before)
    audio = n_text_before + torch.arange(n_audio) // BLOCK
    after = n_text_before + n_audio // BLOCK + torch.arange(n_text_after)
    return torch.cat([before, audio, after])


def two_stream_mask(groups: Tensor, noisy: Tensor) -> Tensor:
    """Who sees whom, (L, L): groups (L,), noisy (L,) bool marks the second copy of the audio."""
    q_group, k_group = groups[:, None], groups[None, :]
    q_noisy, k_noisy = noisy[:, None], noisy[None, :]
    clean_sees_clean = ~q_noisy & ~k_noisy & (k_group <= q_group)
    noisy_sees_clean = q_noisy & ~k_noisy & (k_group < q_group)
    noisy_sees_noisy = q_noisy & k_noisy & (k_group == q_group)
    return clean_sees_clean | noisy_sees_clean | noisy_sees_noisy


# ---- the network


class Layer(nn.Module):
    """Attention under a mask, then a two-layer network."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, L, d), mask (L, L) -> (B, L, d)."""
        B, L, d = x.shape
        qkv = self.qkv(self.norm_1(x)).view(B, L, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, L, d / heads) each
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(y.transpose(1, 2).reshape(B, L, d))
        return x + self.mlp(self.norm_2(x))


class Transformer(nn.Module):
    """Token ids, positions and a mask in, logits out. Nothing tells it how many tokens are masked."""

    def __init__(self, d: int = 64, layers: int = 3, heads: int = 4) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(MASK + 1, d), nn.Embedding(64, d)
        self.layers = nn.ModuleList(Layer(d, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, MASK + 1)

    def forward(self, ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """ids (B, L), positions (L,), mask (L, L) bool, True = may see -> logits (B, L, V)."""
        x = self.tokens(ids) + self.places(positions)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(self.norm(x))


# ---- training


def mask_blocks(B: int, A: int) -> tuple[Tensor, Tensor]:
    """In each block of n slots mask a uniform k-subset, k uniform on 1..n: masked (B, A) bool, weight n/k (B, A)."""
    k = torch.randint(1, BLOCK + 1, (B, A // BLOCK, 1))
    order = torch.rand(B, A // BLOCK, BLOCK).argsort(-1)  # the slots of each block, shuffled
    rank = order.argsort(-1)  # each slot's place in that order
    masked = rank < k
    weight = masked * BLOCK / k  # makes the loss an unbiased estimate of a bound on -log p
    return masked.flatten(1), weight.flatten(1)


def losses(model: Transformer, ids: Tensor, reply_start: int, audio_start: int) -> tuple[Tensor, Tensor]:
    """Nats per text token and per audio slot of a batch (B, L) of conversations of one length; END is its last token."""
    B, L = ids.shape
    A = L - 1 - audio_start  # audio slots
    # 1. Two streams: all tokens clean, and the audio once more, noised, at the same positions and in the same groups.
    audio = ids[:, audio_start : L - 1]  # (B, A)
    masked, weight = mask_blocks(B, A)  # (B, A), (B, A)
    masked = masked.to(ids.device)
    weight = weight.to(ids.device)
    noised = torch.where(masked, MASK, audio)  # (B, A)
    both = torch.cat([ids, noised], dim=1)  # (B, L + A)
    positions = torch.cat([torch.arange(L), torch.arange(audio_start, L - 1)])
    groups = groups_of(audio_start, A, 1)
    groups = torch.cat([groups, groups[audio_start : L - 1]])
    noisy = torch.arange(L + A) >= L
    # 2. One forward for both.
    mask = two_stream_mask(groups, noisy)
    logits = model(both, positions.to(ids.device), mask.to(ids.device))  # (B, L + A, V)
    # 3. Text: each token of the reply from the token before it, in the clean stream. END follows the last audio slot.
    targets = torch.tensor([*range(reply_start, audio_start), L - 1])
    text_logits = logits[:, targets - 1][..., : len(TEXT_IDS)]  # (B, T, text ids)
    text = F.cross_entropy(text_logits.flatten(0, 1), ids[:, targets].flatten())
    # 4. Audio: the masked slots, each at its own place, in the noisy stream.
    audio_logits = logits[:, L:, FIRST_CODE:MASK]  # (B, A, audio ids)
    nats = F.cross_entropy(audio_logits.flatten(0, 1), (audio - FIRST_CODE).flatten(), reduction="none")
    return text, (weight * nats.view(B, A)).mean()


def train(steps: int, seed: int, batch: int = 64) -> Transformer:
    """Train on conversations drawn as it goes."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = Transformer().to(DEVICE)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for step in range(1, steps + 1):
        n = rng.randint(2, 4)  # letters; one length for all rows of a batch, so that nothing needs padding
        rows = [conversation(rng.choices(range(LETTERS), k=n), rng.randrange(VOICES)) for _ in range(batch)]
        ids = torch.tensor([row[0] for row in rows], device=DEVICE)
        text, audio = losses(model, ids, rows[0][1], rows[0][2])
        optimiser.zero_grad()
        (text + audio).backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == 1:
            print(f"step {step:5d}  text {text.item():.3f}  audio {audio.item():.3f} nats a token")
    return model.eval()


# ---- decoding


@torch.no_grad()
def look(model: Transformer, ids: list[int], groups: list[int], allowed: Tensor) -> Tensor:
    """Probabilities over the allowed ids at every position of one sequence: (L, allowed)."""
    group = torch.tensor(groups)
    # One stream: every token is finished or part of the draft.
    mask = group[None, :] <= group[:, None]  # (L, L)
    x = torch.tensor([ids], device=DEVICE)
    logits = model(x, torch.arange(len(ids), device=DEVICE), mask.to(DEVICE))[0].cpu()
    return logits[:, allowed].softmax(-1)


def denoise_block(model: Transformer, ids: list[int], groups: list[int], steps: int) -> list[int]:
    """A block of masked slots after `ids`, filled in `steps` steps, an even share of the slots in each, in random order."""
    block = [MASK] * BLOCK
    order = torch.randperm(BLOCK).tolist()
    group = groups[-1] + 1
    for step in range(steps):
        p = look(model, ids + block, groups + [group] * BLOCK, AUDIO_IDS)[-BLOCK:]  # (BLOCK, audio ids)
        drawn = AUDIO_IDS[torch.multinomial(p, 1)[:, 0]].tolist()
        for slot in order[step * BLOCK // steps : (step + 1) * BLOCK // steps]:
            block[slot] = drawn[slot]
    if EOA in block:  # everything after the first EOA is EOA
        first = block.index(EOA)
        block[first:] = [EOA] * (BLOCK - first)
    return block


def reply(model: Transformer, letters: list[int], steps: int) -> tuple[list[int], list[int]]:
    """Letters asked -> letters written and codes spoken, `steps` denoising steps per block."""
    ids = [ASK, *letters, ANSWER]
    groups = list(range(len(ids)))
    written, spoken = [], []
    while ids[-1] != END and len(ids) < 48:
        # 1. Text: the next token, the most likely one of the text ids.
        token = int(look(model, ids, groups, TEXT_IDS)[-1].argmax())
        ids.append(token)
        groups.append(groups[-1] + 1)
        if token < LETTERS:
            written.append(token)
        # 2. OPEN begins a span: block after block, until one holds EOA.
        while token == OPEN and ids[-1] != EOA and len(ids) < 48:
            block = denoise_block(model, ids, groups, steps)
            groups += [groups[-1] + 1] * BLOCK
            ids += block
            spoken += [code for code in block if code != EOA]
    return written, spoken


# ---- what more steps per block buy


def voice_of(code: int) -> int:
    """The voice that a code belongs to."""
    return (code - FIRST_CODE) // (2 * LETTERS)


def letter_of(code: int) -> int:
    """The letter that a code is half of."""
    return (code - FIRST_CODE) // 2 % LETTERS


def main() -> None:
    """Train, show a few replies, and say what more steps per block buy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model = train(args.steps, args.seed)
    rng = random.Random(args.seed + 1)
    questions = [rng.choices(range(LETTERS), k=rng.randint(2, 4)) for _ in range(50)]
    for steps in (1, 2, BLOCK):
        n_right = 0
        n_one_voice = 0
        for letters in questions:
            written, spoken = reply(model, letters, steps)
            said = [letter_of(code) for code in spoken[::2]]  # the first code of each letter
            if written == letters and said == letters:
                n_right += 1
            voices = [voice_of(code) for code in spoken]
            if len(set(voices)) == 1:
                n_one_voice += 1
        right = 100 * n_right // len(questions)  # per cent
        one_voice = 100 * n_one_voice // len(questions)
        # The last question serves as an example: what was asked, and letter and voice of each code that was said.
        asked = "".join(NAMES[letter] for letter in letters)
        codes = ""
        for code in spoken:
            codes += f"{NAMES[letter_of(code)]}{voice_of(code)} "
        example = f"asked {asked}, said (letter and voice) {codes}"
        print(f"{steps} steps a block: {right} % right, {one_voice} % in one voice; {example}")


if __name__ == "__main__":
    main()

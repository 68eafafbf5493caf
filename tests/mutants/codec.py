"""Ways to break the codec, two or more for each law that can break."""

from tests.mutants.run import Mutant

MUTANTS = [
    Mutant(
        law=1, old="    return codes.view(-1, n_codebooks).T", new="    return codes.view(n_codebooks, -1)"
    ),
    Mutant(law=1, old="codes = tokens - k * codebook_size", new="codes = tokens % (codebook_size - 1)"),
    Mutant(law=2, old="(codes + offsets[:, None]).T.flatten()", new="(codes + offsets[:, None]).flatten()"),
    Mutant(
        law=2,
        old="torch.arange(len(codes), device=codes.device) * codebook_size",
        new="torch.arange(len(codes), device=codes.device) * (codebook_size - 1)",
    ),
    Mutant(law=3, old="(codes < 0) | (codes >= codebook_size)", new="(codes < 0) | (codes > codebook_size)"),
    Mutant(law=3, old="(codes < 0) | (codes >= codebook_size)", new="(codes >= codebook_size)"),
    Mutant(law=3, old="low = int(k[i]) * codebook_size", new="low = i * codebook_size"),
    Mutant(law=4, old="len(tokens) % n_codebooks == 0", new="len(tokens) >= n_codebooks"),
    Mutant(law=4, old="(codes < codebook_size)).all()", new="(codes <= codebook_size)).all()"),
    Mutant(law=5, old="(0, -wave.shape[-1] % self.hop)", new="(0, self.hop - wave.shape[-1] % self.hop)"),
    Mutant(law=5, old="self.hop = math.prod(config.ratios)", new="self.hop = sum(config.ratios)"),
    Mutant(
        law=6,
        old="self.quantizer.vq.encode(self.latents(wave)).transpose(0, 1)",
        new="self.quantizer.vq.encode(self.latents(wave - wave.mean(0))).transpose(0, 1)",
    ),
    Mutant(
        law=6,
        old="self.quantizer.vq.decode(codes.transpose(0, 1))",
        new="self.quantizer.vq.decode(codes.flip(0).transpose(0, 1))",
    ),
    Mutant(
        law=7,
        old="math.ceil(len(wave) / self.hop)",
        new="len(waves[0]) and math.ceil(max(map(len, waves)) / self.hop)",
    ),
    Mutant(law=7, old="return [codes[i] for i in range(len(waves))]", new="return list(codes.values())"),
    Mutant(law=7, old="range(0, len(members), batch_size)", new="range(0, len(members), len(members))"),
    Mutant(
        law=8,
        old="return self.quantizer.vq.encode(self.latents(wave)).transpose(0, 1)",
        new="return self.quantizer.vq(self.latents(wave))[1].transpose(0, 1)",
    ),
    Mutant(
        law=8,
        old="return F.pad(wave[:, None],",
        new="return F.pad(wave[:, None] + 0.1 * torch.randn_like(wave[:, None]),",
    ),
    Mutant(law=9, old="sound = wave.dim() == 2 and wave.numel() > 0", new="sound = wave.dim() == 2"),
    Mutant(law=9, old="low >= 0 and high < size", new="high < size"),
    Mutant(law=9, old="low >= 0 and high < size", new="low >= 0"),
    Mutant(law=10, old="self.decoder(quantised)[:, 0,", new="self.decoder(quantised.detach())[:, 0,"),
    Mutant(law=10, old="codes.transpose(0, 1), penalty.mean()", new="codes, penalty.mean()"),
    Mutant(law=11, old="value.cpu().half()", new="value.cpu().double()"),
    Mutant(law=11, old="return codec.eval()\n\n\ndef pretrained", new="return codec\n\n\ndef pretrained"),
    Mutant(
        law=11,
        old="            codec.load_state_dict({name: value.float() for name, value in tensors.items()})\n",
        new="",
    ),
    Mutant(law=12, old="json.dumps(asdict(self.config), sort_keys=True).encode()", new='b""'),
    Mutant(law=12, old="name.encode() + value.cpu()", new="name.encode() or value.cpu()"),
    Mutant(law=13, old="    if found == wanted:", new="    if found:"),
    Mutant(
        law=13, old="(TypeError, ValueError, ArithmeticError, AssertionError, RuntimeError)", new="ValueError"
    ),
    Mutant(
        law=13,
        old="(SafetensorError, OSError, ValueError, RecursionError) as error:",
        new="OSError as error:",
    ),
    Mutant(
        law=14, old="soxr.resample(channels.mean(axis=1), rate, sample_rate)", new="channels.mean(axis=1)"
    ),
    Mutant(law=14, old="soxr.resample(channels.mean(axis=1), rate, sample_rate)", new="channels.sum(axis=1)"),
    Mutant(law=15, old="np.clip(wave, -1, 1)", new="wave / max(1, np.abs(wave).max())"),
    Mutant(law=15, old="sample_rate, _SUBTYPES", new="sample_rate // 2, _SUBTYPES"),
    Mutant(law=15, old="        path.parent.mkdir(parents=True, exist_ok=True)\n", new=""),
    Mutant(law=16, old="channels.mean(axis=1)", new="channels[:, 0]"),
    Mutant(law=16, old="wave / max(1.0, peak)", new="wave.clip(-1, 1)"),
    Mutant(law=17, old="_require(peak >= SILENCE", new="_require(peak > 0"),
    Mutant(law=17, old="_require(np.isfinite(wave).all()", new="_require(True"),
    Mutant(law=17, old="(RuntimeError, TypeError) as error", new="TypeError as error"),
    Mutant(law=18, old="        os.replace(unfinished, path)\n", new=""),
    Mutant(law=18, old="            unfinished.unlink(missing_ok=True)", new="            pass"),
    Mutant(law=18, old='unfinished = path.with_name(f".{os.getpid()}-{end}")', new="unfinished = path"),
    Mutant(law=19, old="(ImportError, OSError, RuntimeError)", new="ImportError"),
    Mutant(law=19, old="(ImportError, OSError, RuntimeError)", new="OSError"),
    Mutant(law=19, old='            del sys.modules["torchaudio"]\n', new="            pass\n"),
    Mutant(law=20, old="causal=True, true_skip=False", new="causal=False, true_skip=False"),
    Mutant(law=20, old='pad_mode="reflect"', new='pad_mode="constant"'),
    Mutant(law=20, old="int(bandwidth / 0.75)", new="int(bandwidth / 1.5)"),
    Mutant(law=21, old="bool(self.ratios) and", new="True and"),
    Mutant(law=21, old="self.n_filters - 1, self.lstm_layers + 1", new="self.n_filters"),
    Mutant(law=22, old="import soundfile\n", new="import soundfile\nimport minittt.errors\n"),
    Mutant(law=22, old="from codec import Codec,", new="from minittt.codec import Codec,"),
    Mutant(law=23, old="reach = self._reach()", new="reach = 0"),
    Mutant(law=23, old="yield start, stop, first - start, kept", new="yield start, stop, 0, kept"),
    Mutant(law=23, old="frames = layers[:before](quantised)", new="frames = layers[:1](quantised)"),
    Mutant(law=23, old="length = max(1, round(seconds * self.frame_rate))", new="length = n_frames"),
]

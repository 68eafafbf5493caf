# %% [markdown]
# Solutions to the exercises of notebook 01, and wrong answers that its checks refuse.


# %% tags=["exercise-1"]
def residual_quantise(latents, codebooks):
    codes, left = [], latents
    for codebook in codebooks:
        codes.append(nearest(left, codebook))  # (T,)
        left = left - codebook[codes[-1]].T  # (d, T)
    return torch.stack(codes), left


# %% tags=["wrong-1"]
def residual_quantise(latents, codebooks):  # every codebook looks at the latents themselves
    codes = [nearest(latents, codebook) for codebook in codebooks]
    return torch.stack(codes), latents - sum(book[c].T for book, c in zip(codebooks, codes, strict=True))


# %% tags=["wrong-1"]
def residual_quantise(latents, codebooks):  # returns the sum in place of what is left over
    codes, left = [], latents
    for codebook in codebooks:
        codes.append(nearest(left, codebook))
        left = left - codebook[codes[-1]].T
    return torch.stack(codes), latents - left


# %% tags=["wrong-1"]
def residual_quantise(latents, codebooks):  # overwrites what came in
    codes = []
    for codebook in codebooks:
        codes.append(nearest(latents, codebook))
        latents -= codebook[codes[-1]].T
    return torch.stack(codes), latents


# %% [markdown]
# 24000 / 320 = 75 frames a second; a code has 10 bits, so one codebook costs 750 bit/s, and 6000 bit/s are 8 codebooks.
# 3.01 s are 72240 samples, 225.75 frames: 226 with the last one filled up. 226 * 8 tokens.

# %% tags=["exercise-2"]
n_tokens = math.ceil(3.01 * 24000 / 320) * 8

# %% tags=["wrong-2"]
n_tokens = 226

# %% tags=["wrong-2"]
n_tokens = 225 * 8

# %% tags=["wrong-2"]
n_tokens = round(225.75 * 8)

# %% tags=["wrong-2"]
n_tokens = 226 * 8 * 10  # bits, not tokens


# %% tags=["exercise-3"]
def coarse_first(codes, size, chunk):
    tokens = codes + size * torch.arange(len(codes))[:, None]  # (K, T)
    return torch.cat([piece.flatten() for piece in tokens.split(chunk, dim=1)])


# %% tags=["wrong-3"]
def coarse_first(codes, size, chunk):  # the codebooks share one range
    return torch.cat([piece.flatten() for piece in codes.split(chunk, dim=1)])


# %% tags=["wrong-3"]
def coarse_first(codes, size, chunk):  # one chunk: the whole recording
    return (codes + size * torch.arange(len(codes))[:, None]).flatten()


# %% tags=["wrong-3"]
def coarse_first(codes, size, chunk):  # the short last chunk is lost
    tokens = codes + size * torch.arange(len(codes))[:, None]
    whole = tokens[:, : tokens.shape[1] // chunk * chunk]
    return (
        torch.cat([piece.flatten() for piece in whole.split(chunk, dim=1)])
        if whole.numel()
        else whole.flatten()
    )


# %% tags=["wrong-3"]
def coarse_first(codes, size, chunk):  # frame by frame
    return flatten(codes, size)


# %% tags=["right-1"]
def residual_quantise(latents, codebooks):  # a list of rows
    codes = []
    for book in codebooks:
        codes.append(nearest(latents, book))
        latents = latents - book[codes[-1]].T
    return codes, latents


# %% tags=["wrong-3"]
def coarse_first(codes, size, chunk):  # pieces, not joined
    numbered = codes + size * torch.arange(len(codes))[:, None]
    return [piece.flatten() for piece in numbered.split(chunk, dim=1)]


# %% tags=["right-1"]
def residual_quantise(latents, codebooks):  # NumPy arrays, in a list
    left = latents.numpy().copy()
    codes = []
    for book in codebooks.numpy():
        distances = ((left.T[:, None] - book) ** 2).sum(-1)
        codes.append(distances.argmin(-1))
        left = left - book[codes[-1]].T
    return [np.stack(codes), left]


# %% tags=["wrong-1"]
def residual_quantise(latents, codebooks):  # the two in the wrong order
    codes, left = [], latents
    for codebook in codebooks:
        codes.append(nearest(left, codebook))
        left = left - codebook[codes[-1]].T
    return left, torch.stack(codes)


# %% tags=["wrong-1"]
def residual_quantise(latents, codebooks):  # the codes alone
    codes, left = [], latents
    for codebook in codebooks:
        codes.append(nearest(left, codebook))
        left = left - codebook[codes[-1]].T
    return torch.stack(codes)


# %% tags=["right-2"]
n_tokens = np.array([1808])

# %% tags=["right-2"]
n_tokens = torch.tensor(1808.0)

# %% tags=["right-2"]
n_tokens = [np.int64(1808)]

# %% tags=["wrong-2"]
n_tokens = 72240  # samples

# %% tags=["wrong-2"]
n_tokens = (226, 8)  # two numbers


# %% tags=["right-3"]
def coarse_first(codes, size, chunk):  # a list of numbers
    row = []
    for start in range(0, codes.shape[1], chunk):
        for k, codes_of_k in enumerate(codes.tolist()):
            row += [k * size + code for code in codes_of_k[start : start + chunk]]
    return row


# %% tags=["right-3"]
def coarse_first(codes, size, chunk):  # a NumPy array of floats
    tokens = codes.numpy() + size * np.arange(len(codes))[:, None]
    cuts = range(chunk, tokens.shape[1], chunk)
    return np.concatenate([piece.ravel() for piece in np.split(tokens, cuts, axis=1)]).astype(np.float32)


# %% tags=["wrong-3"]
def coarse_first(codes, size, chunk):  # overwrites what came in
    for k in range(len(codes)):
        codes[k] += size * k
    return torch.cat([piece.flatten() for piece in codes.split(chunk, dim=1)])

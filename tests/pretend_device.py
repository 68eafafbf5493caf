"""A pretend accelerator for machines without one: tensors that say they live on device "pretend".

    with pretend_device() as counts:
        x = torch.ones(3, device=DEVICE)
        x.sum().item()
    assert counts.waits == 1

Everything is computed on the CPU, and what a GPU would refuse is refused: an operation that mixes devices, a CPU generator
that fills a tensor of the device, `.numpy()` without `.cpu()`, and with `refuse_float64` a tensor of that type (Apple's MPS
has none). What is counted, in `Counts`:

operations   kernels that would be launched
waits        places where the host would have to wait for the device: reading a value (`.item()`, `.tolist()`, `bool()`), a
             copy to the host, and every operation whose output shape depends on data (`nonzero`, indexing with a boolean
             mask, `masked_select`, `unique`, `repeat_interleave` without `output_size`, ...), and a copy to the device
             that is not both from pinned memory and non-blocking; each counted once
to_device    copies from the host to the device, waited for or not
to_host      copies from the device to the host; each of them is a wait, too

What it cannot see: kernels that do not exist on a GPU, bfloat16 numerics, memory, speed, streams, graphs, `torch.compile`,
and waits inside a library. nn.LSTM and nn.GRU are computed step by step from plain operations: a GPU launches fewer.

It rests on torch's experimental `_setup_privateuseone_for_python_backend` (torch 2.13).
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._mode_utils import no_dispatch
from torch.utils._pytree import tree_leaves, tree_map

READS = {"aten::_local_scalar_dense", "aten::item", "aten::equal", "aten::is_nonzero"}
DATA_DEPENDENT = {
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
}
INDEXING = {
    "aten::index",
    "aten::index_put",
    "aten::index_put_",
    "aten::_index_put_impl_",
    "aten::_unsafe_index",
}


@dataclass
class Counts:
    """What happened since counting began."""

    operations: int = 0
    waits: int = 0
    to_device: int = 0
    to_host: int = 0


class _State:
    """What the fallback below has to know; there is one device in a process."""

    counts = Counts()
    refuse_float64 = False


class _Stream:
    """Nothing waits: what is asked of the device is done at once."""

    def synchronize(self) -> None:
        """All is done."""

    def wait_stream(self, other: "_Stream") -> None:
        """As is what the other was asked for."""


_STREAM = _Stream()


class _Module:
    """What torch asks of a backend's module."""

    current_stream = staticmethod(lambda *device: _STREAM)
    stream = staticmethod(lambda stream: nullcontext())

    is_available = is_initialized = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    _is_in_bad_fork = staticmethod(lambda: False)
    manual_seed_all = staticmethod(lambda seed: None)
    synchronize = staticmethod(lambda *device: None)
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16, torch.float16])
    get_rng_state = staticmethod(lambda device=None: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, device=None: None)


backend_registration._setup_privateuseone_for_python_backend(rename="pretend", backend_module=_Module())
DEVICE = torch.device("pretend", 0)


def _is_here(device) -> bool:
    """Whether a device, however it is written, is the pretend one."""
    return device is not None and torch.device(device).type == "pretend"


class Far(Tensor):
    """A tensor of the device; `inner` is the CPU tensor behind it."""

    @staticmethod
    def __new__(cls, inner: Tensor, requires_grad: bool = False) -> "Far":
        if _State.refuse_float64 and inner.dtype == torch.float64:
            raise TypeError("pretend: the device has no float64; use float32")
        far = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
            requires_grad=requires_grad,
        )
        far.inner = inner
        return far

    def __repr__(self) -> str:
        return f"Far({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def tolist(self):
        """As `Tensor.tolist`: the host reads, and waits."""
        _State.counts.waits += 1
        return self.detach().inner.tolist()

    def numpy(self, *args, **kwargs):
        """Refused: there is no array behind a tensor of a device."""
        raise TypeError("pretend: a tensor of the device becomes no numpy array; use .cpu() first")

    __array__ = numpy

    def __getitem__(self, index):
        return super().__getitem__(_lists_moved(index))

    def __setitem__(self, index, value):
        return super().__setitem__(_lists_moved(index), value)


def _lists_moved(index):
    """Indexing with a Python list builds a tensor on the host and copies it to the device."""

    def moved(part):
        if not isinstance(part, list):
            return part
        _count_copy_to_device(waited_for=True)
        dtype = torch.bool if part and isinstance(part[0], bool) else torch.long
        return Far(torch.tensor(part, dtype=dtype))

    if isinstance(index, tuple):
        return tuple(moved(part) for part in index)
    return moved(index)


def _run(func, args: tuple, kwargs: dict):
    """One operation: refuse what a GPU would refuse, count, compute on the CPU, and say that the result is far away."""
    name = func._schema.name
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    far = [tensor for tensor in tensors if isinstance(tensor, Far)]
    near = [tensor for tensor in tensors if not isinstance(tensor, Far)]
    # 1. Where does the result lie?
    if kwargs.get("device") is not None:
        to_far = _is_here(kwargs["device"])
    elif name == "aten::copy_":
        to_far = isinstance(args[0], Far)
    else:
        to_far = bool(far)
        if far and near and name != "aten::_to_copy":
            _refuse_mixtures(name, args, far, near)
    generator = kwargs.get("generator")
    if to_far and generator is not None and generator.device.type == "cpu":
        raise RuntimeError(f"pretend: {name} takes a CPU generator for a tensor of the device")
    # 2. Count.
    _count(name, args, kwargs, far, near, to_far)
    # 3. Compute, and wrap what lies on the device.
    out = func(*tree_map(_behind, args), **tree_map(_behind, kwargs))
    if func._schema.is_mutable and args and isinstance(args[0], Far) and out is args[0].inner:
        if torch.Tag.inplace_view in func.tags:  # `transpose_`: the shape that it shows changes, too
            with no_dispatch():
                func(*args, **kwargs)
        return args[0]
    if name in READS or not to_far:
        return out
    return tree_map(_wrapped, out)


def _behind(leaf):
    if isinstance(leaf, Far):
        return leaf.inner
    if isinstance(leaf, torch.device):
        return torch.device("cpu")
    return leaf


def _wrapped(leaf):
    if isinstance(leaf, Tensor) and not isinstance(leaf, Far):
        return Far(leaf)
    return leaf


def _count(name: str, args: tuple, kwargs: dict, far: list, near: list, to_far: bool) -> None:
    counts = _State.counts
    counts.operations += 1
    is_copy = name in ("aten::_to_copy", "aten::copy_")
    if is_copy and far and not to_far:
        counts.to_host += 1
        counts.waits += 1
    elif is_copy and to_far and near:
        source = args[1] if name == "aten::copy_" else args[0]
        _count_copy_to_device(
            not (_is_non_blocking(name, args, kwargs) and hasattr(source, "is_pretend_pinned"))
        )
    elif name in READS or _shape_depends_on_data(name, args, kwargs):
        counts.waits += 1


def _count_copy_to_device(waited_for: bool) -> None:
    _State.counts.to_device += 1
    if waited_for:
        _State.counts.waits += 1


def _is_non_blocking(name: str, args: tuple, kwargs: dict) -> bool:
    if name == "aten::copy_" and len(args) > 2:
        return args[2]
    return kwargs.get("non_blocking", False)


def _shape_depends_on_data(name: str, args: tuple, kwargs: dict) -> bool:
    """Whether the host must read something before it knows how large the result is."""
    if name in DATA_DEPENDENT:
        return True
    if name in INDEXING:
        return _has_boolean_mask(args)
    return name == "aten::repeat_interleave" and kwargs.get("output_size") is None


def _has_boolean_mask(args: tuple) -> bool:
    """Whether one of the indices is a mask: how many elements it selects is not known before it is read."""
    indices = args[1] if isinstance(args[1], list | tuple) else [args[1]]
    return any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices)


def _refuse_mixtures(name: str, args: tuple, far: list, near: list) -> None:
    if name in INDEXING:  # a tensor of the device may be indexed with CPU indices, not the other way round
        if not isinstance(args[0], Far):
            raise RuntimeError(f"pretend: {name} indexes a CPU tensor with one of the device")
        if "put" in name and not isinstance(args[2], Far) and args[2].dim() > 0:
            raise RuntimeError(f"pretend: {name} puts CPU values into a tensor of the device")
        _count_copy_to_device(waited_for=True)  # the indices travel
    elif any(tensor.dim() > 0 for tensor in near):  # a CPU scalar tensor may mix, as on CUDA
        there = [tuple(tensor.shape) for tensor in far]
        here = [tuple(tensor.shape) for tensor in near]
        raise RuntimeError(f"pretend: {name} mixes devices: {there} on the device, {here} on the CPU")


_library = torch.library.Library("_", "IMPL")
_library.fallback(lambda func, *args, **kwargs: _run(func, args, kwargs), "PrivateUse1")


# ---- what does not reach the fallback


class _Functions(TorchFunctionMode):
    """Functions that torch answers in C++ before any fallback: building from data, pinning, and recurrent networks."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.tensor and _is_here(kwargs.get("device")):
            _count_copy_to_device(waited_for=True)
            inner = torch.tensor(*args, **{**kwargs, "device": "cpu", "requires_grad": False})
            return Far(inner).requires_grad_(kwargs.get("requires_grad", False))
        if func is Tensor.pin_memory:
            pinned = args[0].clone()
            pinned.is_pretend_pinned = True
            return pinned
        recurrent = {torch._VF.lstm: _lstm_step, torch._VF.gru: _gru_step}.get(func)
        if recurrent is not None and isinstance(args[0], Tensor) and args[0].device.type == "pretend":
            return _recurrent(recurrent, *args, **kwargs)
        return func(*args, **kwargs)


def _lstm_step(x: Tensor, state: tuple[Tensor, Tensor], weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    """x (B, inputs), state (hidden, cell) (B, width) each -> the next state."""
    hidden, cell = state
    gates = _gates(x, weights, 0) + _gates(hidden, weights, 1)
    i, f, g, o = gates.chunk(4, dim=-1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def _gru_step(x: Tensor, state: tuple[Tensor], weights: list[Tensor]) -> tuple[Tensor]:
    """x (B, inputs), state (hidden,) (B, width) -> the next state."""
    (hidden,) = state
    from_input = _gates(x, weights, 0).chunk(3, dim=-1)
    from_hidden = _gates(hidden, weights, 1).chunk(3, dim=-1)
    reset = (from_input[0] + from_hidden[0]).sigmoid()
    update = (from_input[1] + from_hidden[1]).sigmoid()
    new = (from_input[2] + reset * from_hidden[2]).tanh()
    return (update * hidden + (1 - update) * new,)


def _gates(x: Tensor, weights: list[Tensor], which: int) -> Tensor:
    """x through the input weights (0) or the hidden ones (1), with their bias if there is one."""
    out = x @ weights[which].T
    if len(weights) == 4:
        out = out + weights[2 + which]
    return out


def _recurrent(step, x, state, weights, has_biases, n_layers, dropout, train, bidirectional, batch_first):
    """A whole recurrent network, one direction, layer by layer and step by step; arguments as torch's C++ takes them."""
    if bidirectional or (dropout and train):
        raise NotImplementedError("pretend: recurrent networks of one direction, without dropout")
    states = state if isinstance(state, list | tuple) else (state,)
    per_layer = 4 if has_biases else 2
    if batch_first:
        x = x.transpose(0, 1)  # (T, B, inputs)
    finals = []
    for layer in range(n_layers):
        mine = list(weights[layer * per_layer : (layer + 1) * per_layer])
        now = tuple(part[layer] for part in states)
        outputs = []
        for t in range(x.shape[0]):
            now = step(x[t], now, mine)
            outputs.append(now[0])
        x = torch.stack(outputs)
        finals.append(now)
    last = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
    if batch_first:
        x = x.transpose(0, 1)
    return (x, *last)


_module_to = nn.Module.to


def _to_with_ties(module: nn.Module, *args, **kwargs) -> nn.Module:
    """`Module.to` gives a parameter new data, for real devices; for a subclass a new parameter, and unties what is tied."""
    places: dict[int, list] = {}
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            places.setdefault(id(parameter), []).append((owner, name))
    places.pop(id(None), None)  # a bias that is not there
    _module_to(module, *args, **kwargs)
    for (first, its_name), *others in places.values():
        for owner, name in others:
            owner._parameters[name] = first._parameters[its_name]
    return module


@contextmanager
def pretend_device(refuse_float64: bool = False) -> Iterator[Counts]:
    """Count what happens on the device inside; the counts go on being read afterwards."""
    before = (_State.counts, _State.refuse_float64)
    outside = nn.Module.to
    _State.counts = Counts()
    _State.refuse_float64 = refuse_float64
    nn.Module.to = _to_with_ties
    try:
        with _Functions():
            yield _State.counts
    finally:
        _State.counts, _State.refuse_float64 = before
        nn.Module.to = outside

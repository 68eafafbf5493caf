"""The instrument is tested before anything is measured with it: planted waits are counted, and refusals refuse."""

import pytest
import torch
from torch import nn

from tests.pretend_device import DEVICE, Far, pretend_device


def on_device(*shape):
    return torch.ones(*shape).to(DEVICE)


WAITS = {  # what is done, and how many waits that is
    "item": (lambda x: x.sum().item(), 1),
    "tolist": (lambda x: x.tolist(), 1),
    "bool": (lambda x: bool(x.sum() > 0), 1),
    "int": (lambda x: int(x.sum()), 1),
    "equal": (lambda x: torch.equal(x, x), 1),
    "cpu": (lambda x: x.cpu(), 1),
    "to cpu": (lambda x: x.to("cpu"), 1),
    "copy to a host tensor": (lambda x: torch.zeros(4).copy_(x), 1),
    "nonzero": (lambda x: x.nonzero(), 1),
    "boolean mask": (lambda x: x[x > 0], 1),
    "boolean assignment": (lambda x: x.__setitem__(x > 0, x.clone()), 1),
    "masked_select": (lambda x: x.masked_select(x > 0), 1),
    "unique": (lambda x: x.unique(), 1),
    "repeat_interleave by a tensor": (lambda x: x.repeat_interleave(x.long()), 1),
    "repeat_interleave, size given": (lambda x: x.repeat_interleave(x.long(), output_size=4), 0),
    "repeat_interleave by a number": (lambda x: x.repeat_interleave(2), 0),
    "arithmetic": (lambda x: (x + 1).softmax(-1) @ x, 0),
    "where": (lambda x: torch.where(x > 0, x, 0.0), 0),
    "masked_fill": (lambda x: x.masked_fill(x > 0, 0.0), 0),
    "index by numbers of the device": (lambda x: x[x.long().clamp(max=3)], 0),
    "copy to the device": (lambda x: torch.ones(4).to(DEVICE), 1),
    "copy to the device, not pinned": (lambda x: torch.ones(4).to(DEVICE, non_blocking=True), 1),
    "copy to the device, pinned": (lambda x: torch.ones(4).pin_memory().to(DEVICE), 1),
    "copy to the device, pinned, not waited for": (
        lambda x: torch.ones(4).pin_memory().to(DEVICE, non_blocking=True),
        0,
    ),
    "copy_ to the device": (lambda x: x.copy_(torch.ones(4)), 1),
    "copy_ to the device, pinned, not waited for": (
        lambda x: x.copy_(torch.ones(4).pin_memory(), non_blocking=True),
        0,
    ),
    "built on the device from a list": (lambda x: torch.tensor([1.0], device=DEVICE), 1),
    "index by a list": (lambda x: x[[0, 2]], 1),
    "index by numbers of the host": (lambda x: x[torch.tensor([0, 2])], 1),
    "two reads": (lambda x: (x.sum().item(), x.max().item()), 2),
}


@pytest.mark.parametrize("what", WAITS)
def test_planted_waits_are_counted(what):
    act, waits = WAITS[what]
    with pretend_device():
        x = on_device(4)
    with pretend_device() as counts:
        act(x)
    assert counts.waits == waits


def test_copies_are_counted_each_way():
    with pretend_device() as counts:
        x = on_device(3)
        y = torch.tensor([1.0, 2.0, 3.0], device=DEVICE)
        y[[0, 2]]
        (x + y).cpu()
    assert (counts.to_device, counts.to_host) == (3, 1)


def test_operations_are_counted():
    with pretend_device():
        x = on_device(3)
    with pretend_device() as counts:
        x + 1
        x * 2
    assert counts.operations == 2


@pytest.mark.parametrize(
    "act",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.ones(3)[x.long()],
        lambda x: torch.cat([x, torch.ones(3)]),
        lambda x: torch.rand(3, device=DEVICE, generator=torch.Generator()),
        lambda x: nn.Linear(3, 3)(x),
    ],
)
def test_mixtures_are_refused(act):
    with pretend_device():
        x = on_device(3)
        with pytest.raises(RuntimeError, match="pretend"):
            act(x)


def test_a_host_scalar_may_mix_as_on_a_gpu():
    with pretend_device():
        assert (on_device(3) + torch.tensor(1.0)).cpu().tolist() == [2, 2, 2]


def test_no_numpy_of_a_tensor_of_the_device():
    with pretend_device(), pytest.raises(TypeError, match=r"use .cpu\(\) first"):
        on_device(3).numpy()


def test_float64_is_refused_where_the_device_has_none():
    with pretend_device(refuse_float64=True):
        with pytest.raises(TypeError, match="no float64"):
            on_device(3).double()
        with pytest.raises(TypeError, match="no float64"):
            torch.zeros(3, dtype=torch.float64, device=DEVICE)
    with pretend_device():
        assert on_device(3).double().dtype == torch.float64


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("batch_first", [False, True])
def test_recurrent_networks_run_and_learn(kind, layers, batch_first):
    torch.manual_seed(0)
    net = kind(3, 5, layers, batch_first=batch_first)
    x = torch.randn(4, 2, 3)
    y, state = net(x)
    y.sum().backward()
    wanted = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    with pretend_device():
        far = net.to(DEVICE)
        y_far, state_far = far(x.to(DEVICE))
        y_far.sum().backward()
        assert isinstance(y_far, Far)
        torch.testing.assert_close(y_far.detach().cpu(), y.detach())
        last = (state if kind is nn.GRU else state[0], state_far if kind is nn.GRU else state_far[0])
        torch.testing.assert_close(last[1].detach().cpu(), last[0].detach())
        for parameter, gradient in zip(far.parameters(), wanted, strict=True):
            torch.testing.assert_close(parameter.grad.cpu(), gradient, rtol=1e-4, atol=1e-5)


def test_an_operation_in_place_may_change_the_shape():
    wave = torch.randn(2, 64, requires_grad=True)
    window = torch.hann_window(16)

    def energy(wave, window):  # `stft` transposes its result in place
        spectrum = torch.stft(wave, 16, 4, window=window, return_complex=True)
        return torch.view_as_real(spectrum).pow(3).sum()

    energy(wave, window).backward()
    with pretend_device():
        x = torch.zeros(2, 3, device=DEVICE)
        assert x.transpose_(0, 1).shape == x.cpu().shape == (3, 2)
        far = wave.detach().to(DEVICE).requires_grad_()
        energy(far, window.to(DEVICE)).backward()
        torch.testing.assert_close(far.grad.cpu(), wave.grad)


def test_what_is_tied_stays_tied():
    net = nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3)})
    net["b"].weight = net["a"].weight
    with pretend_device():
        net.to(DEVICE)
        assert net["a"].weight is net["b"].weight
        assert isinstance(net["a"].weight, Far)


def test_a_small_network_trains_there_as_here():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    twin = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    twin.load_state_dict(net.state_dict())
    x = torch.randn(16, 3)
    with pretend_device():
        far = twin.to(DEVICE)
        x_far = x.to(DEVICE)
        for model, data in ((net, x), (far, x_far)):
            optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
            for _ in range(3):
                optimiser.zero_grad()
                model(data).square().mean().backward()
                optimiser.step()
        for a, b in zip(net.parameters(), far.parameters(), strict=True):
            torch.testing.assert_close(b.detach().cpu(), a.detach())

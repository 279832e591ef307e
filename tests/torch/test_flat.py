"""Flat models train with the same bits, and whatever moves their memory costs speed and nothing else."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
from torch import nn

import adamantine
import adamantine.torch as at
from adamantine.torch.buffers import GradientZeroing, at_home, gather_slots
from adamantine.torch.flat import flatten


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3), nn.Tanh(), nn.Linear(3, 2))


class Tied(nn.Module):
    """An embedding that is also the output head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(11, 4)
        self.middle = nn.Linear(4, 4)
        self.head = nn.Linear(4, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.middle(self.embedding(tokens))))


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.out = nn.Linear(4, 2)
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        return self.out(self.norm(self.conv(x)).relu().mean((2, 3)))


class Mixed(nn.Module):
    """bfloat16 below, float32 above."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.low = nn.Linear(4, 5).bfloat16()
        self.middle = nn.Linear(5, 6)
        self.top = nn.Linear(6, 2).bfloat16()

    def forward(self, x):
        return self.top(self.middle(self.low(x.bfloat16()).float()).bfloat16()).float()


MODELS = {
    "mlp": (mlp, lambda: torch.randn(8, 5)),
    "tied": (Tied, lambda: torch.randint(11, (6,))),
    "channels_last": (
        Convolutional,
        lambda: torch.randn(4, 3, 6, 6).to(memory_format=torch.channels_last),
    ),
    "mixed": (Mixed, lambda: torch.randn(8, 4)),
}


def gather(optimizer) -> None:
    for group in optimizer.param_groups:
        gather_slots(group["params"], optimizer.state, optimizer.rule(group).slots.values())


def train(model, batch, optimizer, steps, *, micro_batches=1, seed=1):
    torch.manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(micro_batches):
            model(batch()).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def is_end_to_end(tensors) -> bool:
    stops = [x.data_ptr() + x.numel() * x.element_size() for x in tensors]
    return [x.data_ptr() for x in tensors[1:]] == stops[:-1]


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("AdamW", {"max_norm": 0.5}),
        ("SGD", {"momentum": 0.9, "weight_decay": 0.01, "max_norm": 0.5}),
        ("Lion", {"max_norm": 0.5}),
    ],
)
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_training_is_the_same_to_the_bit(case, name, options, micro_batches):
    make, batch = MODELS[case]
    ends = []
    for is_flat in (False, True):
        model = make()
        flat = flatten(model) if is_flat else None
        optimizer = at.OPTIMIZERS[name](model.parameters(), lr=0.01, **options)
        ends.append(train(model, batch, optimizer, 100, micro_batches=micro_batches))
        if flat:
            assert flat.is_intact(), flat
            for buffer in flat.buffers:
                params = [p for p in model.parameters() if p.dtype == buffer.values.dtype]
                for key in optimizer.rule(optimizer.param_groups[0]).slots.values():
                    assert is_end_to_end([optimizer.state[p][key] for p in params])
    # By value: a gradient of -0.0 becomes 0.0 in a buffer of zeros, and the sign of a zero may differ.
    assert all(map(torch.equal, *ends))


@pytest.mark.parametrize("case", MODELS)
def test_nothing_but_the_memory_changes(case):
    make, batch = MODELS[case]
    model, plain = make(), make()
    before = list(model.parameters())
    x = batch()
    plain.load_state_dict(model.state_dict())
    for each in (model, plain):
        each(x).square().sum().backward()
    buffers = [b.data_ptr() for b in model.buffers()]
    flat = flatten(model)
    assert flat.is_intact()
    assert not flat.left_alone
    after = list(model.parameters())
    assert all(p is q for p, q in zip(after, before, strict=True))
    assert [b.data_ptr() for b in model.buffers()] == buffers
    for p, q in zip(after, plain.parameters(), strict=True):
        assert torch.equal(p, q)
        assert torch.equal(p.grad, q.grad)
        assert (p.stride(), p.grad.stride()) == (q.stride(), q.stride())
    assert len(flat.buffers) == len({p.dtype for p in after})
    for buffer in flat.buffers:
        own = [p for p in after if p.dtype == buffer.values.dtype]
        assert own[0].data_ptr() == buffer.values.data_ptr()
        assert is_end_to_end(own)
        assert is_end_to_end([p.grad for p in own])
        assert sum(p.numel() for p in own) == buffer.values.numel() == buffer.gradients.numel()


def test_the_order_is_that_of_parameters_to_vector():
    model = mlp()
    flat = flatten(model)
    vector = torch.nn.utils.parameters_to_vector(model.parameters())
    assert torch.equal(vector, flat.buffers[0].values)
    torch.nn.utils.vector_to_parameters(torch.arange(float(vector.numel())), model.parameters())
    assert not flat.is_intact()  # it assigns .data
    assert torch.equal(flat.restore().buffers[0].values, torch.arange(float(vector.numel())))


def test_groups_are_contiguous_in_their_order():
    model = mlp()
    groups = adamantine.param_groups(model, lr=0.1, weight_decay=0.01)
    flat = flatten(groups)
    assert len(flat.buffers) == 1
    optimizer = at.AdamW(groups)
    for group in optimizer.param_groups:
        assert is_end_to_end(group["params"])
    assert not is_end_to_end(list(model.parameters()))
    values = flat.buffers[0].values.data_ptr()
    assert flatten(optimizer.param_groups).buffers[0].values.data_ptr() == values  # it was so already
    assert flatten(model).buffers[0].values.data_ptr() != values
    assert flat.is_intact()  # in other places, but flat


@pytest.mark.parametrize(
    "give",
    [
        lambda model: model.parameters(),
        lambda model: model.named_parameters(),
        lambda model: [{"params": model.parameters()}],
        lambda model: [{"params": p} for p in model.parameters()],
        lambda model: at.SGD(model.named_parameters(), lr=0.1).param_groups,
    ],
    ids=["parameters", "named", "group", "tensor per group", "of an optimizer"],
)
def test_what_flatten_takes(give):
    model = mlp()
    assert len(flatten(give(model)).buffers) == 1
    assert is_end_to_end(list(model.parameters()))


def test_parameters_of_two_models_with_the_same_names():
    a, b = mlp(), mlp()
    flat = flatten([*a.named_parameters(), *b.named_parameters()])
    assert is_end_to_end([*a.parameters(), *b.parameters()])
    b.zero_grad()
    assert set(flat.why_not()) == {f"{name} (2)" for name, _ in b.named_parameters()}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (list, ValueError, "no parameters"),
        (nn.ReLU, ValueError, "no parameters"),
        (lambda: torch.zeros(3), TypeError, "single tensor"),
        (lambda: at.SGD(mlp().parameters(), lr=0.1), TypeError, "param_groups"),
        (lambda: ["weight"], TypeError, "parameter 0 is a str"),
        (lambda: nn.LazyLinear(3), ValueError, "weight belongs to a lazy module"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_flatten_refuses(given, error, message):
    with pytest.raises(error, match=message):
        flatten(given())


class Subclass(torch.Tensor):
    pass


def obstacles():
    w = torch.randn(6)
    meta = nn.Parameter(torch.empty(2, device="meta"))
    shared = nn.Parameter(torch.zeros(2).share_memory_())
    partitioned = nn.Parameter(torch.zeros(2))
    partitioned.ds_id = 0
    return {
        "frozen": ([nn.Parameter(torch.zeros(2), requires_grad=False)], "frozen"),
        "meta": ([meta], "meta"),
        "empty": ([nn.Parameter(torch.zeros(0, 3))], "no memory"),
        "sparse": ([torch.eye(2).to_sparse().requires_grad_()], "not strided"),
        "holes": ([nn.Parameter(torch.zeros(8)[::2])], "holes"),
        "expanded": ([nn.Parameter(torch.zeros(1).expand(4))], "holes or overlap"),
        "computed": ([torch.zeros(2, requires_grad=True) * 2], "computed"),
        "shared": ([shared], "other processes"),
        "subclass": ([nn.Parameter(torch.zeros(2).as_subclass(Subclass))], "Subclass"),
        "deepspeed": ([partitioned], "DeepSpeed"),
        "nested": ([nn.Parameter(x) for x in (w[:], w[1:2], w[3:4])], "shares memory"),
        "overlapping": ([nn.Parameter(w[:4]), nn.Parameter(w[3:])], "shares memory"),
    }


@pytest.mark.parametrize("case", obstacles())
def test_what_cannot_be_flat_is_left_alone_and_named(case):
    params, reason = obstacles()[case]
    before = [
        (p.layout, p.device.type == "meta" or p.layout != torch.strided or p.data_ptr()) for p in params
    ]
    good = nn.Parameter(torch.ones(3))
    flat = flatten([*params, good])
    assert list(flat.left_alone) == [f"parameter {i}" for i in range(len(params))]
    assert all(reason in why for why in flat.left_alone.values()), flat
    assert reason in str(flat)
    after = [(p.layout, p.device.type == "meta" or p.layout != torch.strided or p.data_ptr()) for p in params]
    assert after == before
    assert flat.is_intact()
    assert at_home(good) is not None


def test_a_parameter_that_shares_memory_with_a_buffer_is_left_alone():
    layer = nn.Linear(3, 3)
    layer.register_buffer("alias", layer.weight.detach()[1])
    assert list(flatten(layer).left_alone) == ["weight"]


@pytest.mark.skipif(not hasattr(torch.Tensor, "grad_dtype"), reason="this torch has no grad_dtype")
def test_a_gradient_of_another_dtype_is_left_alone():
    p = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    p.grad_dtype = torch.float32
    assert "grad_dtype is torch.float32" in flatten([p]).left_alone["parameter 0"]


def move_to_double(model):
    model.double()


def move_by_hand(model):
    model[2].weight.data = model[2].weight.data.clone()


def forget_gradients(model):
    model.zero_grad()


def assign_gradient(model):
    model[0].bias.grad = torch.full((7,), 2.0)


def freeze(model):
    model[2].weight.requires_grad_(False)


def double_backward(model):
    model(torch.ones(1, 5)).sum().backward(create_graph=True)


def resize(model):
    model[4].bias.data = model[4].bias.data[:1]
    model[4].bias.grad = None


def flatten_a_part(model):
    flatten(model[2])


def swap_a_parameter(model):
    model[4].bias = nn.Parameter(torch.zeros(2))


DISTURBANCES = [
    (move_to_double, "its dtype was float32 and is float64"),
    (move_by_hand, "its memory is elsewhere"),
    (forget_gradients, "its gradient is None"),
    (assign_gradient, "its gradient is another tensor"),
    (freeze, "frozen since"),
    (double_backward, "its gradient is another tensor"),
    (resize, "its shape was"),
    (swap_a_parameter, "it is new"),
]


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize(("disturb", "reason"), DISTURBANCES)
def test_the_handle_says_what_is_no_longer_flat_and_repairs_it(disturb, reason):
    model = mlp()
    flat = flatten(model)
    model(torch.ones(1, 5)).sum().backward()
    disturb(model)
    assert not flat.is_intact()
    assert any(reason in why for why in flat.why_not().values()), flat
    values = [p.detach().clone() for p in model.parameters()]
    gradients = [None if p.grad is None else p.grad.detach().clone() for p in model.parameters()]
    assert flat.restore() is flat
    assert flat.is_intact(), flat
    for p, value, gradient in zip(model.parameters(), values, gradients, strict=True):
        assert torch.equal(p, value)
        assert p.grad is None or torch.equal(p.grad, torch.zeros_like(p) if gradient is None else gradient)
    assert is_end_to_end([p for p in model.parameters() if p.requires_grad])


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("disturb", [disturb for disturb, _ in DISTURBANCES[:-1]] + [flatten_a_part])
@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_training_goes_on_through_every_disturbance(disturb, name):
    """As a model that never was flat, and in which the same happened."""
    ends = []
    for is_flat in (False, True):
        model = mlp()
        if is_flat:
            flatten(model)
        optimizer = at.OPTIMIZERS[name](model.parameters(), lr=0.05)
        for step in range(6):
            optimizer.zero_grad()
            x = torch.sin(torch.arange(10, dtype=model[0].weight.dtype).view(2, 5) + step)
            model(x).square().mean().backward()
            optimizer.step()
            if step == 2:
                optimizer.state.clear()  # that of another dtype or shape would not fit
                if is_flat or disturb is not flatten_a_part:
                    disturb(model)
        ends.append([p.detach().clone() for p in model.parameters()])
    assert all(map(torch.equal, *ends))


def test_gradients_are_zeroed_by_stretches_and_views_come_back():
    params = [nn.Parameter(torch.zeros(n)) for n in (3, 1, 4, 2)]
    stranger = nn.Parameter(torch.zeros(2))
    flat = flatten(params)
    flat.buffers[0].gradients.fill_(5)
    stranger.grad = torch.ones(2)
    zero = GradientZeroing()
    a, b, c, d = params
    for _ in range(2):  # looked at, then remembered
        flat.buffers[0].gradients.fill_(5)
        assert zero([d, stranger, a, b]) == [stranger]
        assert flat.buffers[0].gradients.tolist() == [0] * 4 + [5] * 4 + [0] * 2
        assert stranger.grad.tolist() == [1, 1]
    a.grad = None
    b.grad = torch.ones(1)
    c.grad = None
    assert zero([a, b, d]) == []
    assert flat.buffers[0].gradients.tolist() == [0] * 4 + [5] * 4 + [0] * 2
    assert c.grad is None
    assert a.grad.data_ptr() == flat.buffers[0].gradients.data_ptr()
    assert b.grad.tolist() == [0]
    b.requires_grad_(False)
    assert zero([a, b, d]) == [b]
    flat.undo()
    assert zero([a, b, d]) == [a, b, d]


@pytest.mark.parametrize(
    "disturb",
    [
        lambda p: setattr(p, "data", p.data.clone()),
        lambda p: setattr(p, "data", p.data.double()),
        lambda p: setattr(p, "data", p.data[:1]),
        lambda p: setattr(p, "data", p.data.view(2, 2)),
        lambda p: setattr(p, "data", p.data.view(torch.int32).view(torch.float32)[:3]),
        lambda p: setattr(p.grad, "data", p.grad.data.clone()),
        lambda p: setattr(p.grad, "data", p.grad.data.double()),
        lambda p: setattr(p, "grad", torch.ones(4).to_sparse()),
        lambda p: p.requires_grad_(False),
    ],
)
def test_a_remembered_place_is_looked_at_again(disturb):
    p, q = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(2))
    flatten([p, q])
    zero = GradientZeroing()
    assert zero([p, q]) == []
    p.grad.fill_(1)
    q.grad.fill_(1)
    disturb(p)
    others = zero([p, q])
    assert q.grad.tolist() == [0, 0]
    assert others == ([p] if at_home(p) is None or not p.requires_grad else [])
    if not others:
        assert p.grad.tolist() == [0] * 4
        assert p.grad.dtype == p.dtype


def test_state_lies_end_to_end_in_runs_of_one_dtype_and_belongs_to_one_optimizer():
    model = mlp()
    flatten(model)
    params = [*model.parameters()]
    stranger = nn.Parameter(torch.zeros(3))
    first, second = (
        {p: {"m": torch.randn_like(p).detach(), "step": torch.tensor(1.0)} for p in [*params[::-1], stranger]}
        for _ in range(2)
    )
    kept = first[stranger]["m"]
    first[params[2]]["m"] = first[params[2]]["m"].bfloat16()
    before = {p: entry["m"].clone() for p, entry in first.items()}
    for state in (first, second):
        gather_slots(state, state, ["m", "absent"])
    slots = [first[p]["m"] for p in params]
    assert is_end_to_end(slots[:2])
    assert is_end_to_end(slots[3:])
    assert is_end_to_end([second[p]["m"] for p in params])
    assert first[stranger]["m"] is kept
    assert all(torch.equal(first[p]["m"], value) for p, value in before.items())
    assert all(first[p]["m"].dtype == value.dtype for p, value in before.items())
    sizes = [slot.untyped_storage().nbytes() for slot in slots]
    counts = [p.numel() for p in params]
    assert sizes == [4 * sum(counts[:2])] * 2 + [2 * counts[2]] + [4 * sum(counts[3:])] * 3


def test_state_that_is_there_is_gathered_once():
    model = Convolutional()
    optimizer = at.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(2, 3, 6, 6)).sum().backward()
    optimizer.step()
    expected = copy.deepcopy(optimizer.state_dict())
    flatten(model)
    for state in optimizer.state.values():  # as a checkpoint of a contiguous model has it
        state["exp_avg"] = state["exp_avg"].contiguous()
    gather(optimizer)
    slots = [optimizer.state[p]["exp_avg"] for p in model.parameters()]
    assert is_end_to_end(slots)
    assert [s.stride() for s in slots] == [p.stride() for p in model.parameters()]
    for entry, saved in zip(optimizer.state.values(), expected["state"].values(), strict=True):
        assert all(torch.equal(entry[key], saved[key]) for key in entry)
    gather(optimizer)
    assert all(optimizer.state[p]["exp_avg"] is s for p, s in zip(model.parameters(), slots, strict=True))


def test_state_that_lies_end_to_end_in_another_order_of_elements_is_gathered():
    p = nn.Parameter(torch.zeros(3, 2).t())
    flatten([p])
    state = {p: {"m": torch.arange(6.0).view(2, 3)}}
    gather_slots([p], state, ["m"])
    assert state[p]["m"].stride() == p.stride()
    assert torch.equal(state[p]["m"], torch.arange(6.0).view(2, 3))


def test_flatten_after_gradients_were_zeroed_before():
    elsewhere, p = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))
    flatten([elsewhere])
    zero = GradientZeroing()
    assert zero([p]) == [p]
    flatten([p])
    assert zero([p]) == []


def test_a_part_gets_buffers_of_its_own():
    model = mlp()
    flatten(model)
    part = flatten(model[0])
    assert part.buffers[0].values.numel() == sum(p.numel() for p in model[0].parameters())


def test_a_scalar_parameter_keeps_its_step_counter():
    p = nn.Parameter(torch.tensor(1.0))
    q = nn.Parameter(torch.tensor(1.0))
    flatten([p, q])
    optimizer = at.AdamW([p, q], lr=0.1)
    (p * q).backward()
    optimizer.step()
    step = optimizer.state[p]["step"]
    gather(optimizer)
    assert optimizer.state[p]["step"] is step
    assert is_end_to_end([optimizer.state[p]["exp_avg"], optimizer.state[q]["exp_avg"]])


def lies_flat(model, optimizer) -> bool:
    keys = ("exp_avg", "exp_avg_sq")
    return all(is_end_to_end([optimizer.state[p][key] for p in model.parameters()]) for key in keys)


def step(model, optimizer, times=1) -> None:
    for _ in range(times):
        optimizer.zero_grad()
        model(torch.ones(2, 5)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("when", ["before the optimizer", "after it", "after steps", "after loading"])
def test_state_follows_whenever_the_model_becomes_flat(when):
    plain, model = mlp(), mlp()
    expected = at.AdamW(plain.named_parameters(), lr=0.05)
    step(plain, expected, 2)
    saved = copy.deepcopy(expected.state_dict())
    step(plain, expected, 2)
    if when == "before the optimizer":
        flatten(model)
    optimizer = at.AdamW(model.named_parameters(), lr=0.05)
    if when == "after it":
        flatten(model)
    step(model, optimizer, 2)
    if when == "after steps":
        flatten(model)
    if when == "after loading":
        flatten(model)
        optimizer.load_state_dict(saved)
    step(model, optimizer, 2)
    assert lies_flat(model, optimizer)
    assert all(map(torch.equal, model.parameters(), plain.parameters()))


def test_two_optimizers_over_one_flat_model():
    ends = []
    for is_flat in (False, True):
        model = mlp()
        if is_flat:
            flatten(model)
        lower = at.AdamW(model[:3].parameters(), lr=0.05)
        upper = at.AdamW(model[3:].parameters(), lr=0.02)
        both = at.AdamW(model.parameters(), lr=0.01)
        for number in range(6):
            lower.zero_grad()  # the gradients of the upper part go on summing up in between
            if number % 2:
                upper.zero_grad()
            model(torch.ones(2, 5)).square().mean().backward()
            for optimizer in (lower, upper, both):
                optimizer.step()
        ends.append([p.detach() for p in model.parameters()])
    assert all(map(torch.equal, *ends))
    assert lies_flat(model[:3], lower)
    assert lies_flat(model, both)
    part = lower.state[model[0].weight]["exp_avg"].untyped_storage()
    assert part.nbytes() == 4 * sum(p.numel() for p in model[:3].parameters())  # no memory for the rest


def test_a_parameter_without_a_gradient_takes_a_step_with_zero_unless_it_is_none():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    flatten([used, unused])
    optimizer = at.AdamW([used, unused], lr=0.1, weight_decay=0.5)
    used.sum().backward()
    optimizer.step()
    assert unused.tolist() == pytest.approx([0.95, 0.95])  # decayed by 1 - 0.1·0.5
    optimizer.zero_grad()
    unused.grad = None
    used.sum().backward()
    before = unused.tolist()
    optimizer.step()
    assert unused.tolist() == before
    assert optimizer.state[unused]["step"] == 1


def test_a_frozen_parameter_stands_still():
    model = mlp()
    flatten(model)
    optimizer = at.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    step(model, optimizer)
    model[2].weight.requires_grad_(False)
    before = model[2].weight.clone()
    step(model, optimizer, 2)
    assert torch.equal(model[2].weight, before)
    assert model[2].weight.grad is None


def test_a_copied_optimizer_trains_its_own_model():
    model = mlp()
    flatten(model)
    optimizer = at.AdamW(model.parameters(), lr=0.05)
    step(model, optimizer, 2)
    twin, its_optimizer = copy.deepcopy((model, optimizer))
    file = io.BytesIO()
    torch.save((model, optimizer), file)
    file.seek(0)
    loaded, loaded_optimizer = torch.load(file, weights_only=False)
    step(model, optimizer, 2)
    for other, its in ((twin, its_optimizer), (loaded, loaded_optimizer)):
        step(other, its, 2)
        assert all(map(torch.equal, other.parameters(), model.parameters()))


def test_a_deep_copy_is_an_ordinary_model():
    model = mlp()
    model.handle = flatten(model)
    twin = copy.deepcopy(model)
    assert all(at_home(p) is None for p in twin.parameters())
    assert not twin.handle.is_intact()
    assert twin.handle.restore().is_intact()
    assert model.handle.is_intact()
    sizes = {p.untyped_storage().nbytes() for p in copy.deepcopy(mlp()).parameters()}
    twin = copy.deepcopy(model)
    assert {p.untyped_storage().nbytes() for p in twin.parameters()} == sizes
    ends = [train(each, lambda: torch.ones(2, 5), at.AdamW(each.parameters()), 5) for each in (twin, mlp())]
    assert all(map(torch.equal, *ends))


def test_what_is_saved_is_as_large_as_before():
    sizes = []
    for is_flat in (False, True):
        model = nn.Sequential(*[nn.Linear(64, 64) for _ in range(8)])
        if is_flat:
            flatten(model)
        files = []
        for what in (model, model.state_dict()):
            file = io.BytesIO()
            torch.save(what, file)
            files.append(file.tell())
        files.append(len(pickle.dumps(copy.deepcopy(model))))  # without the copy: the buffer with each tensor
        sizes.append(files)
        file.seek(0)
        for loaded in (torch.load(file), pickle.loads(pickle.dumps(model)).state_dict()):
            assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
    bytes_of_parameters = 8 * (64 * 64 + 64) * 4
    for plain, flat in zip(*sizes, strict=True):
        assert bytes_of_parameters < flat < plain + 20_000


def test_loading_weights_keeps_a_model_flat():
    model, other = mlp(), mlp()
    nn.init.normal_(other[0].weight)
    flat = flatten(model)
    model.load_state_dict(other.state_dict())
    assert flat.is_intact()
    assert torch.equal(model[0].weight, other[0].weight)
    model.load_state_dict(other.state_dict(), assign=True)  # other parameters altogether
    assert set(flat.why_not()) == set(other.state_dict())
    assert flat.restore().is_intact()


def test_undo_gives_own_memory():
    model = mlp()
    flat = flatten(model)
    model(torch.ones(1, 5)).sum().backward()
    values = [(p.detach().clone(), p.grad.clone()) for p in model.parameters()]
    flat.undo()
    assert repr(flat) == "<Flat: 0 of 6 parameters, 0 elements in 0 buffers>"
    tensors = [x for p in model.parameters() for x in (p, p.grad)]
    assert len({x.untyped_storage().data_ptr() for x in tensors}) == 12
    for p, (value, gradient) in zip(model.parameters(), values, strict=True):
        assert torch.equal(p, value)
        assert torch.equal(p.grad, gradient)


def test_memory_is_freed_with_the_model():
    model = mlp()
    buffer = flatten(model).buffers[0]
    gone = weakref.ref(buffer)
    gc.disable()
    try:
        del buffer, model
        assert gone() is None  # by counting alone: a cycle would keep large buffers until some collection
    finally:
        gc.enable()


def test_flatten_under_no_grad_and_inference_mode():
    model = mlp()
    with torch.inference_mode():
        flatten(model)
    with torch.no_grad():
        flatten(model)
    model(torch.ones(1, 5)).sum().backward()
    assert model[0].weight.grad.any()


def test_sharing_memory_with_processes_keeps_a_model_flat():
    model = mlp()
    flat = flatten(model)
    zero = GradientZeroing()
    zero(list(model.parameters()))
    model.share_memory()
    assert flat.restore().is_intact(), flat
    assert not flat.left_alone
    flat.buffers[0].gradients.fill_(1)
    assert zero(list(model.parameters())) == []
    assert not any(p.grad.any() for p in model.parameters())


def test_grad_scaler_functional_call_and_hooks():
    ends = []
    for is_flat in (False, True):
        model = mlp()
        flat = flatten(model) if is_flat else None
        optimizer = at.AdamW(model.parameters(), lr=0.05)
        scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
        seen = []
        model[0].weight.register_post_accumulate_grad_hook(lambda p, seen=seen: seen.append(p.grad.sum()))
        for _ in range(4):
            optimizer.zero_grad()
            scaler.scale(model(torch.ones(2, 5)).square().mean()).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        doubled = {name: 2 * p for name, p in model.named_parameters()}
        out = torch.func.functional_call(model, doubled, torch.ones(2, 5))
        out.sum().backward()
        assert flat is None or flat.is_intact()
        ends.append([*(p.detach() for p in model.parameters()), *(p.grad for p in model.parameters()), *seen])
    assert all(map(torch.equal, *ends))


@pytest.mark.filterwarnings("ignore")  # torch's own, of its compiler
def test_a_compiled_model_trains_alike():
    ends = []
    for is_flat in (False, True):
        torch.compiler.reset()
        model = Convolutional()
        flat = flatten(model) if is_flat else None
        compiled = torch.compile(model, backend="aot_eager")
        batch = MODELS["channels_last"][1]
        optimizer = at.AdamW(model.parameters(), lr=0.01)
        ends.append([*train(compiled, batch, optimizer, 3), model.norm.running_mean])
        assert flat is None or flat.is_intact(), flat
    assert all(map(torch.equal, *ends))


@pytest.fixture
def process_group(tmp_path):
    dist = pytest.importorskip("torch.distributed")
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield dist
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")  # torch's own, about its internals
@pytest.mark.parametrize("as_view", [False, True])
@pytest.mark.parametrize("first", ["flatten", "wrap"])
def test_distributed_data_parallel(process_group, as_view, first):
    ends = []
    for is_flat in (False, True):
        model = mlp()
        if is_flat and first == "flatten":
            flatten(model)
        wrapped = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=as_view)
        flat = flatten(wrapped) if is_flat else None
        optimizer = at.AdamW(wrapped.parameters(), lr=0.05)
        ends.append(train(wrapped, lambda: torch.ones(2, 5), optimizer, 4))
        assert flat is None or flat.is_intact() is not as_view
    assert all(map(torch.equal, *ends))


@pytest.mark.filterwarnings("ignore")
def test_sharded_parameters_are_left_alone(process_group):
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    mesh = process_group.device_mesh.init_device_mesh("cpu", (1,))
    flat = flatten(fully_shard(mlp(), mesh=mesh))
    assert set(flat.left_alone.values()) == {"a DTensor keeps its memory itself"}
    for original in (True, False):
        wrapped = FullyShardedDataParallel(mlp(), device_id=torch.device("cpu"), use_orig_params=original)
        assert set(flatten(wrapped).left_alone.values()) == {"FSDP or DeepSpeed keeps its memory"}

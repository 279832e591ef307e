"""Optimizers whose weights and state lie in formats, in use: layouts, keys, copies, guards, refusals.

That the bits are those of the texts is tests/torch/test_formats.py's; here one way is compared with another.
"""

from __future__ import annotations

import copy
import io
import pickle
from itertools import pairwise
from types import MappingProxyType

import pytest
import torch
from torch.nn import Parameter

import adamantine.torch as at
from adamantine.formats import block, words
from adamantine.rules import RULES
from adamantine.torch.engines import generic
from adamantine.torch.storage import codecs
from adamantine.torch.storage import layout as storage
from adamantine.torch.storage.elements import Run
from adamantine.torch.storage.stored import Stored

# --- the same whatever the layout, the cut and the engine's flags ------------------------------------------

FORMATS = [
    (torch.float32, None, "8bit"),
    (torch.float32, None, "4bit"),
    (torch.bfloat16, "stochastic", "8bit"),
    (torch.bfloat16, "kahan", "4bit"),
    (torch.bfloat16, "split8", None),
    (torch.bfloat16, "split16", "float32"),
    (torch.float16, "stochastic", None),
]
EVERY_FORMAT = pytest.mark.parametrize(
    ("dtype", "weights", "state"), FORMATS, ids=[f"{w}-{s}-{str(d)[6:]}" for d, w, s in FORMATS]
)


def steps(optimizer, params, count=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        for p in params:
            shape = torch.view_as_real(p).shape if p.is_complex() else p.shape
            g = torch.randn(shape, generator=generator)
            p.grad = torch.view_as_complex(g).to(p.dtype) if p.is_complex() else g.to(p.dtype)
        optimizer.step()


def normal(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def stored(optimizer, p):
    """All bits of one parameter, by key, with θ's own under "θ"."""
    return {"θ": p.detach(), **optimizer.state[p]}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.equal(value.reshape(-1), theirs[key].reshape(-1)), key


@EVERY_FORMAT
def test_any_cut_gives_the_same_bits(monkeypatch, dtype, weights, state):
    def run():
        p = Parameter(normal(7, 151, dtype=dtype))
        optimizer = at.AdamW([p], lr=0.01, weights=weights, state=state, engine="generic")
        steps(optimizer, [p])
        return stored(optimizer, p)

    whole = run()
    monkeypatch.setattr(generic, "ROOM_PER_THREAD", 300)
    assert_same(run(), whole)


def test_pieces_begin_with_a_block_and_leave_nothing_over():
    """A rule that needs the whole of a parameter asks for so much room, and gets it in one piece."""
    p = Parameter(normal(300))
    optimizer = at.AdamW([p], state="8bit", engine="generic")
    steps(optimizer, [p])
    how = storage.formats(optimizer.param_groups[0], RULES["adam"])
    found = Stored([p], [optimizer.state[p]], ["exp_avg", "exp_avg_sq"], how)
    for room, borders in [(300, [0, 300]), (129, [0, 256, 300]), (1, [0, 128, 256, 300])]:
        pieces = [(run.start, run.stop) for run in found.pieces(room)]
        assert pieces == list(pairwise(borders))


@EVERY_FORMAT
def test_elements_are_counted_in_row_major_order(dtype, weights, state):
    """A transposed parameter is stepped as the contiguous one of its shape."""
    p = Parameter(normal(6, 50, dtype=dtype))
    q = Parameter(p.detach().t().contiguous().t())
    assert not q.is_contiguous()
    made = [at.AdamW([x], lr=0.01, weights=weights, state=state) for x in (p, q)]
    for optimizer, x in zip(made, (p, q), strict=True):
        steps(optimizer, [x])
    assert not q.is_contiguous()
    assert_same(stored(made[1], q), stored(made[0], p))


@pytest.mark.parametrize("state", ["8bit", "4bit"])
def test_complex_numbers_are_pairs(state):
    z = Parameter(normal(5, 31, dtype=torch.complex64))
    x = Parameter(torch.view_as_real(z.detach()).clone())
    made = [at.AdamW([each], lr=0.01, state=state) for each in (z, x)]
    for optimizer, each in zip(made, (z, x), strict=True):
        steps(optimizer, [each])
    found = stored(made[0], z)
    assert_same({**found, "θ": torch.view_as_real(z.detach())}, stored(made[1], x))


@pytest.mark.parametrize("foreach", [True, False])
def test_flags_and_neighbours_change_nothing(foreach):
    alone = Parameter(normal(200))
    optimizer = at.AdamW([alone], state="8bit", engine="generic")
    steps(optimizer, [alone])
    crowd = [Parameter(normal(200)), *(Parameter(normal(n, seed=n)) for n in (3, 5, 8))]
    generator_order = at.AdamW(crowd, state="8bit", foreach=foreach, engine="generic")
    for t in range(3):
        generator = torch.Generator().manual_seed(1)
        found = [torch.randn(200, generator=generator) for _ in range(t + 1)]
        for p in crowd:
            p.grad = found[t].clone() if p is crowd[0] else torch.ones_like(p)
        generator_order.step()
    assert_same(stored(generator_order, crowd[0]), stored(optimizer, alone))


@pytest.mark.parametrize(
    ("dtype", "weights", "state"),
    [
        *FORMATS,
        (torch.float32, None, {"exp_avg": "4bit", "exp_avg_sq": "8bit"}),
        (torch.complex64, None, "4bit"),
    ],
    ids=str,
)
def test_parameters_are_stepped_together_as_alone(monkeypatch, dtype, weights, state):
    """Whole lots, several lots, one by one: the same bits, whatever the shape, place, age or fate of each."""

    def run(foreach, room=2**15):
        monkeypatch.setattr(generic, "ROOM_PER_THREAD", room)
        shapes = [(1,), (3, 5), (127,), (16, 8), (129,), (), (0, 4), (9, 111), (2, 2)]
        params = [Parameter(normal(*shape, dtype=dtype, seed=i)) for i, shape in enumerate(shapes)]
        params.append(Parameter(normal(12, 31, dtype=dtype).t()))
        optimizer = at.AdamW(
            params, lr=0.01, weights=weights, state=state, foreach=foreach, engine="generic", seed=3
        )
        steps(optimizer, params)
        steps(optimizer, params[2:], seed=2)  # and two are younger
        params[7].grad[5] = torch.inf
        optimizer.step()
        return [stored(optimizer, p) for p in params]

    alone = run(foreach=False)
    for found in (run(foreach=True), run(foreach=None), run(foreach=None, room=200)):
        for mine, its in zip(found, alone, strict=True):
            assert_same(
                {key: as_bits(x) for key, x in mine.items()}, {key: as_bits(x) for key, x in its.items()}
            )


def as_bits(x):
    """A NaN equals itself as bits."""
    x = torch.view_as_real(x) if x.is_complex() else x
    return x.contiguous().reshape(-1).view(torch.uint8)


def test_few_calls_step_many_parameters(monkeypatch):
    """What joining is for: 300 tensors are encoded as often as one."""

    def encodings(count):
        calls = []
        encode = codecs.encode
        monkeypatch.setattr(codecs, "encode", lambda *given: calls.append(1) or encode(*given))
        params = [Parameter(normal(50)) for _ in range(count)]
        optimizer = at.AdamW(params, state="8bit", engine="generic")
        steps(optimizer, params, count=1)
        monkeypatch.setattr(codecs, "encode", encode)
        return len(calls)

    assert encodings(300) == encodings(1) == 2


# --- keys ---------------------------------------------------------------------------------------------------


def test_keys_follow_seed_and_place():
    def keys(seed, *sizes):
        params = [Parameter(normal(n, dtype=torch.bfloat16)) for n in sizes]
        optimizer = at.SGD(params[:1], weights="stochastic", seed=seed)
        optimizer.add_param_group({"params": params[1:]})
        steps(optimizer, params, count=2)
        return [int(optimizer.state[p]["rounding"]) for p in params]

    def key(seed, position):
        return words.next_key(words.next_key(words.first_key(seed, position)))

    assert keys(0, 3, 4, 5) == [key(0, 0), key(0, 1), key(0, 2)]
    assert keys(9, 3, 4) == [key(9, 0), key(9, 1)]


def test_a_key_is_kept_only_where_something_is_dithered():
    def rounds(cls=at.AdamW, dtype=torch.bfloat16, **options):
        p = Parameter(torch.ones(5, dtype=dtype))
        optimizer = cls([p], **options)
        steps(optimizer, [p], count=1)
        return "rounding" in optimizer.state[p]

    assert rounds(state="8bit")
    assert rounds(state={"exp_avg_sq": "4bit"})
    assert rounds(state={"exp_avg": "4bit"})  # coded by the second moment
    assert not rounds(state={"exp_avg": "8bit"})
    assert not rounds(at.Adamax, state={"exp_avg": "4bit"})
    assert not rounds(at.Lion, state="8bit")
    assert rounds(weights="stochastic")
    assert rounds(weights="split8")
    assert not rounds(weights="split16")
    assert not rounds(weights="kahan")
    assert not rounds(weights="stochastic", dtype=torch.float32)


def test_plain_sgd_keeps_what_its_weights_need_and_nothing_else():
    for weights, keys in {"kahan": {"residual"}, "split8": {"residual", "rounding"}, None: set()}.items():
        p = Parameter(torch.ones(5, dtype=torch.bfloat16))
        optimizer = at.SGD([p], lr=0.1, weights=weights)
        steps(optimizer, [p], count=1)
        assert set(optimizer.state.get(p, {})) == keys


# --- what small steps come to -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "arrives"),
    [(None, False), *((w, True) for w in ("stochastic", "kahan", "split8", "split16"))],
)
def test_steps_below_half_a_unit_arrive(weights, arrives):
    """2000 steps of 2⁻¹² from 1 downwards, where a unit of bfloat16 is 2⁻⁸: nearest never moves."""
    p = Parameter(torch.ones(512, dtype=torch.bfloat16))
    optimizer = at.SGD([p], lr=2.0**-12, weights=weights, engine="generic")
    p.grad = torch.ones_like(p)
    for _ in range(1024):
        optimizer.step()
    mean = p.detach().double().mean().item()
    assert mean == 1.0 if not arrives else abs(mean - 0.75) < 2.0**-8


@EVERY_FORMAT
def test_a_step_of_nothing_changes_no_weight(dtype, weights, state):
    """As torch.distributed.checkpoint takes one to have a state made: lr 0, gradients of zero.

    Of a master half a unit beside θ, as Kahan's may be, the other neighbour is as near: that stays, not θ.
    """
    p = Parameter(normal(300, dtype=dtype))
    optimizer = at.AdamW([p], lr=0.01, weights=weights, state=state)
    before = p.detach().clone()
    for lr in (0.0, torch.tensor(0.0)):
        optimizer.param_groups[0]["lr"] = lr
        p.grad = torch.zeros_like(p)
        optimizer.step()
        assert torch.equal(p, before)
    optimizer.param_groups[0]["lr"] = 0.01
    steps(optimizer, [p])
    before = master(optimizer, p)
    optimizer.param_groups[0]["lr"] = 0.0
    p.grad = torch.zeros_like(p)
    optimizer.step()
    assert torch.equal(master(optimizer, p), before)


def master(optimizer, p):
    residual = optimizer.state[p].get("residual")
    return p.detach().float() if residual is None else codecs.join(p.detach(), residual)


@pytest.mark.parametrize("engine", ["auto", "generic"])
@pytest.mark.parametrize("weights", ["split8", "split16"])
def test_weights_that_were_clamped_since_stay_so(weights, engine):
    """0 and a residual below it would be the bits of a NaN."""
    p = Parameter(normal(300).bfloat16())
    optimizer = at.AdamW([p], weights=weights, weight_decay=0.0, engine=engine)
    steps(optimizer, [p])
    with torch.no_grad():
        p.clamp_(min=0)
        p[:9] = -0.0
    assert ((p == 0) & (optimizer.state[p]["residual"] < 0)).any()
    clamped = p.detach().clone()
    p.grad = torch.zeros_like(p)
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert torch.equal(p, clamped)


def test_a_skipped_step_leaves_keys_and_codes():
    p = Parameter(normal(300, dtype=torch.bfloat16))
    optimizer = at.AdamW([p], weights="split8", state="8bit", on_nonfinite="skip")
    steps(optimizer, [p], count=2)
    before = {key: value.clone() for key, value in stored(optimizer, p).items()}
    p.grad = torch.full_like(p, torch.inf)
    optimizer.step()
    assert optimizer.skipped_steps == 1
    assert_same(stored(optimizer, p), before)


def test_a_block_with_a_nonfinite_value_is_nan_and_the_others_are_not():
    p = Parameter(normal(300))
    optimizer = at.AdamW([p], state="8bit", weight_decay=0.0, engine="generic")
    p.grad = torch.ones(300)
    p.grad[130] = torch.inf
    optimizer.step()
    p.grad = torch.ones(300)
    optimizer.step()
    assert torch.isnan(p[128:256]).all()
    assert torch.isfinite(p[:128]).all()
    assert torch.isfinite(p[256:]).all()


def test_sparse_gradients_are_made_dense():
    def run(sparse):
        p = Parameter(normal(40, 4))
        optimizer = at.Adagrad([p], state="8bit", engine="generic")
        for row in (3, 17, 3):
            g = torch.zeros(40, 4)
            g[row] = 1.0
            p.grad = g.to_sparse(1) if sparse else g
            optimizer.step()
        return stored(optimizer, p)

    with torch.sparse.check_sparse_tensor_invariants():
        assert_same(run(sparse=True), run(sparse=False))


@pytest.mark.parametrize("state", ["8bit", "4bit"])
def test_a_filled_slot_is_encoded(state):
    p = Parameter(torch.ones(200))
    optimizer = at.Adagrad([p], initial_accumulator_value=0.1, state=state)
    p.grad = torch.zeros(200)
    optimizer.step()
    code = block.CODES[int(state[0]), False]
    assert optimizer.state[p]["sum_codes"].dtype == torch.uint8
    found = Stored(
        [p], [optimizer.state[p]], ["sum"], storage.formats(optimizer.param_groups[0], RULES["adagrad"])
    )
    _, (values,) = found.read(Run(0, 200, p.device))
    assert code.bits in {4, 8}
    torch.testing.assert_close(values, torch.full((200,), 0.1), rtol=2.0**-10, atol=0.0)


# --- as an object -------------------------------------------------------------------------------------------


@EVERY_FORMAT
def test_copies_and_checkpoints_go_on_with_the_same_bits(dtype, weights, state):
    def make(values):
        params = [Parameter(value.clone()) for value in values]
        return params, at.AdamW(params, lr=0.01, weights=weights, state=state, seed=3)

    values = [normal(300, dtype=dtype), normal(4, 5, dtype=dtype)]
    params, optimizer = make(values)
    steps(optimizer, params)
    memo: dict = {}
    copied = copy.deepcopy(optimizer, memo)
    pickled = pickle.loads(pickle.dumps(optimizer))
    assert pickled.seed == 3
    _, resumed = make([p.detach() for p in params])
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    steps(optimizer, params, seed=2)
    for each in (copied, pickled, resumed):
        its = each.param_groups[0]["params"]
        steps(each, its, seed=2)
        for p, q in zip(params, its, strict=True):
            assert_same(stored(each, q), stored(optimizer, p))


@EVERY_FORMAT
@pytest.mark.parametrize("flat", [False, True])
def test_torchs_distributed_checkpoint_restores_every_bit(dtype, weights, state, flat):
    """It has the state made by a step at lr 0, and asks each entry for tensors alone."""
    from torch.distributed.checkpoint import state_dict as dcp

    options = dcp.StateDictOptions(flatten_optimizer_state_dict=flat)
    models = [torch.nn.Linear(20, 10).to(dtype) for _ in range(2)]
    made = [at.AdamW(m.parameters(), lr=0.01, weights=weights, state=state) for m in models]
    steps(made[0], list(models[0].parameters()))
    models[1].load_state_dict(models[0].state_dict())
    found = dcp.get_optimizer_state_dict(models[0], made[0], options=options)
    dcp.set_optimizer_state_dict(models[1], made[1], found, options=options)
    for p, q in zip(*(m.parameters() for m in models), strict=True):
        assert_same(stored(made[1], q), stored(made[0], p))


def test_an_old_pickle_has_no_seed():
    p = Parameter(torch.ones(3))
    optimizer = at.AdamW([p])
    state = optimizer.__getstate__()
    del state["seed"], state["offload"]
    group = {key: value for key, value in state["param_groups"][0].items() if key != "weights"}
    state = {**state, "param_groups": [group], "defaults": {"lr": 0.001}}
    old = at.AdamW.__new__(at.AdamW)
    old.__setstate__(copy.deepcopy(state))
    assert (old.seed, old.param_groups[0]["weights"]) == (0, None)


def test_codes_stay_out_of_flat_buffers():
    """Blocks are a parameter's own: the codes of flat parameters are not moved together."""
    model = torch.nn.Sequential(torch.nn.Linear(20, 10), torch.nn.Linear(10, 3))
    plain = copy.deepcopy(model)
    at.flatten(model)
    ours, others = (at.AdamW(m.parameters(), state={"exp_avg": "8bit"}, lr=0.01) for m in (model, plain))
    for m, optimizer in ((model, ours), (plain, others)):
        x = normal(7, 20, seed=3)
        for _ in range(3):
            optimizer.zero_grad()
            m(x).square().mean().backward()
            optimizer.step()
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        assert_same(stored(ours, p), stored(others, q))


def test_codes_are_stored_row_major_though_the_parameter_is_not():
    model = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = at.AdamW(model.parameters(), state="8bit", weights="kahan")
    steps(optimizer, list(model.parameters()))
    codes = optimizer.state[model.weight]["exp_avg_codes"]
    assert codes.shape == model.weight.shape
    assert codes.is_contiguous()


def test_a_dense_slot_is_encoded_where_the_group_now_asks_for_blocks():
    p = Parameter(normal(300))
    optimizer = at.AdamW([p], engine="generic")
    steps(optimizer, [p])
    before = optimizer.state[p]["exp_avg_sq"].clone()
    optimizer.param_groups[0].update(state="8bit", lr=0.0)
    p.grad = torch.zeros_like(p)
    optimizer.step()
    entry = optimizer.state[p]
    assert entry["exp_avg_sq_codes"].dtype == torch.uint8
    assert not {"exp_avg", "exp_avg_sq"} & set(entry)
    form = storage.formats(optimizer.param_groups[0], RULES["adam"])
    _, (_, after) = Stored([p], [entry], ["exp_avg", "exp_avg_sq"], form).read(Run(0, 300, p.device))
    torch.testing.assert_close(after, 0.999 * before, rtol=0.25, atol=1e-8)  # coded twice, once with dither
    optimizer.param_groups[0]["state"] = "4bit"
    with pytest.raises(ValueError, match=r"exp_avg is stored as uint8 \(300,\).*state asks for \(4bit\)"):
        optimizer.step()


@pytest.mark.parametrize("engine", ["auto", "generic"])
def test_formats_changed_by_hand_are_refused_before_anything_moves(engine):
    first, second = Parameter(normal(300)), Parameter(normal(200).bfloat16())
    optimizer = at.AdamW(
        [{"params": [first]}, {"params": [second]}], state="8bit", weights="split8", engine=engine
    )
    steps(optimizer, [first, second])
    before = copy.deepcopy([first, second, [optimizer.state[p] for p in (first, second)]])
    group = optimizer.param_groups[1]
    for change, message in [
        (
            {"state": "4bit"},
            r"exp_avg is stored as uint8 \(200,\), .*state asks for \(4bit\)",
        ),
        ({"state": None}, r"exp_avg is stored as uint8 .*state asks for \(dense\)"),
        ({"state": "8bits"}, "Invalid state of exp_avg: '8bits'; choose one of"),
        (
            {"weights": "split16"},
            r"residual is stored as int8 .*weights asks for \(split16\).*store_as",
        ),
        ({"weights": "kahan"}, r"residual is stored as int8 .*weights asks for \(kahan\)"),
        ({"weights": "kahn"}, "Invalid weights: 'kahn'; choose one of"),
    ]:
        kept = {key: group[key] for key in change}
        group.update(change)
        with pytest.raises(ValueError, match=message):
            optimizer.step()
        group.update(kept)
        now = [first, second, [optimizer.state[p] for p in (first, second)]]
        torch.testing.assert_close(now, before, rtol=0, atol=0)
    optimizer.step()


@pytest.mark.parametrize("engine", ["native", "generic"])
@pytest.mark.parametrize("state", ["8bit", "float32"])
def test_numbers_beside_codes_are_refused(engine, state):
    """Whichever of the two the group asks for: the other was put there to be used."""
    p = Parameter(normal(300))
    optimizer = at.AdamW([p], lr=0.01, state=state, engine=engine)
    steps(optimizer, [p])
    entry = optimizer.state[p]
    entry["exp_avg_codes" if state == "float32" else "exp_avg"] = torch.ones(300)
    before = {key: value.clone() for key, value in stored(optimizer, p).items()}
    with pytest.raises(ValueError, match="has 'exp_avg' and 'exp_avg_codes', numbers and codes of one slot"):
        optimizer.step()
    assert_same(stored(optimizer, p), before)


@pytest.mark.parametrize("engine", ["native", "generic"])
@pytest.mark.parametrize(
    ("before", "after"), [("split16", None), ("kahan", "stochastic"), ("split8", "kahan")]
)
def test_a_residual_is_never_left_behind(engine, before, after):
    """By hand the group can be made to ask for none, or for another; a part of every weight is in it."""
    p = Parameter(normal(300, dtype=torch.bfloat16))
    optimizer = at.AdamW([p], lr=0.01, weights=before, engine=engine)
    steps(optimizer, [p])
    kept = {key: value.clone() for key, value in stored(optimizer, p).items()}
    optimizer.param_groups[0]["weights"] = after
    for act in (optimizer.step, lambda: optimizer.store_as(weights="nearest")):
        with pytest.raises(
            ValueError, match=r"residual is stored as .*set group\['weights'\] back .*store_as"
        ):
            act()
        assert_same(stored(optimizer, p), kept)
    optimizer.param_groups[0]["weights"] = before
    optimizer.store_as(weights=after)
    steps(optimizer, [p])


@pytest.mark.parametrize("engine", ["auto", "generic"])
def test_codes_under_the_slots_own_key_are_no_numbers(engine):
    p = Parameter(normal(300))
    optimizer = at.AdamW([p], lr=0.01, engine=engine)
    steps(optimizer, [p])
    optimizer.state[p]["exp_avg"] = torch.ones(300, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"exp_avg is stored as uint8 \(300,\), not as .* \(dense\)"):
        optimizer.step()


def test_a_group_has_a_dict_of_its_own():
    given = MappingProxyType({"exp_avg": "8bit"})  # no pickle takes it
    optimizer = at.AdamW([{"params": [Parameter(normal(9))], "state": given}])
    assert optimizer.param_groups[0]["state"] == {"exp_avg": "8bit"}
    copy.deepcopy(optimizer)
    params = [{"params": [Parameter(normal(9))]} for _ in range(2)]
    optimizer = at.AdamW(params, state={"exp_avg": "8bit"})
    optimizer.param_groups[0]["state"]["exp_avg"] = "4bit"
    assert optimizer.param_groups[1]["state"] == optimizer.defaults["state"] == {"exp_avg": "8bit"}


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": "3bit"}, "Invalid state: '3bit'; choose one of float32, .*4bit"),
        ({"state": {"exp_avg": "int8"}}, r"Invalid state\['exp_avg'\]: 'int8'"),
        (
            {"state": {"momentum": "8bit"}},
            "AdamW \\(adam\\) has no 'momentum'; it keeps 'exp_avg', 'exp_avg_sq'",
        ),
        ({"weights": "random"}, "Invalid weights: 'random'; choose one of nearest, stochastic"),
        ({"seed": 0.5}, "Invalid seed: 0.5; give a whole number"),
        ({"state": "8bit", "differentiable": True}, "differentiable=True needs state=None"),
        ({"weights": "kahan", "differentiable": True}, "differentiable=True needs .*weights='nearest'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        at.AdamW([Parameter(torch.ones(2))], **options)
    if "seed" not in options and "differentiable" not in options:
        with pytest.raises(ValueError, match=message):
            at.AdamW([{"params": [Parameter(torch.ones(2))], **options}])


@pytest.mark.parametrize("state", ["8bit", {"grad_avg": "4bit"}, {"square_avg": "8bit"}])
def test_averages_that_are_subtracted_are_not_coded(state):
    """√(v - a²) of codes: gradients of N(0.3, 1) in 4 bits, or N(1, 0.3²) in 8, made steps of g/eps."""
    p = Parameter(normal(300))
    with pytest.raises(ValueError, match=r"root of a difference.*\{'momentum_buffer': '.bit'\}"):
        at.RMSprop([p], centered=True, momentum=0.9, state=state)
    optimizer = at.RMSprop([p], centered=True, momentum=0.9, state={"momentum_buffer": "8bit"})
    steps(optimizer, [p])
    before = copy.deepcopy(dict(optimizer.state[p]))
    with pytest.raises(ValueError, match="divides by the root"):
        optimizer.store_as(state=state)
    torch.testing.assert_close(optimizer.state[p], before, rtol=0, atol=0)


@pytest.mark.parametrize("weights", ["split8", "split16"])
def test_split_weights_are_bfloat16(weights):
    p = Parameter(torch.ones(2, dtype=torch.float16))
    with pytest.raises(ValueError, match=r"for q, which is float16: .*weights='kahan' or 'stochastic'"):
        at.AdamW([("q", p)], weights=weights)
    optimizer = at.AdamW([("p", Parameter(torch.ones(2)))], weights=weights)
    with pytest.raises(ValueError, match="which is float16"):
        optimizer.add_param_group({"params": [("q", p)]})
    assert len(optimizer.param_groups) == 1


def test_a_model_that_became_float16_since():
    p = Parameter(torch.ones(2, dtype=torch.bfloat16))
    optimizer = at.AdamW([("w", p)], weights="split8")
    p.data = p.data.half()
    p.grad = torch.ones_like(p)
    with pytest.raises(ValueError, match="for w, which is float16"):
        optimizer.step()


class Sharded(torch.Tensor):
    """Stands for DTensor: a subclass whose elements lie where it likes."""


@pytest.mark.parametrize("options", [{"state": "8bit"}, {"weights": "kahan"}])
def test_sharded_tensors_are_refused(options):
    p = torch.ones(4, dtype=torch.bfloat16).as_subclass(Sharded).requires_grad_()
    with pytest.raises(ValueError, match=r"w is a Sharded.*state='bfloat16'"):
        at.AdamW([("w", p)], **options)
    at.AdamW([("w", p)], state="bfloat16")


@pytest.mark.parametrize(
    "options", [{"state": "8bit"}, {"state": {"exp_avg": "bfloat16"}}, {"weights": "kahan"}]
)
def test_stacked_members_are_ordinary_tensors(options):
    theta = torch.ones(2, 3, requires_grad=True)
    with pytest.raises(ValueError, match="stacked members"):
        at.Stacked(at.AdamW, [{"params": [theta], "weight_decay": 0.0}], lr=[0.1, 0.2], **options)


# --- beside everything else a step does ---------------------------------------------------------------------


@EVERY_FORMAT
@pytest.mark.parametrize(
    "options",
    [{"max_norm": 0.5, "on_nonfinite": "raise"}, {"maximize": True}, {"decay": "cautious"}],
    ids=str,
)
def test_both_engines_take_the_same_step(dtype, weights, state, options):
    def run(engine):
        params = [Parameter(normal(*shape, dtype=dtype)) for shape in ((129,), (3, 5), (), (0, 2), (40, 70))]
        optimizer = at.AdamW(params, lr=0.01, weights=weights, state=state, engine=engine, **options)
        steps(optimizer, params)
        return [stored(optimizer, p) for p in params]

    for mine, its in zip(run("generic"), run("auto"), strict=True):
        assert_same(mine, its)


@EVERY_FORMAT
def test_a_parameter_goes_from_one_engine_to_the_other(dtype, weights, state):
    def run(*engines):
        p = Parameter(normal(300, dtype=dtype))
        optimizer = at.AdamW([p], lr=0.01, weights=weights, state=state)
        for seed, engine in enumerate(engines):
            optimizer.engine = engine
            steps(optimizer, [p], count=2, seed=seed)
        return stored(optimizer, p)

    assert_same(run("native", "generic", "native"), run("generic", "native", "generic"))


@pytest.mark.parametrize(
    ("dtype", "weights", "state"), [each for each in FORMATS if each[0] != torch.float16], ids=str
)
def test_grad_scaler_and_closure(dtype, weights, state):
    """torch's scaler itself refuses gradients in float16."""

    def run(scaled):
        p = Parameter(normal(300, dtype=dtype))
        optimizer = at.AdamW([p], lr=0.01, weights=weights, state=state)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0, enabled=scaled)
        for t in range(3):
            factor = torch.inf if scaled and t == 1 else 1.0  # that step is left out
            if t == 1 and not scaled:
                continue
            p.grad = None
            scaler.scale(p.float().sum() * factor * (t + 1)).backward()
            scaler.step(optimizer)
            scaler.update()
        loss = optimizer.step(lambda: 2.5)
        assert loss == 2.5
        return stored(optimizer, p)

    assert_same(run(scaled=True), run(scaled=False))


def test_compiled_around_a_step():
    """torch.compile leaves the step alone, in formats as without."""
    p, q = (Parameter(normal(130, dtype=torch.bfloat16)) for _ in range(2))
    made = [at.AdamW([x], lr=0.01, state="8bit", weights="split8") for x in (p, q)]
    run = torch.compile(lambda: made[1].step(), backend="eager")
    for _ in range(2):
        p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
        made[0].step()
        run()
    assert_same(stored(made[0], p), stored(made[1], q))


@EVERY_FORMAT
def test_all_that_is_decoded_stays_on_its_device(dtype, weights, state):
    """The meta device computes nothing and refuses what mixes devices; counters and keys are the host's."""
    p = Parameter(torch.empty(7, 50, dtype=dtype, device="meta"))
    optimizer = at.AdamW([p], weights=weights, state=state)
    p.grad = torch.empty_like(p)
    optimizer.step()
    on_host = {"step", "rounding"}
    devices = {key: value.device.type for key, value in optimizer.state[p].items()}
    assert devices == {key: "cpu" if key in on_host else "meta" for key in devices}

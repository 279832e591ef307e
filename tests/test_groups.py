"""What decays and why, on real torch modules: one model per claim, the reasons checked word for word."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from adamantine.groups import Decision, ParamGroups, param_groups


def decide(model: nn.Module, **options) -> dict[str, Decision]:
    """Decisions by name, with the invariants that hold for every model."""
    groups = param_groups(model, lr=1e-3, weight_decay=0.1, **options)
    _check_invariants(model, groups)
    return {d.name: d for d in groups.decisions}


def _check_invariants(model: nn.Module, groups: ParamGroups) -> None:
    """Each parameter is decided once, each trainable one is in exactly its decision's group."""
    assert [d.name for d in groups.decisions] == [name for name, _ in model.named_parameters()]
    parameters = dict(model.named_parameters())
    for index, group in enumerate(groups):
        assert group["params"], "no empty group"
        for name, parameter in group["params"]:
            assert parameter is parameters[name]
            decision = next(d for d in groups.decisions if d.name == name)
            assert decision.group == index
            assert (decision.lr, decision.weight_decay) == (group["lr"], group["weight_decay"])
            assert decision.decays == (group["weight_decay"] > 0)
            assert decision.numel == parameter.numel()
            assert decision.shape == tuple(parameter.shape)
    grouped = [name for group in groups for name, _ in group["params"]]
    assert sorted(grouped) == sorted(name for name, p in parameters.items() if p.requires_grad)


def answers(decisions: dict[str, Decision]) -> dict[str, tuple[bool, str]]:
    return {name: (d.decays, d.reason) for name, d in decisions.items()}


def table_of(shape: tuple[int, ...]) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


class Bag(nn.Module):
    """A module with given parameters and children; its class name tells nothing."""

    def __init__(self, **members: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, member in members.items():
            setattr(self, name, member)


def test_transformer_layer_and_attention_biases() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    layer.memory = nn.MultiheadAttention(8, 2, add_bias_kv=True, kdim=4, vdim=4)
    found = answers(decide(layer))
    assert found["self_attn.in_proj_weight"] == (True, "in_proj_weight of MultiheadAttention (2-D)")
    assert found["self_attn.in_proj_bias"] == (False, "bias")
    assert found["self_attn.out_proj.weight"] == (True, "weight of NonDynamicallyQuantizableLinear (2-D)")
    assert found["memory.bias_k"] == (False, "bias")  # shape (1, 1, E)
    assert found["memory.k_proj_weight"][0]
    assert found["linear2.weight"] == (True, "weight of Linear (2-D)")
    assert found["norm1.weight"] == found["norm1.bias"] == (False, "normalization (LayerNorm)")


@pytest.mark.parametrize(
    "norm",
    [
        nn.LayerNorm((4, 5, 6)),  # a 3-D weight: shape alone would let it decay
        nn.RMSNorm((4, 5)),
        nn.BatchNorm1d(4),
        nn.BatchNorm2d(4),
        nn.BatchNorm3d(4),
        nn.SyncBatchNorm(4),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True),
    ],
    ids=lambda norm: type(norm).__name__,
)
def test_every_normalization_of_torch_is_known_by_type(norm: nn.Module) -> None:
    found = decide(nn.Sequential(nn.Linear(2, 2), norm))
    mine = [d for name, d in found.items() if name.startswith("1.")]
    assert mine
    assert {(d.decays, d.reason) for d in mine} == {(False, f"normalization ({type(norm).__name__})")}


@pytest.mark.parametrize(
    ("class_name", "bases", "is_norm"),
    [
        ("LlamaRMSNorm", (nn.Module,), True),
        ("T5LayerNorm", (nn.Module,), True),
        ("MixedFusedLayerNorm", (nn.Module,), True),
        ("RMSNormGated", (nn.Module,), True),
        ("GlobalResponseNorm", (nn.Module,), True),
        ("BatchRenorm2d", (nn.Module,), True),
        ("LayerNormalization", (nn.Module,), True),
        ("ConvLayerNorm", (nn.Module,), True),
        ("Ours", (nn.LayerNorm,), True),
        ("NormLinear", (nn.Module,), False),
        ("WeightNormConv2d", (nn.Module,), False),
        ("NormedMatrix", (nn.Module,), False),
        ("Normalizer", (nn.Module,), False),
        ("NormFormerLayer", (nn.Module,), False),
        ("AbnormalDetector", (nn.Module,), False),
    ],
)
def test_class_names_tell_norms_from_layers_with_norm_in_the_name(
    class_name: str, bases: tuple[type, ...], is_norm: bool
) -> None:
    made = type(class_name, bases, {})(*([3] if bases == (nn.LayerNorm,) else []))
    made.weight = table_of((3, 3))
    decision = decide(Bag(part=made))["part.weight"]
    assert decision.decays is not is_norm
    assert decision.reason == (
        f"normalization ({class_name})" if is_norm else f"weight of {class_name} (2-D)"
    )


@pytest.mark.parametrize(
    "name",
    [
        "norm",
        "norm1",
        "norm_out",
        "ln_1",
        "ln_f",
        "ln_pre",
        "bn1",
        "layernorm",
        "LayerNorm",
        "layer_norm",
        "layernorm_before",
        "post_attention_layernorm",
        "q_norm",
        "group_norm_2",
    ],
)
def test_norm_names_count_as_whole_components(name: str) -> None:
    found = answers(decide(Bag(**{name: Bag(weight=table_of((3, 4)))})))
    assert found[f"{name}.weight"] == (False, f"normalization by name ({name})")


@pytest.mark.parametrize(
    "name", ["normalizer_proj", "norm_proj", "lnorm", "enormous", "abnormal", "kiln", "bnx"]
)
def test_norm_inside_a_longer_name_is_no_norm(name: str) -> None:
    found = decide(Bag(**{name: Bag(weight=table_of((3, 4)))}, fc=Bag(**{name: table_of((3, 4))})))
    assert all(d.decays for d in found.values())


@pytest.mark.parametrize("name", ["norm", "ln_1", "norm_proj", "bn"])
def test_a_linear_with_a_norm_name_is_still_a_linear(name: str) -> None:
    found = answers(decide(Bag(**{name: nn.Linear(4, 3)})))
    assert found == {f"{name}.weight": (True, "weight of Linear (2-D)"), f"{name}.bias": (False, "bias")}


def test_a_linear_inside_an_adaptive_norm_decays() -> None:
    class AdaLayerNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

    found = answers(decide(Bag(norm1=AdaLayerNorm())))
    assert found["norm1.linear.weight"] == (True, "weight of Linear (2-D)")
    assert found["norm1.norm.weight"] == (False, "normalization (LayerNorm)")


def test_vectors_scalars_and_broadcast_shapes() -> None:
    model = Bag(
        temperature=nn.Parameter(torch.tensor(1.0)),
        slope=table_of((7,)),
        shift=table_of((1, 7, 1, 1)),
        layer_scale=table_of((3, 7)),
        gamma_1=table_of((3, 7)),
        scale=table_of((3, 7)),
        LayerScale=table_of((3, 7)),
        upscale=table_of((3, 7)),
        A_log=table_of((3, 7)),
        latents=table_of((5, 7)),
        head=nn.Linear(7, 1, bias=False),  # (1, 7) as the broadcast vector, but a matrix
        depthwise=nn.Conv2d(7, 7, 1, groups=7, bias=False),  # (7, 1, 1, 1)
    )
    assert answers(decide(model)) == {
        "temperature": (False, "scalar"),
        "slope": (False, "vector (1-D)"),
        "shift": (False, "vector in broadcast shape"),
        "layer_scale": (False, "scale by name (layer_scale)"),
        "gamma_1": (False, "scale by name (gamma_1)"),
        "scale": (False, "scale by name (scale)"),
        "LayerScale": (False, "scale by name (LayerScale)"),
        "upscale": (True, "upscale of Bag (2-D)"),
        "A_log": (True, "A_log of Bag (2-D)"),
        "latents": (True, "latents of Bag (2-D)"),
        "head.weight": (True, "weight of Linear (2-D)"),
        "depthwise.weight": (True, "weight of Conv2d (4-D)"),
    }


def test_further_parameters_of_a_linear_are_judged_by_shape() -> None:
    """DoRA's magnitude vector, Swin's logit scale: only the weight of a layer is exempt from the rule."""

    class LoraLinear(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 3)
            self.magnitude, self.down = table_of((1, 3)), table_of((2, 4))

    class WindowAttention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logit_scale = table_of((2, 1, 1))

    found = answers(decide(Bag(norm=LoraLinear(), attn=WindowAttention())))
    assert found["norm.weight"] == (True, "weight of LoraLinear (2-D)")
    assert found["norm.magnitude"] == (False, "vector in broadcast shape")
    assert found["norm.down"] == (True, "down of LoraLinear (2-D)")
    assert found["attn.logit_scale"] == (False, "scale by name (logit_scale)")


def test_recurrent_nets() -> None:
    found = answers(decide(nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2)))
    assert found["weight_ih_l0"] == (True, "weight_ih_l0 of LSTM (2-D)")
    assert found["weight_hr_l1_reverse"][0]
    assert {why for name, why in found.items() if name.startswith("bias")} == {(False, "bias")}
    assert decide(nn.LSTMCell(3, 4))["bias_ih"].reason == "bias"


@pytest.mark.parametrize("shape", [(4,), (4, 6), (1, 4, 6)], ids=str)
@pytest.mark.parametrize("name", ["q_bias", "attention_biases", "gate_up_proj_bias", "bias"])
def test_biases_of_any_shape(name: str, shape: tuple[int, ...]) -> None:
    assert answers(decide(Bag(**{name: table_of(shape)}))) == {name: (False, "bias")}


def test_embeddings_by_choice() -> None:
    def model() -> nn.Module:
        class LearnedPositions(nn.Embedding):
            pass

        return Bag(
            wte=nn.Embedding(10, 4),
            bag=nn.EmbeddingBag(10, 4),
            positions=LearnedPositions(6, 4),
            types=nn.Embedding(1, 4),
            pos_embed=table_of((1, 6, 4)),
            cls_token=table_of((1, 1, 4)),
            relative_position_bias_table=table_of((9, 2)),
            embed_proj=table_of((4, 4)),
            patch_embed=nn.Linear(4, 4, bias=False),
        )

    spared = answers(decide(model()))
    assert spared["wte.weight"] == (False, "embedding table (Embedding)")
    assert spared["bag.weight"] == (False, "embedding table (EmbeddingBag)")
    assert spared["positions.weight"] == (False, "embedding table (LearnedPositions)")
    assert spared["pos_embed"] == (False, "embedding table (pos_embed)")
    assert spared["cls_token"] == (False, "embedding table (cls_token)")
    name = "relative_position_bias_table"
    assert spared[name] == (False, f"embedding table ({name})")
    assert spared["embed_proj"][0]
    assert spared["patch_embed.weight"][0]

    decaying = answers(decide(model(), embeddings="decay"))
    assert decaying["wte.weight"] == (True, "embedding table (Embedding), embeddings='decay'")
    assert decaying["types.weight"][0]
    assert decaying["pos_embed"][0]
    assert decaying["cls_token"] == (False, "vector in broadcast shape")  # a vector never decays by itself


@pytest.mark.parametrize(
    "name",
    [
        "position_embeddings",
        "positional_embedding",
        "absolute_pos_embed",
        "pos_emb",
        "pos_embed_window",
        "class_embedding",
        "mask_token",
        "register_tokens",
        "rel_pos_h",
        "query_embed",
        "pos_table",
        "wpe",
    ],
)
def test_names_of_tables(name: str) -> None:
    assert not decide(Bag(**{name: table_of((3, 4))}))[name].decays


@pytest.mark.parametrize("name", ["token_mixer", "text_projection", "proj", "embedder_w", "composition"])
def test_names_that_only_resemble_tables(name: str) -> None:
    assert decide(Bag(**{name: table_of((3, 4))}))[name].decays


def test_tied_embedding_and_head_come_once_and_no_decay_wins() -> None:
    model = Bag(wte=nn.Embedding(10, 4), head=nn.Linear(4, 10, bias=False))
    model.head.weight = model.wte.weight
    found = decide(model)
    assert list(found) == ["wte.weight"]
    assert found["wte.weight"].aliases == ("head.weight",)
    assert answers(found)["wte.weight"] == (
        False,
        "embedding table (Embedding); tied with head.weight, and the use without decay decides",
    )
    assert answers(decide(model, embeddings="decay"))["wte.weight"] == (
        True,
        "embedding table (Embedding), embeddings='decay'; tied with head.weight",
    )
    # A pattern may name the parameter by any of its names.
    assert answers(decide(model, decay=["head.*"]))["wte.weight"] == (True, "decay='head.*'")


def test_the_order_of_registration_does_not_change_a_tied_verdict() -> None:
    model = Bag(head=nn.Linear(4, 10, bias=False), wte=nn.Embedding(10, 4))
    model.wte.weight = model.head.weight
    assert not decide(model)["head.weight"].decays


def test_a_shared_module_is_decided_once() -> None:
    block = nn.Linear(4, 4)
    found = decide(nn.Sequential(block, nn.ReLU(), block))
    assert {d.name: d.aliases for d in found.values()} == {
        "0.weight": ("2.weight",),
        "0.bias": ("2.bias",),
    }
    assert found["0.weight"].reason == "weight of Linear (2-D); tied with 2.weight"


def test_frozen_parameters_are_listed_and_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    groups = param_groups(model, lr=1e-3, weight_decay=0.1)
    _check_invariants(model, groups)
    assert [(d.name, d.reason, d.group) for d in groups.decisions[:2]] == [
        ("0.weight", "frozen: requires_grad is False", None),
        ("0.bias", "frozen: requires_grad is False", None),
    ]
    assert groups.summary() == "1 of 2 parameters decay (6 of 8 elements, 75.0%); frozen: 2; groups: 2"
    with pytest.raises(ValueError, match="requires_grad=True"):
        param_groups(model.requires_grad_(False), lr=1e-3, weight_decay=0.1)


def test_weight_norm_old_and_new() -> None:
    magnitude = "weight_norm magnitude: it scales the weight, so its decay is the weight's"
    direction = "weight_norm direction: decays as a weight before a normalization"
    new = answers(decide(Bag(norm=parametrizations.weight_norm(nn.Linear(4, 3)))))
    assert new == {
        "norm.bias": (False, "bias"),
        "norm.parametrizations.weight.original0": (True, magnitude),
        "norm.parametrizations.weight.original1": (True, direction),
    }
    with pytest.warns(FutureWarning):
        old = answers(decide(nn.utils.weight_norm(nn.Conv2d(4, 1, 3))))  # g: one element, (1, 1, 1, 1)
    assert old["weight_g"] == (True, magnitude)
    assert old["weight_v"] == (True, direction)
    scalar = answers(decide(parametrizations.weight_norm(nn.Linear(4, 3), dim=None)))
    assert scalar["parametrizations.weight.original0"] == (False, "scalar")


def test_decay_of_the_weight_norm_magnitude_is_decay_of_the_weight() -> None:
    """The fact that the rule above rests on."""
    layer = parametrizations.weight_norm(nn.Linear(4, 3))
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.parametrizations.weight.original0 *= 0.9
    torch.testing.assert_close(layer.weight.detach(), 0.9 * before)


def test_other_parametrizations_are_seen_through() -> None:
    found = answers(decide(parametrizations.orthogonal(nn.Linear(4, 4))))
    assert found["parametrizations.weight.original"] == (True, "weight of ParametrizedLinear (2-D)")


def test_parameter_lists_take_the_name_of_the_list() -> None:
    model = Bag(
        pos_embeds=nn.ParameterList([table_of((3, 4))]),
        experts=nn.ParameterList([table_of((3, 4))]),
        extra=nn.ParameterDict({"scale_bias": table_of((3, 4)), "w": table_of((3, 4))}),
    )
    assert {name: d.decays for name, d in decide(model).items()} == {
        "pos_embeds.0": False,
        "experts.0": True,
        "extra.scale_bias": False,
        "extra.w": True,
    }


class Listing(nn.Module):
    """timm's and Swin's ways of saying what must not decay."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.special = table_of((3, 4)), table_of((3, 4))
        self.cpb_mlp = nn.Linear(4, 4)
        self.fc = nn.Linear(4, 4)

    def no_weight_decay(self) -> set[str]:
        return {"queries", "dist_token"}  # a name that this variant of the model lacks is no error

    def no_weight_decay_keywords(self) -> set[str]:
        return {"cpb_mlp"}


def test_the_models_own_list() -> None:
    model = Listing()
    model.special._no_weight_decay = True
    found = answers(decide(model))
    assert found["queries"] == (False, "the model's no_weight_decay lists 'queries'")
    assert found["cpb_mlp.weight"] == (False, "the model's no_weight_decay_keywords lists 'cpb_mlp'")
    assert found["special"] == (False, "marked _no_weight_decay by the model")
    assert found["fc.weight"][0]


def test_the_list_of_an_inner_model_and_as_an_attribute() -> None:
    inner = Bag(backbone=Listing(), queries=table_of((3, 4)))
    inner.no_weight_decay = ["backbone.fc.*"]
    found = {name: d.decays for name, d in decide(inner).items()}
    assert not found["backbone.queries"]
    assert not found["backbone.cpb_mlp.weight"]
    assert found["queries"], "the inner list is relative to the inner model"
    assert not found["backbone.fc.weight"], "an attribute, with a pattern"


def test_patterns_win_over_every_rule() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    found = answers(decide(model, decay=["1.weight"], no_decay=["0.w*"]))
    assert found["1.weight"] == (True, "decay='1.weight'")
    assert found["0.weight"] == (False, "no_decay='0.w*'")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"no_decay": ["encoder.bais"]}, ValueError, r"no_decay pattern 'encoder.bais' .* encoder.bias"),
        ({"decay": ["bias"]}, ValueError, r"decay pattern 'bias' matches no .*'\*bias\*' would match 1"),
        ({"decay": ["encoder.*"], "no_decay": ["*.bias"]}, ValueError, "narrower"),
        ({"no_decay": "*.bias"}, TypeError, "sequence of patterns"),
        ({"embeddings": True}, ValueError, "Invalid embeddings: True"),
        ({"lr": -1.0}, ValueError, "Invalid lr: -1.0"),
        ({"lr": "a"}, ValueError, "Invalid lr: 'a'; it must be a number, finite and >= 0"),
        ({"weight_decay": None}, ValueError, "Invalid weight_decay: None"),
        ({"layer_decay": "a"}, ValueError, "Invalid layer_decay: 'a'"),
        ({"weight_decay": float("nan")}, ValueError, "Invalid weight_decay: nan"),
        ({"layer_decay": 1.5}, ValueError, "Invalid layer_decay: 1.5"),
        ({"depth": {"*": 0}}, ValueError, "without layer_decay"),
        ({"layer_decay": 0.5}, ValueError, "no Sequential or ModuleList"),
        ({"layer_decay": 0.5, "depth": {"decoder.*": 0}}, ValueError, "depth pattern 'decoder.*'"),
        ({"layer_decay": 0.5, "depth": {"*.bias": 0}}, ValueError, "gives None for encoder.weight"),
        ({"layer_decay": 0.5, "depth": lambda name: -1}, ValueError, "gives -1 for encoder.weight"),
    ],
)
def test_errors_name_parameter_and_remedy(options: dict, error: type[Exception], text: str) -> None:
    model = Bag(encoder=nn.Linear(3, 3))
    with pytest.raises(error, match=text):
        param_groups(model, **{"lr": 1e-3, "weight_decay": 0.1, **options})


def test_parameters_flattened_by_fsdp1_are_refused() -> None:
    wrapped = Bag(_fsdp_wrapped_module=nn.Linear(3, 3))
    with pytest.raises(ValueError, match="fully_shard"):
        param_groups(wrapped, lr=1e-3, weight_decay=0.1)


def test_lazy_modules_are_asked_for_a_forward_pass() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"0\.weight belongs to a lazy module.*one forward pass"):
        param_groups(model, lr=1e-3, weight_decay=0.1)
    model(torch.zeros(1, 3))
    assert decide(model)["0.weight"].shape == (4, 3)


def depths(model: nn.Module, **options) -> dict[str, int]:
    """Depth counted from the head: with layer_decay 1/2, lr = 2^-(deepest - depth), which is exact."""
    groups = param_groups(model, lr=1.0, weight_decay=0.1, layer_decay=0.5, **options)
    exponents = {
        d.name: round(-torch.tensor(d.lr, dtype=torch.float64).log2().item()) for d in groups.decisions
    }
    return {name: max(exponents.values()) - exponent for name, exponent in exponents.items()}


def test_depth_of_a_transformer_with_stem_and_head() -> None:
    model = Bag(
        cls_token=table_of((1, 1, 8)),
        stem=nn.Linear(4, 8),
        blocks=nn.ModuleList([nn.TransformerEncoderLayer(8, 2, 16) for _ in range(3)]),
        norm=nn.LayerNorm(8),
        head=nn.Linear(8, 2),
    )
    found = depths(model)
    assert found["cls_token"] == found["stem.weight"] == 0
    assert [found[f"blocks.{i}.linear1.weight"] for i in range(3)] == [1, 2, 3]
    assert found["blocks.0.self_attn.in_proj_weight"] == 1
    assert found["norm.weight"] == found["head.bias"] == 4


def test_depth_of_containers_in_containers() -> None:
    def conv(a: int, b: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(a, b, 3), nn.BatchNorm2d(b), nn.ReLU())

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4))

    stages = nn.Sequential(
        conv(3, 4), nn.Sequential(Block(), Block()), nn.Linear(4, 4), nn.Sequential(Block())
    )
    found = depths(nn.Sequential(stages, nn.Flatten(), nn.Linear(4, 2)))
    assert found["0.0.0.weight"] == found["0.0.1.weight"] == 0  # conv and its norm are one layer, no stem
    assert found["0.1.0.mlp.0.weight"] == found["0.1.0.mlp.2.weight"] == 1
    assert found["0.1.1.mlp.0.weight"] == 2
    assert found["0.2.weight"] == 3
    assert found["0.3.0.mlp.0.weight"] == 4
    assert found["2.weight"] == 5


def test_depth_of_plain_sequentials_and_sibling_stages() -> None:
    mlp = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 1))
    assert depths(mlp) == {
        **dict.fromkeys(["0.weight", "0.bias", "1.weight", "1.bias"], 0),
        **dict.fromkeys(["3.weight", "3.bias"], 1),
        **dict.fromkeys(["4.weight", "4.bias"], 2),
    }
    resnet = Bag(
        conv1=nn.Conv2d(3, 3, 3),
        layer1=nn.Sequential(Bag(conv=nn.Conv2d(3, 3, 3)), Bag(conv=nn.Conv2d(3, 3, 3))),
        layer2=nn.Sequential(Bag(conv=nn.Conv2d(3, 3, 3)), Bag(conv=nn.Conv2d(3, 3, 3))),
        fc=nn.Linear(3, 2),
    )
    weights = {name: depth for name, depth in depths(resnet).items() if name.endswith("weight")}
    assert list(weights.values()) == [0, 1, 2, 3, 4, 5]


def test_depth_stated_by_function_or_patterns() -> None:
    model = Bag(tower=nn.Linear(2, 2), text=nn.Linear(2, 2), head=nn.Linear(2, 2))
    by_pattern = depths(model, depth={"head.*": 3, "*": 1})
    assert by_pattern == depths(model, depth=lambda name: 3 if name.startswith("head") else 1)
    groups = param_groups(model, lr=1.0, weight_decay=0.1, layer_decay=0.5, depth={"head.*": 3, "*": 1})
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in groups] == [
        (0.25, 0.1, 2),
        (0.25, 0.0, 2),
        (1.0, 0.1, 1),
        (1.0, 0.0, 1),
    ]


def test_an_optimizer_takes_the_groups_by_name() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    optimizer = torch.optim.AdamW(param_groups(model, lr=1e-3, weight_decay=0.1))
    assert [group["param_names"] for group in optimizer.param_groups] == [
        ["0.weight"],
        ["0.bias", "1.weight", "1.bias"],
    ]
    model(torch.zeros(1, 3)).sum().backward()
    model[0].weight.grad.zero_()
    model[1].weight.grad.zero_()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    torch.testing.assert_close(model[0].weight.detach(), before[0] * (1 - 1e-3 * 0.1), rtol=1e-6, atol=0)
    assert torch.equal(model[1].weight.detach(), before[2])


def test_weight_decay_zero_keeps_the_two_groups_apart() -> None:
    """So that a schedule may raise the decay later without touching biases."""
    groups = param_groups(nn.Linear(3, 3), lr=1e-3, weight_decay=0.0)
    assert [[name for name, _ in group["params"]] for group in groups] == [["weight"], ["bias"]]


def test_copies_keep_the_decisions() -> None:
    groups = param_groups(nn.Linear(3, 3), lr=1e-3, weight_decay=0.1)
    for twin in (copy.deepcopy(groups), pickle.loads(pickle.dumps(groups)), copy.copy(groups)):
        assert type(twin) is ParamGroups
        assert twin.decisions == groups.decisions
        assert twin.table() == groups.table()
        assert len(twin) == 2
    assert repr(groups) == f"<ParamGroups: {groups.summary()}>"


def test_the_table_is_aligned_and_complete() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 2))
    model[1].requires_grad_(False)
    groups = param_groups(model, lr=1e-3, weight_decay=0.1)
    lines = groups.table().splitlines()
    assert len(lines) == 2 + len(groups.decisions) + 2
    column = lines[0].index("reason")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines[:-2])
    assert "8×3×3×3" in lines[2]
    assert lines[4].split()[:4] == ["-", "1.weight", "8", "frozen"]
    assert lines[-1] == groups.summary()


def test_groups_import_no_framework() -> None:
    code = "import sys, adamantine.groups, adamantine.schedules; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"

"""at= and stages=: which of the sites."""

import copy
import functools

import pytest
import torch
from torch import nn

from whatwhere import cli
from whatwhere.errors import WhatwhereError
from whatwhere.networks.small import small_resnet
from whatwhere.placement import sites
from whatwhere.surgery import attentions, insert, remove

IMAGE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
BRANCHES = [f"stages.{stage}.0.bn2" for stage in range(3)]


@functools.cache
def pristine():
    torch.manual_seed(0)
    return small_resnet(4).eval()


def chosen(**options):
    return [site.module for site in sites(pristine(), IMAGE, **options)]


def test_the_default_are_the_branches():
    assert chosen() == chosen(at="residual") == BRANCHES
    assert [site.stage for site in sites(pristine(), IMAGE)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("stages.1.*", ["stages.1.0.bn2"]),
        (("stages.2.*", "stages.0.*"), ["stages.0.0.bn2", "stages.2.0.bn2"]),
        ("stages.1.0.conv1", ["stages.1.0.conv1"]),
        ("stages.*.conv2", ["stages.0.0.conv2", "stages.1.0.conv2", "stages.2.0.conv2"]),
        ("stages.1", ["stages.1.0"]),
        ("stem", ["stem.2"]),
        (["stem", "stages.2.*"], ["stem.2", "stages.2.0.bn2"]),
        ("stage", ["stages.0.0.relu2", "stages.1.0.relu2", "stages.2.0.relu2"]),
        (
            "norm",
            ["stem.1"]
            + ["stages.0.0.bn1", "stages.0.0.bn2"]
            + [f"stages.{s}.0.{n}" for s in (1, 2) for n in ("bn1", "bn2", "shortcut.1")],
        ),
        (["residual", "stem", "stages.0.0.bn2"], ["stem.2", *BRANCHES]),
        (lambda site: site.channels > 16, BRANCHES[1:]),
        (lambda site: site.kind == "residual" and site.stage == 0, BRANCHES[:1]),
    ],
)
def test_at(at, expected):
    assert chosen(at=at) == expected


def test_a_module_that_the_user_names_is_said_to_be_so():
    (found,) = sites(pristine(), IMAGE, at="stages.1")
    assert (found.kind, found.channels, found.size, found.stage) == ("module", 32, (8, 8), 1)
    assert found.why == "named 'stages.1': it makes what stages.1 returns"


def test_sites_choose_sites():
    every = sites(pristine(), IMAGE)
    assert sites(copy.deepcopy(pristine()), IMAGE, at=every[1:]) == every[1:]
    assert sites(pristine(), IMAGE, at=every[0]) == every[:1]
    for kind in ("norm", "stage", "stages.*.conv1"):
        some = sites(pristine(), IMAGE, at=kind)[1:]
        assert [site.module for site in sites(pristine(), IMAGE, at=some)] == [site.module for site in some]


@pytest.mark.parametrize(
    ("stages", "expected"),
    [(0, [0]), (-1, [2]), ((-2, -1), [1, 2]), ([2, 0], [0, 2]), ((0, -3), [0]), (range(2), [0, 1])],
)
def test_stages(stages, expected):
    assert [site.stage for site in sites(pristine(), IMAGE, stages=stages)] == expected


def test_stages_number_the_sizes_of_all_sites():
    class Stem(nn.Module):
        def __init__(self):
            super().__init__()
            self.large, self.rest = nn.Conv2d(3, 3, 3, padding=1), copy.deepcopy(pristine())

        def forward(self, x):
            return self.rest(self.large(x))

    model = Stem()
    assert [site.stage for site in sites(model, IMAGE)] == [0, 1, 2]
    found = sites(model, IMAGE, at=["large", "rest.stages.2.*"])
    assert [(site.module, site.stage) for site in found] == [("large", 0), ("rest.stages.2.0.bn2", 3)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": "stages.7.*"}, r"no site and no module matches at='stages.7.\*'.*stages.0.0.bn2, stages.1.0.bn2"),
        ({"at": "stages.1.0.bn3"}, "did you mean 'stages.1.0.bn"),
        ({"at": "head"}, r"head returns no \(N, C, H, W\) map"),
        ({"at": []}, "chooses nothing"),
        ({"at": 3}, "at=3 is a int. at= takes a glob"),
        ({"at": ["stem", None]}, "at=None is a NoneType"),
        ({"at": lambda site: site.channels == 7}, "is true of none of the sites: stages.0.0.bn2"),
        ({"stages": 3}, r"no stage 3. The stages are 0 \(16×16\), 1 \(8×8\), 2 \(4×4\)"),
        ({"stages": -4}, "no stage -4"),
        ({"stages": (0, "1")}, "no stage '1'"),
        ({"stages": ()}, "chooses nothing"),
        ({"at": "stem", "stages": -1}, "none of the chosen sites is there.*chosen sites are in 0"),
    ],
)
def test_what_is_not_there_is_explained(options, message):
    with pytest.raises(WhatwhereError, match=message):
        chosen(**options)


def test_kinds_that_a_network_does_not_have():
    flat = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 32 * 32, 2))
    for kind in ("residual", "stage", "norm"):
        with pytest.raises(WhatwhereError, match=f"at='{kind}': no {kind} site"):
            sites(flat, IMAGE, at=kind)
    with pytest.raises(WhatwhereError, match="no site for attention"):
        sites(flat, IMAGE, at=lambda site: True)
    assert [site.module for site in sites(flat, IMAGE, at="0")] == ["0"]  # but whoever names it may have it


def test_a_container_stands_for_a_module_in_it():
    """Not for the block around it that returns the same map."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())

        def forward(self, x):
            return self.body(x)

    found = sites(nn.Sequential(Block(), nn.AvgPool2d(2)), IMAGE, at="0.body")
    assert [site.module for site in found] == ["0.body.1"]


def test_a_module_that_runs_twice_cannot_be_named():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.once, self.twice = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()

        def forward(self, x):
            return self.twice(self.once(self.twice(x)))

    with pytest.raises(WhatwhereError, match="twice runs 2 times"):
        sites(Twice(), IMAGE, at="twice")
    assert [site.module for site in sites(Twice(), IMAGE, at="*ce")] == ["once"]


def test_a_foreign_site_is_refused():
    other = small_resnet(4, (16, 32, 64, 64))
    with pytest.raises(WhatwhereError, match=r"the site 'stages.3.0.bn2', which this network does not have"):
        sites(pristine(), IMAGE, at=sites(other, IMAGE))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"at": "norm", "stages": -1}, ["stages.2.0.bn1", "stages.2.0.bn2", "stages.2.0.shortcut.1"]),
        ({"at": ["stem", "stages.1"]}, ["stem.2", "stages.1.0"]),
        ({"at": lambda site: site.stage == 1}, ["stages.1.0.bn2"]),
        ({"stages": (-2, -1)}, BRANCHES[1:]),
    ],
)
def test_insert_takes_the_same(options, expected):
    model = copy.deepcopy(pristine())
    before = model(IMAGE)
    report = insert(model, "cbam", example=IMAGE, **options)
    assert [placed.module for placed in report.inserted] == expected
    assert sorted(attentions(model)) == sorted(expected)
    torch.testing.assert_close(model(IMAGE), before)
    model(IMAGE).square().sum().backward()
    for name, attention in attentions(model).items():
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in attention.parameters()), name
    assert [site.module for site in sites(model, IMAGE, **options)] == expected  # attention is no obstacle to finding
    assert remove(model) == len(expected)
    assert torch.equal(model(IMAGE), before)


def test_the_command_line_chooses_too(capsys):
    words = ["sites", "small-resnet", "--size", "32"]
    assert cli.main([*words, "--at", "norm", "stem", "--stages", "-2", "-1"]) == 0
    said = capsys.readouterr().out
    assert "stages.2.0.bn1" in said
    assert "stages.0.0.bn1" not in said
    assert cli.main([*words, "--stages", "9"]) == 2
    assert "no stage 9" in capsys.readouterr().err

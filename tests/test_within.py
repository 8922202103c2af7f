"Variation within labels: the metric, leaving out in it, coupling in it, and who shares it"
import numpy as np
import pytest
import torch

from tsai_mtcs import places, solve
from tsai_mtcs.all import KernelEncoder, MultiTaskDataLoaders, bundled_tasks, deal_sites, mtcs_learner
from tsai_mtcs.bench.sites import site_accuracy
from tsai_mtcs.places import place_numbers, placed_ridges
from tsai_mtcs.ridge import Ridge, Rows
from tsai_mtcs.shared_heads import share_heads
from tsai_mtcs.solve import Coupling, own_penalty
from tsai_mtcs.within import Metric, common_ridges, scaled_residuals


def tasks(seed, sizes=(12, 9, 15), feats=20, far=0., dtype=torch.float64):
    "Tasks with labels of their own whose rows vary in the same few directions; the last one lies `far` away and varies in others"
    gen = torch.Generator().manual_seed(seed)
    directions = torch.randn(6, feats, generator=gen, dtype=torch.float64)
    out = []
    for n in sizes:
        y = torch.arange(n)%3
        X = torch.randn(3, feats, generator=gen, dtype=torch.float64)[y]+2*torch.randn(n, 6, generator=gen, dtype=torch.float64)@directions
        X += torch.randn(n, feats, generator=gen, dtype=torch.float64)
        out.append(Rows(X.to(dtype), y, 3, torch.ones(n, dtype=dtype)))
    if far: out[-1].X = out[-1].X.roll(feats//2, 1)+far
    return out


def inverse_root(R):
    "A matrix T with `T.T @ T` the inverse of 1 and the scatter of some residuals, by way of eigenvalues"
    s, U = np.linalg.eigh(np.eye(R.shape[1])+R.T@R)
    return (U/np.sqrt(s))@U.T


@pytest.mark.parametrize('feats', [20, 200])  # more than twice the rows: solved in the space that these span
def test_coupled_heads_are_those_of_rows_in_other_coordinates(feats, monkeypatch):
    monkeypatch.setattr(solve, 'coupled_penalties', lambda ridges, *_: (own_penalty(ridges),)*2)
    rows = tasks(0, feats=feats)
    groups = np.array([0, 1, -1, 1, 2, 0, 2, -1, 1])
    T = torch.from_numpy(inverse_root(torch.cat(scaled_residuals(rows, 3.)).numpy()))
    ours = Coupling(common_ridges(rows, 3., [.1]*3), groups).heads(2., tol=1e-13)
    there = [Ridge(Rows(o.X@T, o.y, 3, o.weight), .1) for o in rows]
    for (w, b), (v, c) in zip(ours, Coupling(there, groups).heads(2., tol=1e-13)):
        torch.testing.assert_close(w, T@v, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(b, c, rtol=1e-6, atol=1e-8)


def test_leaving_a_row_out_is_a_fit_without_it():
    rows = tasks(1)
    R = scaled_residuals(rows, 2.)
    metric = Metric(R, 2.).without(R[0])
    whole = Ridge(rows[0], .3, metric)
    for i in range(3):
        rest = rows[0].part(torch.arange(len(rows[0].y)) != i)
        w, b = Ridge(rest, .3*float(whole.scale/Ridge(rest, 1., metric).scale), metric).head
        torch.testing.assert_close(whole.scores[i], rows[0].X[i]@w+b, rtol=1e-6, atol=1e-8)


def test_a_tasks_own_rows_have_no_say_in_its_coordinates():
    rows = tasks(2)
    R = scaled_residuals(rows, 2.)
    other = [*R[1:], torch.randn(7, 20, dtype=torch.float64)]
    X = rows[0].X
    one, two = Metric(R, 2.).without(R[0])(X), Metric([other[-1], *R[1:]], 2.).without(other[-1])(X)
    torch.testing.assert_close(one@one.T, two@two.T, rtol=1e-6, atol=1e-8)


def test_float32_gives_nearly_the_same():
    exact, fast = (common_ridges(tasks(3, feats=200, dtype=o), 10., [.1]*3) for o in (torch.float64, torch.float32))
    for a, b in zip(exact, fast): torch.testing.assert_close(a.scores, b.scores.double(), rtol=1e-3, atol=1e-3)


def placed(rows, prior=None):
    ridges = [Ridge(o) for o in rows]
    return placed_ridges(ridges, place_numbers(ridges, prior))


class TestPlaces:
    def test_tasks_that_lie_elsewhere_stay_as_they_are(self):
        ridges, places = placed(tasks(4, far=30.))
        assert [o['tasks'] for o in places] == [[0, 1]] and ridges[0].within == ridges[1].within == places[0]['within'] > 0
        assert ridges[2].within == 0

    def test_a_prior_of_0_keeps_tasks_apart(self):
        prior = np.ones((3, 3))
        prior[0] = prior[:, 0] = 0
        _, places = placed(tasks(4), prior)
        assert [o['tasks'] for o in places] == [[1, 2]]

    def test_many_rows_stay_as_they_are(self, monkeypatch):
        monkeypatch.setattr(places, 'MANY', 20)
        assert placed(tasks(4))[1] == []

    def test_0_shares_nothing(self):
        rows = tasks(4)
        alone = share_heads(rows, 0., within=0.)
        assert alone.places == []
        for (w, b), o in zip(alone.heads, rows):
            assert torch.equal(w, Ridge(o).weight) and torch.equal(b, Ridge(o).bias)
        assert share_heads(rows, 0., within=3.).places == [dict(tasks=[0, 1, 2], within=3.)]

    def test_where_nothing_varies_heads_are_those_of_each_task(self):
        "The series of a label are all the same"
        rows = [Rows(torch.randn(3, 20, dtype=torch.float64)[torch.arange(9)%3], o.y[:9], 3, o.weight[:9]) for o in tasks(5)]
        for o, r in zip(share_heads(rows, 0., within=3.).heads, rows): torch.testing.assert_close(o[0], Ridge(r).weight)
        assert all(torch.isfinite(w).all() for w, _ in share_heads(rows, 1., within=3.).heads)

    def test_rounding_is_no_variation(self):
        def same(o): return torch.randn(3, 20)[o.y[:9]].double()+1e-8*torch.randn(9, 20).double()
        rows = [Rows(same(o), o.y[:9], 3, o.weight[:9]) for o in tasks(5)]
        assert not any(o.any() for o in scaled_residuals(rows, 3.))

    def test_tasks_drawn_together_heed_all_of_their_place(self):
        "Two of eight tasks are drawn together, which leaves them what the others show"
        every = tasks(8, sizes=[309]*8)
        rows, new = [o.part(slice(0, 9)) for o in every], [o.part(slice(9, None)) for o in every]
        def accuracy(found):
            return np.mean([float(((o.X@w+b).argmax(1) == o.y).double().mean()) for o, (w, b) in zip(new[:2], found.heads)])
        told, drawn = share_heads(rows, 0., within=10.), share_heads(rows, .001, within=10., same=[(0, 3)])
        assert drawn.groups[0] == drawn.groups[3] >= 0 and drawn.choices[0]['tasks'] == list(range(8))
        assert accuracy(drawn) > accuracy(told)-.05 > accuracy(share_heads(rows[:2], .001, within=10., same=[(0, 3)]))

    def test_a_set_of_two_places_is_solved_in_plain_coordinates(self):
        rows = tasks(4, far=30.)
        ridges, _ = placed(rows)
        groups = np.array([0, 1, -1, 0, 1, -1, -1, 1, -1])
        plain = [Ridge(o, r.penalty) for o, r in zip(rows, ridges)]
        for ours, theirs in zip(Coupling(ridges, groups).heads(1.), Coupling(plain, groups).heads(1.)):
            torch.testing.assert_close(ours, theirs)

    def test_a_single_row_of_each_label_has_no_variation(self):
        rows = [o.part([0, 1, 2]) for o in tasks(6)]
        assert all(torch.isfinite(w).all() for w, _ in share_heads(rows).heads)


def test_sites_gain_without_a_match():
    "Six kinds of leaves, of which each site knows three at random; nothing is matched"
    alone, told = [], []
    for seed in range(3):
        sites, _ = deal_sites(bundled_tasks('OSULeaf')[0], n=4, rows=5, overlap=.5, seed=seed)
        dls = MultiTaskDataLoaders.from_tasks(sites, seed=seed, device='cpu', check_copies=False)
        learn = mtcs_learner(dls, KernelEncoder, arch_config=dict(n_kernels=1000, seed=seed))
        with learn.no_bar():
            alone.append(site_accuracy(learn.fit_heads(strength=0., within=0.), sites).mean())
            told.append(site_accuracy(learn.fit_heads(strength=0.), sites).mean())
            assert learn.shared_heads.places and (learn.shared_heads.groups < 0).all()
    assert np.mean(told) > np.mean(alone)


@pytest.mark.parametrize('within', [-1., float('nan'), float('inf'), 'much'])
def test_what_is_no_number_of_at_least_0(within):
    sites, _ = deal_sites(bundled_tasks('ItalyPowerDemand')[0], n=2, rows=3, seed=0)
    dls = MultiTaskDataLoaders.from_tasks(sites, device='cpu', check_copies=False)
    learn = mtcs_learner(dls, KernelEncoder, arch_config=dict(n_kernels=100))
    with pytest.raises(ValueError, match='expected a within of at least 0'): learn.fit_heads(within=within)

"Tasks in one place: one vocabulary under different names, and when it is believed"
import numpy as np
import pytest
import torch

from tsai_mtcs import shared_heads
from tsai_mtcs.label_groups import wary_prior
from tsai_mtcs.places import one_vocabulary, others_of, place_numbers
from tsai_mtcs.ridge import Ridge, Rows
from tsai_mtcs.shared_heads import ALONE, UNJUDGED, share_heads


def sites(seed, n_sites=5, n_labels=6, rows=3, noise=1.5, feats=40, known=None, dtype=torch.float64):
    "Rows of sites that see the same kinds of series, and what each of their labels means"
    gen = torch.Generator().manual_seed(seed)
    kinds = torch.randn(n_labels, feats, generator=gen, dtype=torch.float64)
    out, meanings = [], []
    for _ in range(n_sites):
        order = torch.randperm(n_labels, generator=gen)[:known]
        y = torch.arange(len(order)).repeat(rows)
        X = kinds[order][y]+noise*torch.randn(len(y), feats, generator=gen, dtype=torch.float64)
        out.append(Rows(X.to(dtype), y, len(order), torch.ones(len(y), dtype=dtype)))
        meanings.append(order.numpy())
    return out, np.concatenate(meanings)


def right(groups, meaning):
    "Fraction of pairs of labels of one meaning that are in one group"
    alike = np.triu(meaning[:, None] == meaning, 1)
    return ((groups[:, None] == groups) & (groups >= 0))[alike].mean()


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('n_sites', [2, 5, 11])
def test_every_label_finds_its_place(seed, n_sites):
    rows, meaning = sites(seed, n_sites, noise=1.)
    found = one_vocabulary([Ridge(o) for o in rows], np.full(len(meaning), -1))
    assert right(found, meaning) == 1 and len(set(found)) == 6


def test_single_precision_finds_the_same():
    exact, fast = ([Ridge(o) for o in sites(0, dtype=o)[0]] for o in (torch.float64, torch.float32))
    assert (one_vocabulary(exact, np.full(30, -1)) == one_vocabulary(fast, np.full(30, -1))).all()


def test_what_others_say_doesnt_know_the_task():
    "The scores of a task's rows are those of a ridge regression of all other rows"
    rows, meaning = sites(1)
    ridges = [Ridge(o, .1) for o in rows]
    asked = others_of(ridges)[0]
    X = torch.cat([o.X-o.X.mean(0) for o in rows[1:]])
    Y = torch.nn.functional.one_hot(torch.from_numpy(meaning[6:])[asked.label-6], 6).double()
    shift = .1*torch.stack([o.scale for o in ridges]).mean()
    W = torch.linalg.solve(X.T@X+shift*torch.eye(X.shape[1], dtype=X.dtype), X.T@Y)
    torch.testing.assert_close(asked.solved@Y, (rows[0].X-rows[0].X.mean(0))@W)


class TestKnowledge:
    def test_known_matches_hold(self):
        rows, meaning = sites(2)
        p, q = 0, 6+int(np.flatnonzero(meaning[6:12] != meaning[0])[0])
        told = one_vocabulary([Ridge(o) for o in rows], np.full(30, -1), same=[(p, q)])
        assert told[p] == told[q]

    def test_what_never_means_the_same_stays_apart(self):
        rows, meaning = sites(2)
        p, q = 0, 6+int(np.flatnonzero(meaning[6:12] == meaning[0])[0])
        for never in ([(p, q)], [(p, o) for o in range(6, 12)]): # the second leaves a label without a place
            told = one_vocabulary([Ridge(o) for o in rows], np.full(30, -1), never=never)
            assert all(told[p] != told[o] or told[p] < 0 for _, o in never)

    def test_a_label_that_has_no_place_is_in_no_group(self):
        "In whichever order a pair is given"
        rows, _ = sites(2, 3, noise=1.)
        ridges, nothing = [Ridge(o) for o in rows], np.full(18, -1)
        one, two = (one_vocabulary(ridges, nothing, never=[(0, o)[::i] for o in range(6, 18)]) for i in (1, -1))
        assert one[0] == -1 and (one == two).all() and (np.delete(one, 0) >= 0).all()

    def test_no_group_has_a_single_label(self):
        rows, _ = sites(2, 2, noise=1.)
        found = one_vocabulary([Ridge(o) for o in rows], np.full(12, -1), never=[(0, o) for o in range(6, 12)])
        assert (np.bincount(found[found >= 0]) != 1).all() and (found < 0).sum() == 2

    def test_never_comes_before_same(self):
        rows, _ = sites(2, noise=1.)
        found = one_vocabulary([Ridge(o) for o in rows], np.full(30, -1), same=[(0, 6)], never=[(6, 0)])
        assert found[0] != found[6]


def test_a_label_without_rows_is_in_no_group():
    rows, meaning = sites(1, noise=1.)
    keep = rows[0].y < 4
    rows[0] = Rows(rows[0].X[keep], rows[0].y[keep], 6, rows[0].weight[keep])
    found = one_vocabulary([Ridge(o) for o in rows], np.full(30, -1))
    assert (found[4:6] == -1).all() and right(np.delete(found, [4, 5]), np.delete(meaning, [4, 5])) == 1


class TestBelief:
    def test_rows_decide_for_it(self):
        "Groups from a tree leave labels over here"
        rows, meaning = sites(2, noise=2.)
        found, told = share_heads(rows), share_heads(rows, 10.)
        assert found.choices[0]['one'] and not told.choices[0]['one']
        assert right(found.groups, meaning) > right(told.groups, meaning) > 0
        assert (share_heads(rows, 10., one=True).groups == found.groups).all()

    def test_vocabularies_of_two_places_dont_mix(self):
        (here, meaning), (there, other) = sites(2, noise=1.), sites(5, noise=1.)
        for o in there: o.X = o.X+3
        found = share_heads(here+there)
        assert [o['one'] for o in found.choices] == [True, True] and set(found.groups) == set(range(12))
        assert right(found.groups, np.concatenate((meaning, 6+other))) == 1

    def test_sites_of_different_labels_keep_their_groups(self):
        rows, meaning = sites(0, n_labels=10, known=6, noise=1., rows=5)
        found = share_heads(rows)
        groups = found.groups
        wrong = (groups[:, None] == groups) & (groups >= 0)[:, None] & (meaning[:, None] != meaning)
        assert not found.choices[0]['one'] and right(groups, meaning) > .9 and wrong.mean() < .01

    def test_tasks_of_different_numbers_of_labels_are_not_asked(self):
        rows, _ = sites(2, noise=2.)
        rows[0] = Rows(rows[0].X[rows[0].y < 5], rows[0].y[rows[0].y < 5], 5, rows[0].weight[rows[0].y < 5])
        assert not share_heads(rows).choices[0]['one'] and not share_heads(rows, 10., one=True).choices[0]['one']

    def test_strangers_are_not_asked(self):
        rows, _ = sites(2, noise=2.)
        prior = np.ones((5, 5))
        prior[0, 1] = prior[1, 0] = 0 # neighbours by way of others
        assert len(set(place_numbers([Ridge(o) for o in rows], prior))) == 1
        assert not share_heads(rows, prior=prior).choices[0]['one']

    def test_losses_of_one_vocabulary_are_kept_apart(self, monkeypatch):
        seen, choose = {}, shared_heads.choose
        monkeypatch.setattr(shared_heads, 'choose', lambda losses, few, near: seen.update(losses) or choose(losses, few, near))
        share_heads(sites(2, noise=2.)[0])
        assert ALONE in seen and {one for *_, one in seen} == {False, True} and len(seen) == 1+2*8


class TestSingleRows:
    "Nothing can be held out where every label has a single row"
    def test_sites_that_are_found_have_one_vocabulary(self):
        rows, meaning = sites(1, n_labels=8, rows=1, noise=.9)
        found = share_heads(rows)
        assert found.choices[0]['one'] and found.choices[0]['strength'] == UNJUDGED.strength
        assert right(found.groups, meaning) == 1

    def test_one_pair_of_many_may_be_chance(self, monkeypatch):
        "Two of five sites have matched labels"
        rows, _ = sites(1, n_labels=8, rows=1, noise=.9)
        pair = np.where(np.arange(40) < 16, np.arange(40)%8, -1)
        monkeypatch.setattr(shared_heads, 'cut_groups', lambda *_: pair)
        found = share_heads(rows)
        assert found.choices[0]['strength'] == 0 and (found.groups < 0).all()

    def test_but_what_is_known_counts(self):
        rows, _ = sites(1, n_labels=8, rows=1, noise=9.)
        assert (share_heads(rows).groups < 0).all()
        found = share_heads(rows, same=[(0, 9)])
        assert np.flatnonzero(found.groups >= 0).tolist() == [0, 9] and not found.choices[0]['one']


class TestFewRows:
    "With one or two rows of each label, tasks that lie apart have to show more"
    @pytest.mark.parametrize('rows, wary', [(1, True), (2, True), (3, False)])
    def test_tasks_that_lie_apart(self, rows, wary):
        here, there = (sites(o, 1, rows=rows)[0][0] for o in (0, 1))
        there.X = there.X+2
        prior = wary_prior([Ridge(here), Ridge(there)])
        assert (prior is not None and prior[0, 1] < 1) == wary

    def test_tasks_in_one_place(self):
        two, one = ([Ridge(o) for o in sites(0, 2, rows=n, noise=.3)[0]] for n in (2, 1))
        assert wary_prior(two)[0, 1] == 1 > wary_prior(one)[0, 1] > 0
        assert wary_prior(two, np.full((2, 2), 3.))[0, 1] == 3

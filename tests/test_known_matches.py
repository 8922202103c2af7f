"What is known of labels and tasks holds, and what contradicts itself is refused; sizes and the order of rows settle nothing"
import numpy as np
import pytest
import torch

from tsai_mtcs import ridge as ridge_module
from tsai_mtcs.closed_form import known_matches
from tsai_mtcs.helping import held_out_right
from tsai_mtcs.label_groups import THRESHOLD
from tsai_mtcs.labels import LabelSpace
from tsai_mtcs.matching import covariance_cosine, cut_groups, group_tree
from tsai_mtcs.ridge import Ridge, Rows, best_penalty, narrowed
from tsai_mtcs.shared_heads import UNSURE, share_heads
from tsai_mtcs.solve import shrunk_means
from tsai_mtcs.specs import TaskSpec


def rows(kinds, n, gen, noise=1.):
    y = torch.arange(len(kinds)).repeat(n)
    X = kinds[y]+noise*torch.randn(len(y), kinds.shape[1], generator=gen, dtype=torch.float64)
    return Rows(X, y, len(kinds), torch.ones(len(y), dtype=torch.float64))


@pytest.fixture
def gen(): return torch.Generator().manual_seed(0)


@pytest.fixture
def three(gen):
    "Three sites that see the same kinds of series"
    kinds = torch.randn(3, 40, generator=gen, dtype=torch.float64)
    return [rows(kinds, 5, gen) for _ in range(3)]


class TestTold:
    "Labels 0 of eight tasks of two labels, whose classifiers say nothing of each other"
    offsets, nothing = np.arange(0, 17, 2), np.zeros((16, 16))

    @pytest.mark.parametrize('same', [[(0, o) for o in range(2, 16, 2)], [(o, o+2) for o in range(0, 14, 2)]], ids=['star','chain'])
    def test_matches_are_closed(self, same):
        groups = cut_groups(group_tree(self.nothing, [], self.offsets, same=same), THRESHOLD)
        assert groups.tolist() == [0, -1]*8

    def test_they_stand_where_rows_speak_against_them(self, three):
        found = share_heads(three, same=[(0, 4), (1, 5), (2, 3)]) # not true
        assert found.groups[0] == found.groups[4] and found.groups[1] == found.groups[5] and (found.groups >= 0)[:6].all()

    def test_labels_without_rows(self, three):
        for o in three: o.n_labels = 4
        for strength in (None, 1.):
            found = share_heads(three, strength, same=[(3, 7)])
            assert all(torch.isfinite(w).all() for w, _ in found.heads)


def test_no_cluster_is_large_enough_for_two_labels_of_one_task():
    n = 160 # tasks; each has a label in one of two clusters that look alike, the first one in both
    offsets = np.arange(n+1)+np.r_[0, np.ones(n, int)]
    A = np.full((n+1, n+1), .8)
    groups = cut_groups(group_tree(A, [(j, k) for j in range(n) for k in range(j)], offsets), THRESHOLD)
    assert groups[0] != groups[1]


def test_a_prior_of_0_holds_where_a_third_task_is_like_both(three):
    prior = np.ones((3, 3))
    assert (share_heads(three).groups[:3] == share_heads(three).groups[6:]).all()
    prior[0, 2] = prior[2, 0] = 0
    groups = share_heads(three, prior=prior).groups
    assert not set(groups[:3][groups[:3] >= 0]) & set(groups[6:][groups[6:] >= 0]) and (groups >= 0).any()


class TestContradictions:
    space = LabelSpace([TaskSpec(o, ('x', 'y'), 1, 8, (0.,), (1.,)) for o in 'ABC'])
    A0, A1, B0, C0 = ('A', 'x'), ('A', 'y'), ('B', 'x'), ('C', 'x')

    @pytest.mark.parametrize('same, never, prior, message', [
        ([(A0, B0)], [(B0, A0)], None, "`same` and `never` contradict each other on .*'B'.*'A'"),
        ([(A0, B0), (B0, C0)], [(A0, C0)], None, 'contradict'),
        ([(A0, B0), (B0, A1)], (), None, "makes .*'A', 'x'.* and .*'A', 'y'.* one label"),
        ((A0, B0), (), None, r'expected a list of pairs of labels.*found'), (None, (), None, 'found None'),
        ([(1, 2)], (), None, 'found .1, 2. as one'), ([('ap', 'bq')], (), None, 'expected a list of pairs'),
        ((), (), np.triu(np.ones((3, 3))), 'symmetric'), ((), (), {'A': 1}, 'expected a prior of numbers')])
    def test_is_refused(self, same, never, prior, message):
        with pytest.raises(ValueError, match=message): known_matches(same, never, prior, self.space)

    def test_what_agrees_is_taken(self):
        known = known_matches(zip([self.A0], [self.B0]), [(self.A1, self.B0)], np.ones((3, 3)), self.space)
        assert known['same'] == [(0, 2)] and known['never'] == [(1, 2)]


class TestOrderAndSize:
    def test_rows_that_alternate_between_labels(self, gen, monkeypatch):
        "A sample of every n-th row would hold one label alone"
        kinds = 3*torch.randn(2, 200, generator=gen, dtype=torch.float64)
        one, other = Ridge(rows(kinds, 300, gen)), Ridge(rows(kinds.flip(0), 300, gen))
        assert covariance_cosine([one, other], most=200)[0, 1] > .9
        monkeypatch.setattr(ridge_module, 'MANY', 50)
        seen = []
        monkeypatch.setattr(ridge_module, 'Ridge', lambda o: seen.append(o) or Ridge(o))
        best_penalty(rows(kinds, 51, gen))
        assert torch.bincount(seen[0].y).tolist() == [25, 25]

    def test_a_stranger_far_larger_than_the_others(self, gen):
        kinds = torch.randn(2, 40, generator=gen, dtype=torch.float64)
        two = [rows(kinds, 20, gen) for _ in range(2)]
        loud = rows(kinds, 20, gen)
        loud.X = 1e4*loud.X
        alone, beside = (covariance_cosine([Ridge(o) for o in r])[0, 1] for r in (two, [*two, loud]))
        assert abs(alone-beside) < 1e-6 < alone

    def test_a_basis_keeps_the_dot_products_of_a_task_far_smaller_than_another(self, gen):
        small, large = (rows(torch.randn(2, 200, generator=gen, dtype=torch.float64), 5, gen) for _ in range(2))
        small.X, large.X = small.X.float(), 1000*large.X.float()
        (new, _), _ = narrowed([small, large])
        torch.testing.assert_close(new.X@new.X.T, small.X@small.X.T, rtol=1e-3, atol=1e-3)

    def test_means_are_drawn_to_those_of_the_other_tasks(self, gen):
        ridges = [Ridge(rows(torch.randn(2, 40, generator=gen, dtype=torch.float64)+o, 5, gen)) for o in range(3)]
        means = torch.stack([o.mean for o in ridges])
        towards = torch.stack(shrunk_means(ridges))-means
        common = means.mean(0)-means
        share = (towards*common).sum(1)/common.square().sum(1)
        torch.testing.assert_close(towards, share[:, None]*common)
        assert (0 <= share).all() and share[1] > share[2] > 0 # the middle one is nearest to the others


class TestSingleRows:
    def test_probabilities_are_not_uniform(self, gen):
        kinds = torch.randn(6, 60, generator=gen, dtype=torch.float64)
        found = share_heads([rows(kinds, 1, gen, noise=.3)])
        assert found.temperatures == [UNSURE]
        (w, b), new = found.heads[0], rows(kinds, 20, gen, noise=.3)
        sure = (new.X@w+b).softmax(1).max(1).values.mean()
        assert 1.5/6 < sure < 1

    def test_nothing_is_said_of_rows_that_nobody_judges(self, gen):
        right = held_out_right([rows(torch.randn(3, 40, generator=gen, dtype=torch.float64), n, gen) for n in (1, 4)],
                               0., 0., same=(), never=(), prior=None)
        assert np.isnan(right[0, 0]) and right[0, 1] > 0

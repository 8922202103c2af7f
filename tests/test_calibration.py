"Calibration by an example that is computed by hand."
import numpy as np
import pytest
import torch
from tsai_mtcs.calibration import calibration_bins, calibration_error

PROBS = np.array([[.9,.1], [.8,.2], [.45,.55], [.3,.7], [1.,0.]])
Y = np.array([0, 1, 1, 1, 0]) # right, wrong, right, right, right


def test_bins_by_hand():
    "Two bins above one half: up to .75 lie .55 and .7, both right; above it .9, .8 and 1, of which .8 is wrong"
    o = calibration_bins(PROBS, Y, 4)
    assert o.index.tolist() == [.75,1.] and o.rows.tolist() == [2,3]
    assert o.sure.tolist() == pytest.approx([.625,.9]) and o.right.tolist() == pytest.approx([1,2/3])

@pytest.mark.parametrize('kind', [np.asarray, torch.as_tensor])
def test_error_by_hand(kind):
    assert calibration_error(kind(PROBS), kind(Y), 4) == pytest.approx((2*.375+3*(.9-2/3))/5)
    assert calibration_error(kind(PROBS), kind(Y), 1) == pytest.approx(abs(.79-.8)) # all in one bin: faults cancel

def test_an_upper_end_belongs_to_its_bin(): assert calibration_bins([[.5,.5], [.6,.4]], [0,0], 2).rows.tolist() == [1,1]

@pytest.mark.parametrize('probs,y,said', [
    ([[.5,.6]], [0], 'sum to 1'), ([[1.5,-.5]], [0], 'sum to 1'), ([[.5,.5]], [0,1], r'found shapes \(1, 2\) and \(2,\)'),
    (np.zeros((0,2)), [], 'expected at least one row')])
def test_what_is_no_probability(probs, y, said):
    with pytest.raises(ValueError, match=said): calibration_error(probs, y)

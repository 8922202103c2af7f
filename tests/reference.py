"Equations 3 to 6 of the paper as they are printed, a loop for every sum, in float64: slow, and easy to check."
import numpy as np


def blocks(sizes):
    "The numbers of each task's labels"
    ends = np.cumsum(sizes)
    return [range(end-n, end) for n,end in zip(sizes, ends)]


def co_activation(logits, P, Q):
    "Equation 4: the mean over series of the product of two tasks' probabilities"
    A = np.zeros((len(P),len(Q)))
    for x in np.asarray(logits, np.float64):
        for i,p in enumerate(P):
            for j,q in enumerate(Q): A[i,j] += np.exp(x[p])/np.exp(x[P]).sum()*np.exp(x[q])/np.exp(x[Q]).sum()/len(logits)
    return A


def logit_cosine(logits, P, Q):
    "Section 3.1: the cosine of two labels' logits, where it is positive"
    x = np.asarray(logits, np.float64)
    return np.array([[max(0, x[:,p]@x[:,q]/np.sqrt((x[:,p]@x[:,p])*(x[:,q]@x[:,q]))) for q in Q] for p in P])


def relevance(logits, sizes, by='probabilities', z=None):
    "Equation 5, left of tau, for every two labels of different tasks"
    R = np.zeros((sum(sizes),)*2)
    for P in blocks(sizes):
        for Q in blocks(sizes):
            if P == Q: continue
            if by == 'covariance': A = covariance_cosine(logits, z, P, Q)
            else: A = (logit_cosine if by == 'cosine' else co_activation)(logits, P, Q)
            if A.sum() > 0: R[np.ix_(P,Q)] = A.size*A/A.sum()
    return R


def covariance_cosine(logits, z, P, Q):
    "Section 5: the cosine of two labels' covariances, each that of the embeddings weighted by the label's probability"
    x,u = np.asarray(logits, np.float64),np.asarray(z, np.float64)
    u = u-u.mean(0)
    def covariance(p, block): return sum(np.exp(a[p])/np.exp(a[block]).sum()*np.outer(v, v) for a,v in zip(x, u))
    C,D = ([covariance(p, block) for p in block] for block in (P,Q))
    return np.array([[(a*b).sum()/np.sqrt((a**2).sum()*(b**2).sum()) for b in D] for a in C])


def loss(W, R, sizes, tau=2., distance='mse', pairs='all', target=None):
    "Equation 3 over the pairs of tasks of equation 6; of arrays or of tensors"
    total = 0.
    for k,Q in enumerate(blocks(sizes)):
        for j,P in enumerate(blocks(sizes)):
            if j == k or (pairs == 'target' and k != target): continue
            for q in Q:
                for p in P:
                    d = (W[q]-W[p])**2
                    if R[q,p] > tau: total = total+(d.mean() if distance == 'mse' else d.sum())/(len(P)*len(Q))
    return total

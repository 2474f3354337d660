"""Decomposition of a matrix of floats."""

import sys

ROUNDS = 330


def work():
    n = 30
    a = [[1.0 / (i + j + 1) + (i == j) for j in range(n)] for i in range(n)]
    for k in range(n):
        for i in range(k + 1, n):
            f = a[i][k] / a[k][k]
            r = a[i]
            q = a[k]
            for j in range(k, n):
                r[j] -= f * q[j]
    return round(sum(a[i][i] for i in range(n)), 6)


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)

"""Permutations by slices of a list."""

import sys

ROUNDS = 33


def work(n=7):
    count = list(range(1, n + 1))
    most = 0
    last = n - 1
    r = n
    perm1 = list(range(n))
    perm = list(range(n))
    while True:
        while r != 1:
            count[r - 1] = r
            r -= 1
        if perm1[0] != 0 and perm1[last] != last:
            flips = 0
            perm[:] = perm1
            k = perm[0]
            while k:
                perm[: k + 1] = reversed(perm[: k + 1])
                flips += 1
                k = perm[0]
            if flips > most:
                most = flips
        while r != n:
            perm1.insert(r, perm1.pop(0))
            count[r] -= 1
            if count[r] > 0:
                break
            r += 1
        else:
            return most


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)

"""Exceptions raised and caught."""

import sys

ROUNDS = 65


def work():
    n = 0
    for i in range(30000):
        try:
            if i % 2:
                raise ValueError(i)
        except ValueError:
            n += 1
    return n


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)

"""Generator expressions."""

import sys

ROUNDS = 21


def work():
    return sum(a * b for a, b in zip((i for i in range(80000)), (j ^ 3 for j in range(80000))))


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)

"""A table filled in place."""

import sys

ROUNDS = 26


def work():
    for _ in range(3):
        table = [0] * 800
        for i in range(1, 40):
            w = i * 7 % 31 + 1
            v = i * 11 % 53
            for j in range(799, w - 1, -1):
                x = table[j - w] + v
                if x > table[j]:
                    table[j] = x
    return table[-1]


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)

"""Integers of many digits."""

import sys

ROUNDS = 800


def work():
    a = 1
    for i in range(1, 1200):
        a *= i
    return len(hex(a)), pow(3, 20011, 10**60 + 7) % 1000003


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)

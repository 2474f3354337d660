"""Building, sorting and summing a list."""

import sys

ROUNDS = 19


def work():
    numbers = [((i * 7919) % 10007) for i in range(60000)]
    numbers.sort()
    return sum(x for x in numbers if x % 3)


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)

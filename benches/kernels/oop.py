"""Small objects with slots."""

import sys

ROUNDS = 17


class Point:
    __slots__ = ("x", "y")

    def __init__(self, x, y):
        self.x = x
        self.y = y

    def add(self, other):
        return Point(self.x + other.x, self.y + other.y)


def work():
    p = Point(0, 0)
    q = Point(1, 2)
    for _ in range(60000):
        p = p.add(q)
    return p.x + p.y


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)

"""Shortest paths with a heap."""

import heapq
import sys

ROUNDS = 170

GRAPH = {i: [((i * 17 + j * 31) % 400, (i * j) % 23 + 1) for j in range(1, 6)] for i in range(400)}


def work():
    total = 0
    for start in range(3):
        best = {start: 0}
        queue = [(0, start)]
        while queue:
            far, u = heapq.heappop(queue)
            if far > best[u]:
                continue
            for v, k in GRAPH[u]:
                if far + k < best.get(v, 1 << 30):
                    best[v] = far + k
                    heapq.heappush(queue, (far + k, v))
        total += sum(best.values())
    return total


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)

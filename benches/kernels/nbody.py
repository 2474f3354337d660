"""Arithmetic on floats in lists."""

import sys

ROUNDS = 19


def work():
    bodies = [
        [0, 0, 0, 0, 0, 0, 39.47],
        [4.84, -1.16, -0.10, 0.6, 2.8, -0.02, 0.037],
        [8.34, 4.12, -4.03e-1, -1.01, 1.82, 0.008, 0.011],
        [12.89, -15.11, -0.22, 1.08, 0.86, -0.01, 0.0017],
        [15.37, -25.9, 0.179, 0.979, 0.594, -0.034, 0.002],
    ]
    pairs = [(bodies[i], bodies[j]) for i in range(5) for j in range(i + 1, 5)]
    for _ in range(1500):
        for p, q in pairs:
            dx = p[0] - q[0]
            dy = p[1] - q[1]
            dz = p[2] - q[2]
            m = 0.01 * ((dx * dx + dy * dy + dz * dz) ** -1.5)
            pm = p[6] * m
            qm = q[6] * m
            p[3] -= dx * qm
            p[4] -= dy * qm
            p[5] -= dz * qm
            q[3] += dx * pm
            q[4] += dy * pm
            q[5] += dz * pm
        for r in bodies:
            r[0] += 0.01 * r[3]
            r[1] += 0.01 * r[4]
            r[2] += 0.01 * r[5]
    return round(sum(map(sum, bodies)), 3)


result = None
for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS):
    result = work()
print(result)

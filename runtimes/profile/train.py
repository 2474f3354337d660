"""What the profile of the Python runtime is made from: small programs, and a part of CPython's own tests.

Everything is counted and nothing timed, so that the same sources give the same profile. None of the programs is one of
`benches/kernels/`.
"""

import importlib
import io
import sys
import unittest

ROUNDS = 12
# So many tests of each module, from its beginning.
TESTS = 40
MODULES = """
    test_array test_base64 test_binascii test_binop test_bisect test_bytes test_bz2 test_cmath test_codecs test_collections
    test_complex test_dataclasses test_difflib test_float test_functools test_generators test_heapq test_int test_itertools
    test_json test_long test_lzma test_memoryview test_operator test_ordered_dict test_patma test_pickle test_pprint test_re
    test_set test_sqlite3 test_statistics test_str test_struct test_time test_xml_etree test_dict test_list test_tuple
    test_unicode_identifiers test_string test_exceptions test_class test_descr
"""


def queens(n=6):
    def place(row, columns, down, up):
        if row == n:
            return 1
        total = 0
        for k in range(n):
            if k not in columns and row + k not in down and row - k not in up:
                total += place(row + 1, columns | {k}, down | {row + k}, up | {row - k})
        return total

    return place(0, frozenset(), frozenset(), frozenset())


def mandelbrot(width=48, height=32):
    out = []
    for y in range(height):
        for x in range(width):
            z = 0j
            c = complex(3.0 * x / width - 2, 2.0 * y / height - 1)
            n = 0
            while n < 40 and abs(z) < 2:
                z = z * z + c
                n += 1
            out.append(n)
    return sum(out)


def spectral(n=40):
    def a(i, j):
        return 1.0 / ((i + j) * (i + j + 1) // 2 + i + 1)

    u = [1.0] * n
    for _ in range(3):
        v = [sum(a(i, j) * u[j] for j in range(n)) for i in range(n)]
        u = [sum(a(j, i) * v[j] for j in range(n)) for i in range(n)]
    return sum(u)


class Node:
    def __init__(self, key):
        self.key = key
        self.left = None
        self.right = None

    def insert(self, key):
        if key < self.key:
            if self.left is None:
                self.left = Node(key)
            else:
                self.left.insert(key)
        elif self.right is None:
            self.right = Node(key)
        else:
            self.right.insert(key)

    def walk(self):
        if self.left:
            yield from self.left.walk()
        yield self.key
        if self.right:
            yield from self.right.walk()


def tree():
    x = 12345
    root = Node(x)
    for _ in range(3000):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        root.insert(x)
    return sum(1 for _ in root.walk())


def words():
    import collections
    import re

    text = "the quick brown fox jumps over the lazy dog while 42 cats watch; " * 300
    counts = collections.Counter(word.strip(";").title() for word in text.split())
    by_count = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    found = [match.group(1) for match in re.finditer(r"\b(\d+) (?:cats|dogs)\b", text)]
    return by_count, found, "".join(reversed(text)).replace("xof", "fox").partition("dog")


def records():
    import csv
    import dataclasses
    import datetime
    import decimal
    import json

    @dataclasses.dataclass(order=True)
    class Record:
        name: str
        quantity: int
        price: decimal.Decimal
        day: datetime.date

    rows = [
        Record("item%d" % (i % 97), i % 13, decimal.Decimal(i) / 7, datetime.date(2024, 1 + i % 12, 1 + i % 28))
        for i in range(600)
    ]
    file = io.StringIO()
    writer = csv.writer(file)
    for row in sorted(rows):
        writer.writerow([row.name, row.quantity, "%.2f" % row.price, row.day.isoformat()])
    file.seek(0)
    by_name = {}
    for name, quantity, price, day in csv.reader(file):
        one = {"quantity": int(quantity), "price": float(price), "day": datetime.date.fromisoformat(day).toordinal()}
        by_name.setdefault(name, []).append(one)
    return len(json.dumps(by_name, indent=1, sort_keys=True)), json.loads(json.dumps(by_name))


def compiling():
    import ast
    import tokenize

    with open(sys.argv[0]) as file:
        source = file.read()
    tree = ast.parse(source)
    return compile(tree, "x", "exec"), ast.unparse(tree), list(tokenize.generate_tokens(io.StringIO(source).readline))


def database():
    import sqlite3

    connection = sqlite3.connect(":memory:")
    connection.execute("create table t(a integer primary key, b text, c real)")
    connection.executemany("insert into t values(?,?,?)", [(i, "n%d" % (i % 50), i * 0.5) for i in range(3000)])
    return connection.execute("select b, count(*), avg(c) from t group by b order by 3 desc").fetchall()


def packing():
    import base64
    import copy
    import hashlib
    import pickle
    import struct
    import zlib

    data = {
        "a": list(range(500)),
        "b": [("x%d" % i, i / 3) for i in range(500)],
        "c": {i: str(i) for i in range(500)},
    }
    pickled = pickle.dumps(data)
    packed = zlib.compress(pickled)
    assert pickle.loads(zlib.decompress(packed)) == copy.deepcopy(data)
    digests = hashlib.sha256(packed).hexdigest(), hashlib.md5(pickled).hexdigest()
    structs = [struct.unpack("<IHd", struct.pack("<IHd", i, i & 9, i)) for i in range(800)]
    return digests, base64.b64encode(packed), structs


class Turn:
    def __await__(self):
        yield


def tasks():
    async def one(n):
        await Turn()
        return n

    async def two(n):
        return await one(n) + await one(n)

    waiting = [two(i) for i in range(200)]
    total = 0
    while waiting:
        still = []
        for task in waiting:
            try:
                task.send(None)
                still.append(task)
            except StopIteration as end:
                total += end.value
        waiting = still
    return total


def matrix(n=40):
    a = [[i * j % 7 for j in range(n)] for i in range(n)]
    return [[sum(x * y for x, y in zip(row, column)) for column in zip(*a)] for row in a]


def sieve(limit=30000):
    prime = bytearray([1]) * limit
    for i in range(2, int(limit**0.5) + 1):
        if prime[i]:
            prime[i * i :: i] = bytes(len(range(i * i, limit, i)))
    return [i for i in range(2, limit) if prime[i]]


def distance(a="kitten sitting on the mat" * 3, b="sitting kitten at the mall" * 3):
    before = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y)))
        before = row
    return before[-1]


def floats():
    import math

    points = [[0.1 * i, 0.2 * i * i % 3.0, 1.0 / (i + 1), 0.0] for i in range(60)]
    for _ in range(12):
        for p in points:
            p[0] += 0.01 * p[1]
            p[1] -= p[0] * 0.02
            p[3] = (p[0] * p[0] + p[1] * p[1] + p[2] * p[2] + 1e-9) ** 0.5
        for i in range(0, 60, 3):
            a = points[i]
            for b in points[i + 1 :]:
                dx = a[0] - b[0]
                dy = a[1] - b[1]
                f = (dx * dx + dy * dy + 0.05) ** -1.25
                a[2] += dx * f
                b[2] -= dy * f
    x = [math.sin(i * 0.1) * math.exp(-i * 0.01) + math.pow(i + 1, 0.3) for i in range(2000)]
    return sum(x) / len(x), max(x), [round(value, 3) for value in x[:200]]


def fourier(n=512):
    import cmath

    def go(a):
        if len(a) == 1:
            return a
        even, odd = go(a[::2]), go(a[1::2])
        out = [0j] * len(a)
        for k in range(len(a) // 2):
            t = cmath.exp(-2j * cmath.pi * k / len(a)) * odd[k]
            out[k] = even[k] + t
            out[k + len(a) // 2] = even[k] - t
        return out

    return go([complex(i % 17, 0) for i in range(n)])


class Vector:
    __slots__ = ("a", "b")

    def __init__(self, a, b):
        self.a = a
        self.b = b

    def __add__(self, other):
        return Vector(self.a + other.a, self.b + other.b)

    def __mul__(self, k):
        return Vector(self.a * k, self.b * k)

    @property
    def norm(self):
        return (self.a * self.a + self.b * self.b) ** 0.5


class Shape:
    def __init__(self, *points, **named):
        self.points = list(points)
        self.named = named


class Polygon(Shape):
    def __init__(self, *points, name="p", **named):
        super().__init__(*points, name=name, **named)

    def area(self):
        after = self.points[1:] + self.points[:1]
        return abs(sum(p.a * q.b - q.a * p.b for p, q in zip(self.points, after))) / 2


def classes():
    total = 0.0
    for i in range(400):
        shape = Polygon(*[Vector(j * i % 7, j * 1.5) * 0.5 + Vector(1, 2) for j in range(8)], name="n%d" % i, tag=i)
        total += shape.area() + sum(p.norm for p in shape.points)
        try:
            if i % 3 == 0:
                raise KeyError(i)
            numbers = {key: value for key, value in shape.named.items() if isinstance(value, int)}
            total += len(numbers)
        except (KeyError, TypeError) as error:
            total += len(error.args)
        finally:
            total += 1
        if getattr(shape, "missing", None) is None and hasattr(shape, "points"):
            setattr(shape, "seen", True)
    return total


PROGRAMS = (
    queens, mandelbrot, spectral, tree, words, records, compiling, database, packing, tasks, matrix, sieve, distance,
    floats, fourier, classes,
)  # fmt: skip


def cases(suite):
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from cases(one)
        else:
            yield one


def tests(name):
    """Runs the first tests of a module of CPython's. Some need what the guest has not: what fails was counted, too."""
    try:
        module = importlib.import_module("test." + name)
    except Exception as error:
        print(f"{name}: {error!r}")
        return
    result = unittest.TestResult()
    for case, _ in zip(cases(unittest.defaultTestLoader.loadTestsFromModule(module)), range(TESTS)):
        try:
            case.run(result)
        except BaseException as error:
            print(f"{case}: {error!r}")
    print(f"{name}: {result.testsRun} run, {len(result.errors) + len(result.failures)} failed")


for _ in range(ROUNDS):
    for program in PROGRAMS:
        program()
for name in MODULES.split():
    tests(name)

"""What `hashlib` takes from OpenSSL elsewhere. Frozen as `_capibara_hashes`."""

import hashlib
import operator

_TO_INNER = bytes(byte ^ 0x36 for byte in range(256))
_TO_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def pbkdf2_hmac(hash_name, password, salt, iterations, dklen=None):
    """Password based key derivation function 2 (PKCS #5 v2.0) with HMAC as pseudorandom function."""
    if not isinstance(hash_name, str):
        raise TypeError(f"pbkdf2_hmac() argument 'hash_name' must be str, not {type(hash_name).__name__}")
    password, salt = bytes(memoryview(password)), bytes(memoryview(salt))
    iterations = operator.index(iterations)
    if iterations < 1:
        raise ValueError("iteration value must be greater than 0.")
    inner, outer = hashlib.new(hash_name), hashlib.new(hash_name)
    size = inner.digest_size
    if not size:  # the lengths of shake_128 and shake_256 are chosen by the caller
        raise ValueError(f"unsupported hash type {hash_name}")
    dklen = size if dklen is None else operator.index(dklen)
    if dklen < 1:
        raise ValueError("key length must be greater than 0.")
    if len(password) > inner.block_size:
        password = hashlib.new(hash_name, password).digest()
    password = password.ljust(inner.block_size, b"\0")
    inner.update(password.translate(_TO_INNER))
    outer.update(password.translate(_TO_OUTER))
    copy_inner, copy_outer, from_bytes = inner.copy, outer.copy, int.from_bytes

    def hmac(message):
        one, two = copy_inner(), copy_outer()
        one.update(message)
        two.update(one.digest())
        return two.digest()

    key = b""
    block = 0
    while len(key) < dklen:
        block += 1
        last = hmac(salt + block.to_bytes(4))
        mixed = from_bytes(last)
        for _ in range(iterations - 1):
            last = hmac(last)
            mixed ^= from_bytes(last)
        key += mixed.to_bytes(size)
    return key[:dklen]

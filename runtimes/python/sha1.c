/* One block of SHA-1, in place of HACL's, which keeps its state in memory and asks in each round which one it is.
 * `Hacl_Hash_SHA1.c` calls it (SOURCE_EDITS); digests are the same. */
#include <stdint.h>

static inline uint32_t rotated(uint32_t x, int by) { return __builtin_rotateleft32(x, by); }

static inline uint32_t big_endian(const uint8_t *at)
{
    uint32_t word;
    __builtin_memcpy(&word, at, 4);
    return __builtin_bswap32(word);
}

#define CHOICE(b, c, d) ((d) ^ ((b) & ((c) ^ (d))))
#define PARITY(b, c, d) ((b) ^ (c) ^ (d))
#define MAJORITY(b, c, d) (((b) & (c)) + ((d) & ((b) ^ (c))))

/* Words of the message, the last sixteen of them. */
#define FIRST(t) (words[t] = big_endian(block + 4 * (t)))
#define LATER(t) \
    (words[(t) & 15] = rotated(words[((t) + 13) & 15] ^ words[((t) + 8) & 15] ^ words[((t) + 2) & 15] ^ words[(t) & 15], 1))

#define ROUND(a, b, c, d, e, function, constant, word)                      \
    e += rotated(a, 5) + function(b, c, d) + (uint32_t)(constant) + (word); \
    b = rotated(b, 30);

#define FIVE(function, constant, word, t)                     \
    ROUND(a, b, c, d, e, function, constant, word(t))         \
    ROUND(e, a, b, c, d, function, constant, word((t) + 1))   \
    ROUND(d, e, a, b, c, function, constant, word((t) + 2))   \
    ROUND(c, d, e, a, b, function, constant, word((t) + 3))   \
    ROUND(b, c, d, e, a, function, constant, word((t) + 4))

#define TWENTY(function, constant, t)    \
    FIVE(function, constant, LATER, t)   \
    FIVE(function, constant, LATER, (t) + 5)  \
    FIVE(function, constant, LATER, (t) + 10) \
    FIVE(function, constant, LATER, (t) + 15)

void capibara_sha1_update(uint32_t *hash, uint8_t *block)
{
    uint32_t words[16];
    uint32_t a = hash[0], b = hash[1], c = hash[2], d = hash[3], e = hash[4];
    FIVE(CHOICE, 0x5a827999, FIRST, 0)
    FIVE(CHOICE, 0x5a827999, FIRST, 5)
    FIVE(CHOICE, 0x5a827999, FIRST, 10)
    ROUND(a, b, c, d, e, CHOICE, 0x5a827999, FIRST(15))
    ROUND(e, a, b, c, d, CHOICE, 0x5a827999, LATER(16))
    ROUND(d, e, a, b, c, CHOICE, 0x5a827999, LATER(17))
    ROUND(c, d, e, a, b, CHOICE, 0x5a827999, LATER(18))
    ROUND(b, c, d, e, a, CHOICE, 0x5a827999, LATER(19))
    TWENTY(PARITY, 0x6ed9eba1, 20)
    TWENTY(MAJORITY, 0x8f1bbcdc, 40)
    TWENTY(PARITY, 0xca62c1d6, 60)
    hash[0] += a; hash[1] += b; hash[2] += c; hash[3] += d; hash[4] += e;
}

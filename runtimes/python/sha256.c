/* One block of SHA-256 (and SHA-224), in place of HACL's: the schedule of the message four words at a time, and rounds of fewer
 * operations. `Hacl_Hash_SHA2.c` calls it (SOURCE_EDITS); digests are the same. */
#include <stdint.h>
#include <wasm_simd128.h>

static const uint32_t K[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t rotated(uint32_t x, int by) { return __builtin_rotateright32(x, by); }

/* Four words of the message, most significant byte first. */
static inline v128_t load(const uint8_t *at)
{
    v128_t bytes = wasm_v128_load(at);
    return wasm_i8x16_shuffle(bytes, bytes, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
}

/* sigma1 of the words x, y, given as (x, x, y, y): in the lower half of each pair. A shift of the pair is a rotation. */
static inline v128_t sigma1(v128_t pairs)
{
    v128_t turned = wasm_v128_xor(wasm_u64x2_shr(pairs, 17), wasm_u64x2_shr(pairs, 19));
    return wasm_v128_xor(turned, wasm_u32x4_shr(pairs, 10));
}

/* The next four words of the schedule from the last sixteen. */
static inline v128_t next(v128_t w0, v128_t w1, v128_t w2, v128_t w3)
{
    const v128_t zero = wasm_i32x4_const_splat(0);
    v128_t w15 = wasm_i32x4_shuffle(w0, w1, 1, 2, 3, 4), w7 = wasm_i32x4_shuffle(w2, w3, 1, 2, 3, 4);
    v128_t right = wasm_v128_xor(wasm_v128_xor(wasm_u32x4_shr(w15, 7), wasm_u32x4_shr(w15, 18)), wasm_u32x4_shr(w15, 3));
    v128_t sigma0 = wasm_v128_xor(right, wasm_v128_xor(wasm_i32x4_shl(w15, 25), wasm_i32x4_shl(w15, 14)));
    v128_t sum = wasm_i32x4_add(wasm_i32x4_add(w0, w7), sigma0);
    v128_t low = sigma1(wasm_i32x4_shuffle(w3, w3, 2, 2, 3, 3));
    sum = wasm_i32x4_add(sum, wasm_i32x4_shuffle(low, zero, 0, 2, 4, 4));
    v128_t high = sigma1(wasm_i32x4_shuffle(sum, sum, 0, 0, 1, 1));
    return wasm_i32x4_add(sum, wasm_i32x4_shuffle(zero, high, 0, 0, 4, 6));
}

/* One round. `ab` becomes a ^ b, which the next round needs as b ^ c: majority is ((a ^ b) & (b ^ c)) ^ b. */
#define ROUND(a, b, c, d, e, f, g, h, word)                                                    \
    do {                                                                                       \
        uint32_t one = h + (word) + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + (g ^ (e & (f ^ g))); \
        uint32_t ab = a ^ b;                                                                   \
        d += one;                                                                              \
        h = one + (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + (b ^ (ab & bc));         \
        bc = ab;                                                                               \
    } while (0)

/* Each word is read when its round comes (volatile): all at once they do not fit the registers. */
#define WORD(at) (*(volatile uint32_t *)(at))

#define FOUR_ROUNDS(a, b, c, d, e, f, g, h, at)        \
    ROUND(a, b, c, d, e, f, g, h, WORD(at));           \
    ROUND(h, a, b, c, d, e, f, g, WORD((at) + 1));     \
    ROUND(g, h, a, b, c, d, e, f, WORD((at) + 2));     \
    ROUND(f, g, h, a, b, c, d, e, WORD((at) + 3))

/* The next sixteen words with their constants, for the rounds. */
static inline void put(uint32_t *words, v128_t w0, v128_t w1, v128_t w2, v128_t w3, const uint32_t *constants)
{
    wasm_v128_store(words, wasm_i32x4_add(w0, wasm_v128_load(constants)));
    wasm_v128_store(words + 4, wasm_i32x4_add(w1, wasm_v128_load(constants + 4)));
    wasm_v128_store(words + 8, wasm_i32x4_add(w2, wasm_v128_load(constants + 8)));
    wasm_v128_store(words + 12, wasm_i32x4_add(w3, wasm_v128_load(constants + 12)));
}

void capibara_sha256_update(uint8_t *block, uint32_t *hash)
{
    uint32_t words[16] __attribute__((aligned(16)));
    uint32_t a = hash[0], b = hash[1], c = hash[2], d = hash[3], e = hash[4], f = hash[5], g = hash[6], h = hash[7];
    uint32_t bc = b ^ c;
    v128_t w0 = load(block), w1 = load(block + 16), w2 = load(block + 32), w3 = load(block + 48);
    for (int round = 0; round < 64; round += 16) {
        put(words, w0, w1, w2, w3, K + round);
        if (round < 48) {
            w0 = next(w0, w1, w2, w3);
            w1 = next(w1, w2, w3, w0);
            w2 = next(w2, w3, w0, w1);
            w3 = next(w3, w0, w1, w2);
        }
        FOUR_ROUNDS(a, b, c, d, e, f, g, h, words);
        FOUR_ROUNDS(e, f, g, h, a, b, c, d, words + 4);
        FOUR_ROUNDS(a, b, c, d, e, f, g, h, words + 8);
        FOUR_ROUNDS(e, f, g, h, a, b, c, d, words + 12);
    }
    hash[0] += a; hash[1] += b; hash[2] += c; hash[3] += d; hash[4] += e; hash[5] += f; hash[6] += g; hash[7] += h;
}

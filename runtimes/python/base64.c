/* Base64 in whole vectors, for `binascii.c` (SOURCE_EDITS): twelve bytes are sixteen digits. What is left over, and every text that has
 * anything but digits, is CPython's own business. */
#include <stddef.h>
#include <stdint.h>
#include <wasm_simd128.h>

/* Digits of as many whole twelves as there are; the bytes taken. Reads sixteen at a time. */
size_t capibara_base64_encode(const uint8_t *bytes, size_t size, uint8_t *digits)
{
    /* What a digit is more than its value, by the kind of its value. */
    const v128_t offsets = wasm_i8x16_const('a' - 26, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52,
                                            '0' - 52, '0' - 52, '+' - 62, '/' - 63, 'A', 0, 0);
    size_t taken = 0;
    for (; size - taken >= 16; taken += 12, digits += 16) {
        v128_t in = wasm_v128_load(bytes + taken);
        /* Each three bytes into four, as x = b1 b0 b2 b1 from the lowest. */
        in = wasm_i8x16_shuffle(in, in, 1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10);
        v128_t value = wasm_v128_and(wasm_u32x4_shr(in, 10), wasm_i32x4_const_splat(0x3f));
        value = wasm_v128_or(value, wasm_v128_and(wasm_i32x4_shl(in, 4), wasm_i32x4_const_splat(0x3f00)));
        value = wasm_v128_or(value, wasm_v128_and(wasm_u32x4_shr(in, 6), wasm_i32x4_const_splat(0x3f0000)));
        value = wasm_v128_or(value, wasm_v128_and(wasm_i32x4_shl(in, 8), wasm_i32x4_const_splat(0x3f000000)));
        /* 0 for small letters, 1 to 10 for figures, 11 and 12 for the last two, 13 for capitals. */
        v128_t kind = wasm_u8x16_sub_sat(value, wasm_i8x16_const_splat(51));
        v128_t capital = wasm_i8x16_lt(value, wasm_i8x16_const_splat(26));
        kind = wasm_v128_or(kind, wasm_v128_and(capital, wasm_i8x16_const_splat(13)));
        wasm_v128_store(digits, wasm_i8x16_add(value, wasm_i8x16_swizzle(offsets, kind)));
    }
    return taken;
}

static inline v128_t within(v128_t text, char first, char last)
{
    return wasm_u8x16_le(wasm_i8x16_sub(text, wasm_i8x16_splat(first)), wasm_i8x16_splat(last - first));
}

static inline v128_t shifted(v128_t kind, int8_t by) { return wasm_v128_and(kind, wasm_i8x16_splat(by)); }

/* Bytes of as many sixteens of digits as come first; the digits taken. Writes sixteen bytes at a time, so that many digits more must
 * follow. */
size_t capibara_base64_decode(const uint8_t *digits, size_t size, uint8_t *bytes)
{
    size_t taken = 0;
    for (; size - taken >= 24; taken += 16, bytes += 12) {
        v128_t text = wasm_v128_load(digits + taken);
        v128_t capital = within(text, 'A', 'Z'), small = within(text, 'a', 'z'), figure = within(text, '0', '9');
        v128_t plus = wasm_i8x16_eq(text, wasm_i8x16_const_splat('+')), slash = wasm_i8x16_eq(text, wasm_i8x16_const_splat('/'));
        v128_t known = wasm_v128_or(wasm_v128_or(capital, small), wasm_v128_or(figure, wasm_v128_or(plus, slash)));
        if (!wasm_i8x16_all_true(known)) break;
        v128_t offset = wasm_v128_or(wasm_v128_or(shifted(capital, -'A'), shifted(small, 26 - 'a')), shifted(figure, 52 - '0'));
        offset = wasm_v128_or(offset, wasm_v128_or(shifted(plus, 62 - '+'), shifted(slash, 63 - '/')));
        v128_t value = wasm_i8x16_add(text, offset);
        /* Pairs of six bits into twelve, pairs of those into twenty-four. */
        v128_t even = wasm_v128_and(value, wasm_i16x8_const_splat(0x3f)), odd = wasm_u16x8_shr(value, 8);
        v128_t twelve = wasm_v128_or(wasm_i16x8_shl(even, 6), odd);
        v128_t low = wasm_v128_and(twelve, wasm_i32x4_const_splat(0xfff)), high = wasm_u32x4_shr(twelve, 16);
        v128_t whole = wasm_v128_or(wasm_i32x4_shl(low, 12), high);
        const v128_t zero = wasm_i32x4_const_splat(0);
        wasm_v128_store(bytes, wasm_i8x16_shuffle(whole, zero, 2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, 16, 16, 16, 16));
    }
    return taken;
}

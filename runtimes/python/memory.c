/* memchr, memrchr, memcmp, strlen, strchr and strchrnul, sixteen bytes at a time: the toolchain's C library takes one, and looks for the
 * end of a text before it looks for anything in it (so that CPython's tokenizer read the rest of the source at each line). */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <wasm_simd128.h>

#define WIDTH sizeof(v128_t)

/* A bit for each byte that is `wanted`. */
static inline uint32_t found(const void *at, v128_t wanted)
{
    return wasm_i8x16_bitmask(wasm_i8x16_eq(wasm_v128_load(at), wanted));
}

void *memchr(const void *start, int byte, size_t size)
{
    const uint8_t *at = start, *end = at + size;
    v128_t wanted = wasm_i8x16_splat((int8_t)byte);
    for (; (size_t)(end - at) >= WIDTH; at += WIDTH) {
        uint32_t bits = found(at, wanted);
        if (bits) return (void *)(at + __builtin_ctz(bits));
    }
    for (; at < end; at++)
        if (*at == (uint8_t)byte) return (void *)at;
    return NULL;
}

void *memrchr(const void *start, int byte, size_t size)
{
    const uint8_t *first = start, *at = first + size;
    v128_t wanted = wasm_i8x16_splat((int8_t)byte);
    while ((size_t)(at - first) >= WIDTH) {
        at -= WIDTH;
        uint32_t bits = found(at, wanted);
        if (bits) return (void *)(at + 31 - __builtin_clz(bits));
    }
    while (at > first)
        if (*--at == (uint8_t)byte) return (void *)at;
    return NULL;
}

int memcmp(const void *one, const void *other, size_t size)
{
    const uint8_t *a = one, *b = other;
    for (; size >= WIDTH; a += WIDTH, b += WIDTH, size -= WIDTH) {
        uint32_t equal = found(a, wasm_v128_load(b));
        if (equal != 0xffff) {
            int at = __builtin_ctz(~equal);
            return a[at] - b[at];
        }
    }
    for (; size >= 4; a += 4, b += 4, size -= 4) {
        uint32_t left, right;
        __builtin_memcpy(&left, a, 4);
        __builtin_memcpy(&right, b, 4);
        if (left != right) return __builtin_bswap32(left) < __builtin_bswap32(right) ? -1 : 1;
    }
    for (; size; a++, b++, size--)
        if (*a != *b) return *a - *b;
    return 0;
}

/* Reads whole aligned vectors: these never cross the end of the memory. */
size_t strlen(const char *text)
{
    const v128_t zero = wasm_i8x16_const_splat(0);
    const char *at = (const char *)((uintptr_t)text & ~(WIDTH - 1));
    uint32_t bits = found(at, zero) >> (text - at);
    if (bits) return __builtin_ctz(bits);
    do at += WIDTH;
    while (!(bits = found(at, zero)));
    return at + __builtin_ctz(bits) - text;
}

/* The first `byte`, or the end. Reads as strlen does. */
char *strchrnul(const char *text, int byte)
{
    const v128_t zero = wasm_i8x16_const_splat(0), wanted = wasm_i8x16_splat((int8_t)byte);
    const char *at = (const char *)((uintptr_t)text & ~(WIDTH - 1));
    uint32_t bits = (found(at, zero) | found(at, wanted)) >> (text - at);
    if (bits) return (char *)text + __builtin_ctz(bits);
    do at += WIDTH;
    while (!(bits = found(at, zero) | found(at, wanted)));
    return (char *)at + __builtin_ctz(bits);
}

char *strchr(const char *text, int byte)
{
    char *at = strchrnul(text, byte);
    return *at == (char)byte ? at : NULL;
}

/* How many bytes `text` begins with that are, or are not, among `set`. */
static size_t span(const char *text, const char *set, int among)
{
    uint8_t member[256] = {0};
    for (const char *at = set; *at; at++) member[(uint8_t)*at] = 1;
    size_t size = 0;
    while (text[size] && member[(uint8_t)text[size]] == among) size++;
    return size;
}

size_t strspn(const char *text, const char *set) { return span(text, set, 1); }

size_t strcspn(const char *text, const char *set) { return span(text, set, 0); }

char *strpbrk(const char *text, const char *set)
{
    text += strcspn(text, set);
    return *text ? (char *)text : NULL;
}

/* Counting for the profile of the Python runtime (`cargo xtask profile`): what code compiled with -fprofile-generate calls, and
 * run-profiled(), which is run-cold() and then writes the counts to /out/profile.raw, in LLVM 22's raw format (version 10).
 * The toolchain has no such library for WebAssembly. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RAW "/out/profile.raw"
#define VALUES_EACH 24 /* different values remembered of one place */
#define KINDS 3        /* indirect calls, sizes of memory operations, virtual tables */
#define SIZE_LARGE 513 /* sizes are exact to 8, then powers of two or between two of them; from here on, one class */

int capibara_run_cold(void) __attribute__((weak)); /* guest.c; not in _freeze_module, which has the same objects */

int __llvm_profile_runtime; /* asked for by name by what is instrumented */
extern const uint64_t __llvm_profile_raw_version;

/* What the compiler keeps of a function. */
struct record {
    uint64_t name, hash;
    uint32_t counters, bitmap, function, values, count;
    uint16_t sites[KINDS];
    uint32_t bitmap_bytes;
};

struct value {
    uint64_t value, count;
    struct value *next;
};

#define SECTION(name, type)                                                     \
    extern type __start_##name[] __attribute__((visibility("hidden")));        \
    extern type __stop_##name[] __attribute__((visibility("hidden")));
SECTION(__llvm_prf_data, struct record)
SECTION(__llvm_prf_cnts, char)
SECTION(__llvm_prf_names, char)

void __llvm_profile_instrument_target(uint64_t seen, void *data, uint32_t site)
{
    struct record *record = data;
    if (!record->values) return;
    struct value **head = (struct value **)(uintptr_t)record->values + site, *rarest = NULL;
    int known = 0;
    for (struct value *at = *head; at; at = at->next, known++) {
        if (at->value == seen) { at->count++; return; }
        if (!rarest || at->count < rarest->count) rarest = at;
    }
    if (known >= VALUES_EACH) {
        /* Makes room in time: a value that comes often gets in. */
        if (rarest->count > 1) { rarest->count--; return; }
        rarest->value = seen;
        return;
    }
    struct value *new = malloc(sizeof *new);
    if (!new) return;
    *new = (struct value){ seen, 1, *head };
    *head = new;
}

void __llvm_profile_instrument_memop(uint64_t size, void *data, uint32_t site)
{
    if (size >= SIZE_LARGE) size = SIZE_LARGE;
    else if (size > 8 && (size & (size - 1))) size = (1ull << (63 - __builtin_clzll(size))) + 1;
    __llvm_profile_instrument_target(size, data, site);
}

/* The values of one function: u32 bytes, u32 kinds; for each kind u32 kind, u32 sites, a byte for each site with the number of its
 * values, padding to 8, and the values with their counts. */
static void write_values(FILE *file, const struct record *record)
{
    static char out[1 << 20];
    struct value **sites = (struct value **)(uintptr_t)record->values;
    if (!sites) return;
    uint32_t end = 8, kinds = 0;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        uint32_t count = record->sites[kind];
        if (!count) continue;
        kinds++;
        memcpy(out + end, (uint32_t[]){ kind, count }, 8);
        uint32_t counts = end + 8;
        end += (8 + count + 7) & ~7u;
        memset(out + counts, 0, end - counts);
        for (uint32_t site = 0; site < count; site++, sites++)
            for (struct value *at = *sites; at && end + 16 <= sizeof out - 64; at = at->next, end += 16) {
                out[counts + site]++;
                memcpy(out + end, at, 16);
            }
    }
    if (!kinds) return;
    memcpy(out, (uint32_t[]){ end, kinds }, 8);
    fwrite(out, 1, end, file);
}

static int write_profile(void)
{
    FILE *file = fopen(RAW, "wb");
    if (!file) { perror(RAW); return 1; }
    struct record *records = __start___llvm_prf_data;
    uint64_t functions = __stop___llvm_prf_data - records;
    uint64_t counters = (__stop___llvm_prf_cnts - __start___llvm_prf_cnts) / sizeof(uint64_t);
    uint64_t names = __stop___llvm_prf_names - __start___llvm_prf_names;
    uint64_t header[16] = {
        0xff6c70726f665281, /* "lprofR" between 255 and 129: 64-bit counters */
        __llvm_profile_raw_version, 0, functions, 0, counters, 0, 0, 0, names,
        (uint32_t)(__start___llvm_prf_cnts - (char *)records), 0, (uintptr_t)__start___llvm_prf_names, 0, 0, KINDS - 1,
    };
    fwrite(header, sizeof header, 1, file);
    fwrite(records, sizeof *records, functions, file);
    fwrite(__start___llvm_prf_cnts, sizeof(uint64_t), counters, file);
    fwrite(__start___llvm_prf_names, 1, names, file);
    fwrite((char[8]){ 0 }, 1, -names & 7, file);
    for (uint64_t i = 0; i < functions; i++) write_values(file, &records[i]);
    return fclose(file) != 0;
}

__attribute__((export_name("run-profiled"))) int capibara_run_profiled(void)
{
    int status = capibara_run_cold ? capibara_run_cold() : 2;
    return status ? status : write_profile();
}

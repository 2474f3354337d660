//! Compiler flags and file lists of the Python runtime that are not in the data files of `runtimes/python/`.
//!
//! `build.rs` reads this file too (the values are part of the recipe digest), so it names nothing from the crate.

/// What every C file is compiled with.
pub(crate) const BASE: &str = "-target wasm32-wasi \
    -mcpu=generic+bulk_memory+sign_ext+nontrapping_fptoint+mutable_globals+simd128+tail_call \
    -O3 -g0 -DNDEBUG -w -Wno-date-time -Wno-error=int-conversion \
    -D_WASI_EMULATED_GETPID -D_WASI_EMULATED_SIGNAL -D_WASI_EMULATED_PROCESS_CLOCKS";

/// Linking: a 16 MiB C stack (zig puts it first, so that an overflow traps). Memory begins with what the data takes: the
/// allocators take whole pages behind it.
pub(crate) const LINK: &str = "-Wl,--strip-debug -Wl,-z,stack-size=16777216 \
    -lwasi-emulated-signal -lwasi-emulated-getpid -lwasi-emulated-process-clocks";

/// The guest is a reactor: it exports functions instead of starting by itself, and where its output buffers are.
pub(crate) const REACTOR: &str = "-mexec-model=reactor -Wl,--export=capibara_input -Wl,--export=capibara_output";

/// Compiling by a profile (`cargo xtask profile`). What it saw little of is not made small: it saw only programs that train.
pub(crate) const PROFILE_USE: &str = "-fprofile-use=python.profdata -mllvm -pgso=false";
/// Compiling for a new profile. Names are not compressed: that is the form our own C file can write.
pub(crate) const PROFILE_MAKE: &str = "-fprofile-generate -mllvm -enable-name-compression=false";
/// Compiled without the profile: the interpreter's loop is slower with it.
pub(crate) const PROFILE_SKIPPED: &str = "src/Python/ceval.c";

/// Fixes every date a compiler may write.
pub(crate) const SOURCE_DATE_EPOCH: &str = "1749600000";

/// Files of CPython's core outside `sources.txt`, and our own.
pub(crate) const CORE: &str = "-fno-strict-overflow -std=c11 -fvisibility=hidden -Igen -Isrc/Include -Isrc/Include/internal \
    -Isrc/Include/internal/mimalloc -Isrc/Objects -Isrc/Python -DPy_BUILD_CORE";
/// `Python/sysmodule.c`.
pub(crate) const SYSMODULE: &[&str] = &["-DABIFLAGS=\"\"", "-DMULTIARCH=\"wasm32-wasi\""];
/// Our `memory.c`: its loops must not become calls of the functions they are.
pub(crate) const MEMORY: &[&str] = &["-fno-builtin"];
/// `Modules/getbuildinfo.c`: a fixed date instead of the day of the build.
pub(crate) const BUILDINFO: &[&str] = &["-DDATE=\"Jun 11 2025\"", "-DTIME=\"00:00:00\""];
/// `Modules/getpath.c`.
pub(crate) const GETPATH: &[&str] = &[
    "-DPYTHONPATH=\"\"",
    "-DPREFIX=\"/usr\"",
    "-DEXEC_PREFIX=\"/usr\"",
    "-DVERSION=\"3.13\"",
    "-DVPATH=\"\"",
    "-DPLATLIBDIR=\"lib\"",
    "-DPYTHONFRAMEWORK=\"\"",
];
/// Every file of `sources.txt`, after the flags of its group.
pub(crate) const GROUPS: &[&str] = &["-Igen", "-Igen/include", "-DSOCK_RAW=3"];

/// Macros of `pyconfig-defines.txt` that stay undefined: they were read off a configured build, and these need headers the guest has not.
pub(crate) const PYCONFIG_UNDEFINED: &[&str] = &["HAVE_DYNAMIC_LOADING", "HAVE_DLOPEN"];
/// Modules that CPython's `config.c.in` lists by itself.
pub(crate) const CONFIG_BUILTIN: &[&str] =
    &["marshal", "_imp", "_ast", "_tokenize", "builtins", "sys", "gc", "_warnings", "_string"];

/// zlib.
pub(crate) const ZLIB_FILES: &str =
    "adler32 compress crc32 deflate infback inffast inflate inftrees trees uncompr zutil";
/// zlib's flags.
pub(crate) const ZLIB_FLAGS: &str = "-D_LARGEFILE64_SOURCE=1 -DHAVE_UNISTD_H";
/// bzip2.
pub(crate) const BZIP2_FILES: &str = "blocksort huffman crctable randtable compress decompress bzlib";
/// bzip2's flags.
pub(crate) const BZIP2_FLAGS: &str = "-DBZ_NO_STDIO";
/// Folders of liblzma whose C files are compiled (without the threaded coders, table generators and size-optimised variants).
pub(crate) const XZ_FOLDERS: &str = "common lzma lz check delta rangecoder simple";
/// Folders of liblzma with headers.
pub(crate) const XZ_INCLUDES: &str = "api lzma lz check simple delta common rangecoder";
/// liblzma's flags.
pub(crate) const XZ_FLAGS: &str = "-std=c99 -DHAVE_CONFIG_H=1";
/// SQLite's flags.
pub(crate) const SQLITE_FLAGS: &str = "-DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_THREADSAFE=0 -DSQLITE_ENABLE_FTS5 -DSQLITE_ENABLE_JSON1 \
    -DSQLITE_ENABLE_MATH_FUNCTIONS -DSQLITE_ENABLE_RTREE -DSQLITE_DEFAULT_MEMSTATUS=0 -DSQLITE_OMIT_WAL \
    -DSQLITE_MAX_MMAP_SIZE=0 -DSQLITE_TEMP_STORE=2 -DHAVE_LOCALTIME_R=1 -Dmkdir=capibara_lock_mkdir -Drmdir=capibara_lock_rmdir";
/// musl's mathematical functions that are one WebAssembly instruction (exact anyway) and stay with the toolchain's C library.
pub(crate) const LIBM_SKIPPED: &str = "fabs ceil floor trunc rint nearbyint sqrt copysign";
/// musl's flags.
pub(crate) const LIBM_FLAGS: &str = "-std=c99 -D_GNU_SOURCE -ffreestanding -fno-strict-aliasing -fvisibility=hidden \
    -Igen/mshim -Imusl/src/internal -Imusl/arch/generic";
/// musl's own `features.h` does not fit the toolchain's headers: the few macros its sources need.
pub(crate) const LIBM_FEATURES_H: &str = "#include_next <features.h>\n#define weak __attribute__((__weak__))\n\
    #define hidden __attribute__((__visibility__(\"hidden\")))\n\
    #define weak_alias(old, new) extern __typeof(old) new __attribute__((__weak__, __alias__(#old)))\n";
/// The one function of musl's `atomic.h` that its mathematical functions use.
pub(crate) const LIBM_ATOMIC_H: &str = "static inline int a_clz_64(uint64_t x) { return __builtin_clzll(x); }\n";

/// Functions of the C library that CPython and SQLite get from us. zig links its whole library, so they need names of their own.
pub(crate) const REDIRECTED: &str = "-Dpthread_cond_wait=capibara_cond_wait -Dtimes=capibara_times -Dlocaltime_r=capibara_localtime_r -Dmktime=capibara_mktime";
/// `Modules/posixmodule.c`: WASI tells no permissions, and programs look at them; its C library keeps `..` in the working directory.
pub(crate) const POSIXMODULE: &[&str] = &[
    "-Dstat(path,to)=capibara_stat(path,to)",
    "-Dlstat(path,to)=capibara_lstat(path,to)",
    "-Dfstat(fd,to)=capibara_fstat(fd,to)",
    "-Dfstatat(fd,path,to,flags)=capibara_fstatat(fd,path,to,flags)",
    "-Dchdir(path)=capibara_chdir(path)",
];
/// `Objects/unicodeobject.c`: numbers in texts by our `format.c`.
pub(crate) const UNICODEOBJECT: &[&str] = &["-Dsprintf=capibara_sprintf"];
/// `Modules/signalmodule.c`: the C library's own answer to a signal nobody handles is to break down.
pub(crate) const SIGNALMODULE: &[&str] = &["-Draise(number)=capibara_raise(number)"];
/// musl's time zones: the toolchain's C library knows only UTC.
pub(crate) const TZ_FILES: &str = "__tz localtime_r mktime";
/// Flags of the time zones (after [`REDIRECTED`]).
pub(crate) const TZ_FLAGS: &str = "-std=c99 -D_XOPEN_SOURCE=700 -fvisibility=hidden -Igen/tzshim -Igen/mshim \
    -D__libc_malloc=malloc -D__localtime_r=capibara_musl_localtime_r -D__secs_to_zone=capibara_secs_to_zone \
    -D__tm_to_tzname=capibara_tm_to_tzname -D__utc=capibara_utc -Wno-incompatible-pointer-types";
/// Stand-ins for the headers of musl that `__tz.c` includes, and what they say: one thread, no set-uid programs, files by our `stubs.c`.
pub(crate) const TZ_HEADERS: &[[&str; 2]] = &[
    // An alias of what is renamed.
    [
        "features.h",
        "#include_next <features.h>\n#undef weak_alias\n#define weak_alias(old, new) renamed_alias(old, new)\n\
         #define renamed_alias(old, new) extern __typeof(old) new __attribute__((__weak__, __alias__(#old)))\n",
    ],
    ["libc.h", "static const struct { int secure; } libc;\n"],
    ["lock.h", "#define LOCK(x)\n#define UNLOCK(x)\n"],
    ["fork_impl.h", "\n"],
    ["sys/mman.h", "int __munmap(void *, size_t);\nconst unsigned char *__map_file(const char *, size_t *);\n"],
];

/// Replacements in CPython's sources, after the patches: file, text that occurs in it once, new text.
///
/// The limit of recursion in C is halved for WASI in general; our C stack ([`LINK`]) holds the depth of other systems.
pub(crate) const SOURCE_EDITS: &[[&str; 3]] = &[
    // Room for the traceback is given back when memory runs out (`guest.c`).
    [
        "Objects/exceptions.c",
        "PyObject *\n_PyErr_NoMemory(PyThreadState *tstate)\n{\n",
        "void capibara_out_of_memory(void);\n\nPyObject *\n_PyErr_NoMemory(PyThreadState *tstate)\n{\n    capibara_out_of_memory();\n",
    ],
    // As on other systems, for the same reason.
    ["Parser/parser.c", "#    define MAXSTACK 4000\n", "#    define MAXSTACK 6000\n"],
    ["Include/cpython/pystate.h", "#  define Py_C_RECURSION_LIMIT 5000\n", "#  define Py_C_RECURSION_LIMIT 10000\n"],
    // `sha256.c` instead; the function here stays unused.
    [
        "Modules/_hacl/Hacl_Hash_SHA2.c",
        "static inline void sha256_update(uint8_t *b, uint32_t *hash)\n{\n",
        "void capibara_sha256_update(uint8_t *block, uint32_t *hash);\n#define sha256_update capibara_sha256_update\n\n\
         static inline void sha256_update_unused(uint8_t *b, uint32_t *hash)\n{\n",
    ],
    // `sha1.c` instead, likewise.
    [
        "Modules/_hacl/Hacl_Hash_SHA1.c",
        "static void update(uint32_t *h, uint8_t *l)\n{\n",
        "void capibara_sha1_update(uint32_t *hash, uint8_t *block);\n#define update capibara_sha1_update\n\n\
         static inline void sha1_update_unused(uint32_t *h, uint8_t *l)\n{\n",
    ],
    // What `base64.c` can take of a text, it takes.
    [
        "Modules/binascii.c",
        "    out_len = bin_len*2 + 2;\n    if (newline)\n        out_len++;\n    \
         ascii_data = _PyBytesWriter_Alloc(&writer, out_len);\n    if (ascii_data == NULL)\n        return NULL;\n",
        "    out_len = bin_len*2 + 2;\n    if (newline)\n        out_len++;\n    \
         ascii_data = _PyBytesWriter_Alloc(&writer, out_len);\n    if (ascii_data == NULL)\n        return NULL;\n    \
         size_t capibara_base64_encode(const unsigned char *, size_t, unsigned char *);\n    \
         size_t taken = capibara_base64_encode(bin_data, bin_len, ascii_data);\n    \
         bin_data += taken;\n    bin_len -= taken;\n    ascii_data += taken / 3 * 4;\n",
    ],
    [
        "Modules/binascii.c",
        "        unsigned char this_ch = ascii_data[i];\n\n        /* Check for pad sequences and ignore\n",
        "        if (quad_pos == 0 && pads == 0) {\n            \
         size_t capibara_base64_decode(const unsigned char *, size_t, unsigned char *);\n            \
         size_t taken = capibara_base64_decode(ascii_data + i, ascii_len - i, bin_data);\n            \
         i += taken;\n            bin_data += taken / 4 * 3;\n        }\n        \
         unsigned char this_ch = ascii_data[i];\n\n        /* Check for pad sequences and ignore\n",
    ],
    // Here and not in `sandbox_refusals.py`: a module loaded in the image would run its exit functions in every run.
    [
        "Lib/concurrent/futures/process.py",
        "\"This Python build lacks multiprocessing.synchronize, usually due \"\n            \
         \"to named semaphores being unavailable on this platform.\"\n",
        "\"processes are not available in the Capibara sandbox\"\n",
    ],
];

/// Debian's security patches in its `series`: names with one of these beginnings. The other entries are packaging.
pub(crate) const PATCH_PREFIXES: &[&str] = &["CVE-", "ssl-", "dict-use-after-free", "traverse-managed-dicts"];

/// Folders of `Lib` that are not in the image: tests, and what needs a screen, a terminal, native code or a package index.
pub(crate) const LIB_SKIPPED_FOLDERS: &[&str] = &[
    "__phello__",
    "__pycache__",
    "ctypes",
    "curses",
    "ensurepip",
    "idlelib",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
    "venv",
];
/// Files of `Lib` that are not in the image: other platforms, terminals, screens, TLS.
pub(crate) const LIB_SKIPPED_FILES: &[&str] = &[
    "__hello__.py",
    "_aix_support.py",
    "_android_support.py",
    "_apple_support.py",
    "_ios_support.py",
    "_osx_support.py",
    "pty.py",
    "ssl.py",
    "turtle.py",
];

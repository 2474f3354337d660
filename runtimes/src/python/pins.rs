//! The sources of the Python runtime, each pinned by its SHA-256.
//!
//! `build.rs` reads this file too (the values are part of the recipe digest), so it names nothing from the crate.

/// One file the recipe needs, whatever the place it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pin {
    /// File name in `sources/`.
    pub(crate) file: &'static str,
    /// A second name under which the same bytes are known (Debian renames release tarballs); accepted when looking for the file.
    pub(crate) alias: Option<&'static str>,
    /// SHA-256 of the file, lower-case hex.
    pub(crate) sha256: &'static str,
    /// The processor architecture of the building machine that needs it (`std::env::consts::ARCH`), or `None` for all.
    pub(crate) host: Option<&'static str>,
    /// Where the file comes from.
    pub(crate) origin: Origin,
}

/// Through which client a pinned file is obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A Debian source package (`apt-get source`), or else the upstream release file.
    Release {
        /// Debian's source package that carries the file unchanged.
        debian: &'static str,
        /// The release file of the project itself, used where `apt-get` cannot supply it.
        upstream: &'static str,
    },
    /// The C library inside a Rust crate (`cargo fetch`).
    Crate {
        /// Name of the crate.
        name: &'static str,
        /// Version as cargo understands it in a requirement (without build metadata).
        version: &'static str,
    },
    /// A wheel (`pip download`).
    Wheel {
        /// Name of the project.
        project: &'static str,
        /// Exact version.
        version: &'static str,
    },
}

/// Version of CPython.
pub(crate) const PYTHON_VERSION: &str = "3.13.5";

/// The release tarball of CPython.
pub(crate) const PYTHON: Pin = Pin {
    file: "Python-3.13.5.tar.xz",
    alias: Some("python3.13_3.13.5.orig.tar.xz"),
    sha256: "93e583f243454e6e9e4588ca2c2662206ad961659863277afcdb96801647d640",
    host: None,
    origin: Origin::Release {
        debian: "python3.13",
        upstream: "https://www.python.org/ftp/python/3.13.5/Python-3.13.5.tar.xz",
    },
};

/// musl, for its mathematical functions: those of zig's own C library are not exact (`exp(1)`).
pub(crate) const MUSL: Pin = Pin {
    file: "musl-1.2.5.tar.gz",
    alias: Some("musl_1.2.5.orig.tar.gz"),
    sha256: "a9a118bbe84d8764da0ea0d28b3ab3fae8477fc7e4085d90102b8596fc7c75e4",
    host: None,
    origin: Origin::Release { debian: "musl", upstream: "https://musl.libc.org/releases/musl-1.2.5.tar.gz" },
};

/// zlib 1.3.
pub(crate) const ZLIB: Pin = Pin {
    file: "libz-sys-1.1.31.crate",
    alias: None,
    sha256: "ff20308ecabd635a2dc1dd5834a86c462cca20efba1d5d3ddab1f8aea3455cb2",
    host: None,
    origin: Origin::Crate { name: "libz-sys", version: "1.1.31" },
};

/// bzip2 1.0.8.
pub(crate) const BZIP2: Pin = Pin {
    file: "bzip2-sys-0.1.13+1.0.8.crate",
    alias: None,
    sha256: "225bff33b2141874fe80d71e07d6eec4f85c5c216453dd96388240f96e1acc14",
    host: None,
    origin: Origin::Crate { name: "bzip2-sys", version: "0.1.13" },
};

/// liblzma of XZ Utils.
pub(crate) const XZ: Pin = Pin {
    file: "liblzma-sys-0.4.9.crate",
    alias: None,
    sha256: "7c7e3581f367a78d7b7e7ae948d023310556f0cfc13156c2e4e00e25616492b9",
    host: None,
    origin: Origin::Crate { name: "liblzma-sys", version: "0.4.9" },
};

/// SQLite's amalgamation.
pub(crate) const SQLITE: Pin = Pin {
    file: "libsqlite3-sys-0.39.1.crate",
    alias: None,
    sha256: "14a5f01b87b92705d07b433c06f96cbc764637d81a0bffb5734ce17cf0f9a2b3",
    host: None,
    origin: Origin::Crate { name: "libsqlite3-sys", version: "0.39.1" },
};

/// Time zone data.
pub(crate) const TZDATA: Pin = Pin {
    file: "tzdata-2026.6-py2.py3-none-any.whl",
    alias: None,
    sha256: "0a10eec6e13ef16b627fabed9a5f2ba61a62b1c67f327305f4e7e412a70b4aec",
    host: None,
    origin: Origin::Wheel { project: "tzdata", version: "2026.6" },
};

/// The C compiler with its WASI C library, for machines of this kind.
pub(crate) const ZIG_X86_64: Pin = Pin {
    file: "ziglang-0.17.1-py3-none-manylinux_2_12_x86_64.manylinux2010_x86_64.musllinux_1_1_x86_64.whl",
    alias: None,
    sha256: "ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54",
    host: Some("x86_64"),
    origin: Origin::Wheel { project: "ziglang", version: "0.17.1" },
};

/// The same compiler for 64-bit ARM.
pub(crate) const ZIG_AARCH64: Pin = Pin {
    file: "ziglang-0.17.1-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
    alias: None,
    sha256: "b7c5f02fccd40f89b999ee16a1f5ddced56e6182370f8affe494bcf8a28cf07e",
    host: Some("aarch64"),
    origin: Origin::Wheel { project: "ziglang", version: "0.17.1" },
};

/// Everything above.
pub(crate) const ALL: &[Pin] = &[PYTHON, MUSL, ZLIB, BZIP2, XZ, SQLITE, TZDATA, ZIG_X86_64, ZIG_AARCH64];

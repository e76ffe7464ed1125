//! Links the distribution's librados and librbd (Debian: librados-dev, librbd-dev; they have no .pc files), and the
//! libcryptsetup that librbd uses (libcryptsetup-dev).

fn main() {
    println!("cargo:rustc-link-lib=dylib=rados");
    println!("cargo:rustc-link-lib=dylib=rbd");
    println!("cargo:rustc-link-lib=dylib=cryptsetup");
    println!("cargo:rerun-if-changed=build.rs");
}

//! Writes libtorch's folder into the binaries (rpath), so that they start without LD_LIBRARY_PATH,
//! and compiles the C++ shim of `src/runtime/`.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/runtime/shim.cpp");
    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where libtorch is");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    let torch = Path::new(&lib).parent().expect("libtorch's lib folder has a parent");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(torch.join("include"))
        .file("src/runtime/shim.cpp")
        .compile("toolkit_shim");
}

//! Writes libtorch's folder into the binaries (rpath), so that they start without LD_LIBRARY_PATH,
//! and compiles the C++ shims of `src/runtime/`: one linked in, and one for CUDA that the program
//! carries as a library and loads where there is a GPU.

use std::env;
use std::path::{Path, PathBuf};

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
    cuda_shim(torch);
}

/// Compiles `toolkit_cuda.so`. Without CUDA's headers the file is empty, and the program goes without, which it
/// says where there is a GPU.
fn cuda_shim(torch: &Path) {
    println!("cargo:rerun-if-changed=src/runtime/cuda_shim");
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    let library = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("toolkit_cuda.so");
    let folders = [
        env::var("CUDA_HOME").map(PathBuf::from).unwrap_or_else(|_| "/usr/local/cuda".into()).join("include"),
        // The folder of Python's packages, for the wheels that come with torch's.
        torch.join("../nvidia/cu13/include"),
        torch.canonicalize().unwrap_or_default().join("../nvidia/cu13/include"),
    ];
    let header = |folder: &PathBuf| folder.join("cuda_runtime.h");
    let headers = folders.iter().find(|folder| header(folder).exists());
    // Cargo builds again each time where a file that it watches is not there: only while none is found.
    for folder in headers.map_or(folders.as_slice(), std::slice::from_ref) {
        println!("cargo:rerun-if-changed={}", header(folder).display());
    }
    let (Some(headers), true) = (headers, torch.join("include/ATen/cuda/CUDAGraph.h").exists()) else {
        std::fs::write(&library, []).expect("OUT_DIR can be written to");
        return;
    };
    let mut compiler = cc::Build::new().cpp(true).std("c++17").warnings(false).pic(true).get_compiler().to_command();
    compiler.arg("-shared").arg("-I").arg(torch.join("include")).arg("-I").arg(headers);
    compiler.args(["-idirafter", "src/runtime/cuda_shim", "src/runtime/cuda_shim/cuda_shim.cpp", "-o"]).arg(&library);
    let status = compiler.status().expect("the C++ compiler can be started");
    assert!(status.success(), "the CUDA part of src/runtime does not compile");
}

# For `toolkit` and `check`: what the machine must have, and libtorch. Sourced, with $root set.

# need COMMAND WHAT REMEDY: ends with status 2 when the command is not there.
need() {
    command -v "$1" >/dev/null && return
    echo "error: $2 is missing ($1 is not on the PATH): $3" >&2
    exit 2
}

need_build_tools() {
    need cargo "a Rust toolchain" "install it from https://rustup.rs"
    need "${CXX:-c++}" "a C++ compiler" "install one (Debian, Ubuntu: apt install g++), or name yours in CXX"
}

# Whether .libtorch/current is what a start would choose, judged without starting Python.
libtorch_is_ready() {
    [[ -z ${LIBTORCH:-} && -f $root/.libtorch/current/lib/libtorch_cpu.so ]] || return 1
    [[ $(readlink "$root/.libtorch/current") == site/torch ]] || return 0
    # Unpacked here: with the headers that earlier versions left out, and on a machine with a GPU its own wheels.
    [[ -f $root/.libtorch/site/nvidia/cu13/include/cuda_runtime.h ]] || return 1
    if { [[ -e /dev/nvidia0 ]] || command -v nvidia-smi >/dev/null; }; then
        [[ -f $root/.libtorch/site/nvidia/nvshmem/lib/libnvshmem_host.so.3 ]] || return 1
    fi
}

# Afterwards $root/.libtorch/current is libtorch, and cargo builds against it wherever it came from.
provide_libtorch() {
    if ! libtorch_is_ready; then
        need python3 "Python 3" "install it (Debian, Ubuntu: apt install python3 python3-pip)"
        python3 "$root/scripts/libtorch.py" || exit
    fi
    export LIBTORCH=$root/.libtorch/current
}

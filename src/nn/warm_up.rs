//! Libraries of a GPU that load before they are needed.

use tch::{Device, Kind, Tensor, no_grad};

use super::feature_maps::conv_relu;
use super::fused;
use crate::runtime::shim::{cudnn_attention, linear_gelu};
use crate::runtime::{Background, catch_panics};

/// Does `work` in the background where the device is a GPU, so that the libraries that it needs are there when they are
/// wanted. What goes wrong goes wrong again where it matters, and is told there.
pub fn warm_up(device: Device, work: impl FnOnce() + Send + 'static) -> Option<Background> {
    let work = move || {
        let _ = catch_panics(|| {
            no_grad(work);
            Ok(())
        });
    };
    device.is_cuda().then(|| Background::start(work))
}

/// Something that networks compute with, which takes long where it is first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    Convolutions,
    Products,
    /// Attention [with many tokens](super::with_long_attention), with heads of this width.
    LongAttention(i64),
    /// The custom kernels of norms.
    Norms,
}

/// Has libraries load in the background, while weights are read: together up to half a second. All must be here (what this
/// gives must have gone) before others compute on the device.
pub fn load_libraries(libraries: &[Library], device: Device, kind: Kind) -> Vec<Background> {
    // Those of one thread are parts of cuDNN, which is set up once.
    let (of_cudnn, others): (Vec<Library>, Vec<Library>) = libraries.iter().partition(|library| library.is_of_cudnn());
    let threads = others.into_iter().map(|library| vec![library]).chain([of_cudnn]);
    let load = |libraries: Vec<Library>| {
        warm_up(device, move || libraries.iter().for_each(|library| library.use_once(device, kind)))
    };
    threads.filter(|libraries| !libraries.is_empty()).filter_map(load).collect()
}

impl Library {
    fn is_of_cudnn(self) -> bool {
        matches!(self, Self::Convolutions | Self::LongAttention(_))
    }

    /// Computes the least that has it loaded.
    pub fn use_once(self, device: Device, kind: Kind) {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (kind, device));
        match self {
            Self::Convolutions => {
                drop(conv_relu(&zeros(&[1, 16, 16, 16]), &zeros(&[16, 16, 3, 3]), &zeros(&[16]), 1, [1, 1]));
            }
            Self::Products => {
                let (x, weight) = (zeros(&[256, 256]), zeros(&[256, 256]));
                drop(x.linear(&weight, Some(&zeros(&[256]))));
                drop(linear_gelu(&x, &weight, &zeros(&[256])));
            }
            Self::LongAttention(head) => {
                let [q, k, v] = [0; 3].map(|_| zeros(&[1, 1, 256, head]));
                drop(cudnn_attention(&q, &k, &v, false));
            }
            Self::Norms => drop(fused::rms_norm(&zeros(&[1, 64]), &zeros(&[64]), 1e-6)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_has_nothing_to_load() {
        let all = [Library::Convolutions, Library::Products, Library::LongAttention(64), Library::Norms];
        assert!(load_libraries(&all, Device::Cpu, Kind::BFloat16).is_empty());
        // What is used once can be computed anywhere.
        all.iter().for_each(|library| library.use_once(Device::Cpu, Kind::Float));
    }
}

//! Networks of metrics on a GPU against the same on the CPU, and pictures on their way to it.

use crate::common::{apart, gpu, root};
use image::RgbImage;
use tch::{Device, Kind, Tensor};
use toolkit::metrics::image::artfid::ArtFidNets;
use toolkit::metrics::image::pictures::{Decoding, Pair};
use toolkit::nn::{conv_relu, laid_out};
use toolkit::runtime::{choose_tf32, with_chosen_tf32};

/// float32's own rounding in sums of a few thousand products, whichever units multiply.
const FLOAT32: f64 = 1e-6;

/// ‖difference‖ / ‖exact‖ of a convolution of maps of this size by this weight.
fn error(device: Device, size: [i64; 4], weight: [i64; 4], stride: i64, padding: [i64; 2]) -> f64 {
    tch::manual_seed(size.iter().chain(&weight).sum());
    let cpu = (Kind::Float, Device::Cpu);
    let (x, w, bias) = (Tensor::rand(size, cpu), Tensor::randn(weight, cpu), Tensor::randn([weight[0]], cpu));
    let [exact_x, exact_w, exact_bias] = [&x, &w, &bias].map(|tensor| tensor.to_kind(Kind::Double));
    let exact = exact_x.conv2d(&exact_w, Some(&exact_bias), [stride; 2], padding, [1, 1], 1).relu();
    // A map is laid out as a weight is.
    let [x, w, bias] = [x, w, bias].map(|tensor| tensor.to_device(device));
    let ours = with_chosen_tf32(|| conv_relu(&laid_out(x), &laid_out(w), &bias, stride, padding));
    apart(&ours.to_device(Device::Cpu), &exact)
}

#[test]
fn convolutions_of_float32_are_exact_unless_they_may_be_rounded() {
    let Some(device) = gpu() else { return };
    for (size, weight, stride, padding) in [
        ([2, 3, 75, 75], [32, 3, 3, 3], 2, [0, 0]),
        ([2, 3, 63, 64], [64, 3, 11, 11], 4, [2, 2]),
        ([2, 80, 20, 20], [192, 80, 3, 3], 1, [0, 0]),
        ([2, 48, 25, 25], [64, 48, 5, 5], 1, [2, 2]),
        ([3, 160, 12, 12], [160, 160, 1, 7], 1, [0, 3]),
        ([3, 768, 12, 12], [192, 768, 1, 1], 1, [0, 0]),
        ([2, 5, 9, 9], [7, 5, 3, 3], 1, [1, 1]),
    ] {
        let in_full = error(device, size, weight, stride, padding);
        choose_tf32(true);
        let rounded = error(device, size, weight, stride, padding);
        choose_tf32(false);
        println!("convolution {size:?} by {weight:?}: {in_full:.1e}, in TensorFloat-32 {rounded:.1e}");
        assert!(in_full < FLOAT32 && rounded < 2e-3, "{size:?} by {weight:?}: {in_full:.1e}, {rounded:.1e}");
    }
}

/// Pairs of pictures of noise in a folder.
fn pairs(folder: &std::path::Path, count: u32, side: u32) -> Vec<Pair> {
    let save = |name: String, seed: u32| {
        let value = |x: u32, y: u32, c: u32| (seed.wrapping_mul(31) ^ (x * 7 + y * 13 + c * 101) ^ (x * y)) as u8;
        let file = folder.join(name);
        RgbImage::from_fn(side, side, |x, y| image::Rgb([0, 1, 2].map(|c| value(x, y, c)))).save(&file).unwrap();
        file
    };
    let pair = |at| Pair {
        content: save(format!("c{at}.png"), at),
        stylized: save(format!("s{at}.png"), 1000 + at),
        id: at.to_string(),
    };
    (0..count).map(pair).collect()
}

/// In batches that are sent in pieces, the last of them filled up, while the GPU computes.
#[test]
fn pictures_arrive_whole() {
    let Some(device) = gpu() else { return };
    let folder = tempfile::tempdir().unwrap();
    let pairs = pairs(folder.path(), 37, 512);
    let busy = Tensor::randn([4096, 4096], (Kind::Float, device));
    let all = |device: Device, most: usize| -> Vec<Tensor> {
        let mut sets = [Vec::new(), Vec::new()];
        for batch in Decoding::pairs(&pairs, 1, None, true).batches(Some(most), device, Kind::Float) {
            let batch = batch.unwrap();
            if device.is_cuda() {
                drop(busy.matmul(&busy));
            }
            (0..2).for_each(|set| sets[set].push(batch.cut(&batch.set(set as i64)).to_device(Device::Cpu)));
        }
        sets.iter().map(|parts| Tensor::cat(parts, 0)).collect()
    };
    let expected = all(Device::Cpu, 16);
    for most in [16, 7, 37] {
        for (ours, theirs) in all(device, most).iter().zip(&expected) {
            assert_eq!(ours.size(), theirs.size());
            assert!((ours - theirs).abs().max().double_value(&[]) < 1e-6, "{most} at a time");
        }
    }
}

#[test]
fn artfids_networks_see_on_a_gpu_what_they_see_on_the_cpu() {
    let Some(device) = gpu() else { return };
    let mini = |file: &str| root().join("experiments/mini/models").join(file);
    let folder = tempfile::tempdir().unwrap();
    let pairs = pairs(folder.path(), 11, 128);
    let measured = |device: Device| {
        let lpips = ["alexnet.pth", "alex.pth"].map(|file| mini("mini-lpips").join(file));
        let nets =
            ArtFidNets::load(&mini("mini-art-inception/art_inception.pth"), &lpips[0], &lpips[1], device, Kind::Float)
                .unwrap();
        let batches = Decoding::pairs(&pairs, 1, None, device.is_cuda()).batches(Some(4), device, Kind::Float);
        let (features, distances) = nets.measure_files(batches).unwrap();
        [features, distances].map(|tensor| tensor.to_device(Device::Cpu))
    };
    let (ours, theirs) = (measured(device), measured(Device::Cpu));
    for (name, ours, theirs) in [("features", &ours[0], &theirs[0]), ("LPIPS", &ours[1], &theirs[1])] {
        println!("{name}: {:.1e}", apart(ours, theirs));
        assert!(apart(ours, theirs) < 1e-5, "{name}: {:.1e}", apart(ours, theirs));
    }
}

//! Which of libtorch's attention kernels is used, and what it computes.

use tch::{Device, Kind, Tensor};
use toolkit::nn::{attention, causal_attention, with_long_attention};
use toolkit::runtime::eager;

use crate::common::{apart, gpu, random, wide};

/// Queries, keys and values of so many heads, [batch, heads, tokens, width].
fn inputs(device: Device, kind: Kind, [batch, heads, shared, tokens, width]: [i64; 5]) -> [Tensor; 3] {
    [heads, shared, shared].map(|heads| random(&[batch, heads, tokens, width], kind, device))
}

/// What is computed does not depend on what was computed before, to the last bit.
#[test]
fn long_attention_leaves_no_trace() {
    let Some(device) = gpu() else { return };
    let [q, k, v] = inputs(device, Kind::BFloat16, [2, 4, 4, 256, 64]);
    let mask = random(&[1, 4, 256, 256], Kind::BFloat16, device);
    let all = || [attention(&q, &k, &v, None), attention(&q, &k, &v, Some(&mask)), causal_attention(&q, &k, &v)];
    let before = all();
    let long = with_long_attention(|| attention(&q, &k, &v, None));
    assert!(apart(&long, &before[0]) < 8e-3);
    for (before, after) in before.iter().zip(all()) {
        assert!(before.equal(&after));
    }
}

/// Long attention against float32: odd lengths, narrow and wide heads, heads that share keys, later keys hidden.
#[test]
fn long_attention_is_attention() {
    let Some(device) = gpu() else { return };
    for kind in [Kind::Half, Kind::BFloat16] {
        for shape in [[2, 3, 3, 1154, 64], [1, 2, 2, 77, 40], [3, 4, 4, 577, 72], [2, 24, 8, 333, 128], [1, 2, 2, 5, 8]]
        {
            let [q, k, v] = inputs(device, kind, shape);
            let [q32, k32, v32] = [&q, &k, &v].map(wide);
            let out = with_long_attention(|| causal_attention(&q, &k, &v));
            let difference = apart(&out, &eager(|| causal_attention(&q32, &k32, &v32)));
            assert!(difference < 8e-3, "causal {shape:?} {kind:?}: {difference}");
            if shape[1] == shape[2] {
                let out = with_long_attention(|| attention(&q, &k, &v, None));
                let difference = apart(&out, &eager(|| attention(&q32, &k32, &v32, None)));
                assert!(difference < 8e-3, "{shape:?} {kind:?}: {difference}");
            }
        }
    }
}

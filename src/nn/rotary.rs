//! Rotary position embedding in the half-split form (GPT-NeoX, LLaMA, Phi), also over a part of the head.

use tch::{Device, Kind, Tensor};

/// Cosines and sines of one forward pass: [batch, 1, tokens, rotary_dim] each.
#[derive(Debug)]
pub struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    /// Cosines and sines.
    pub fn tables(&self) -> (&Tensor, &Tensor) {
        (&self.cos, &self.sin)
    }

    /// Turns the first `rotary_dim` numbers of each head; the rest passes through.
    /// [batch, heads, tokens, head_dim] → the same
    pub fn apply(&self, x: &Tensor) -> Tensor {
        let (rotary, width) = (self.cos.size()[3], x.size()[3]);
        let turned = if rotary == width { x.shallow_clone() } else { x.narrow(3, 0, rotary) };
        let halves = turned.chunk(2, 3);
        let crossed = Tensor::cat(&[halves[1].neg(), halves[0].shallow_clone()], 3);
        let turned = &turned * &self.cos + crossed * &self.sin;
        if rotary == width { turned } else { Tensor::cat(&[turned, x.narrow(3, rotary, width - rotary)], 3) }
    }
}

/// Cosines and sines of every position, for one or several lists of frequencies: computed once in
/// float32, then only looked up.
#[derive(Debug)]
pub struct RotaryTable {
    cos: Tensor, // [lists · positions, rotary_dim]
    sin: Tensor,
    positions: i64,
}

impl RotaryTable {
    /// `frequencies` [lists, rotary_dim / 2] in float32; cosines and sines are multiplied by `scale`
    /// before they are rounded to `kind`.
    pub fn new(frequencies: &Tensor, positions: i64, scale: f64, kind: Kind, device: Device) -> Self {
        let frequencies = frequencies.to_device(device).unsqueeze(1); // [lists, 1, half]
        let place = Tensor::arange(positions, (Kind::Float, device)).view([1, -1, 1]);
        let angles = frequencies * place; // [lists, positions, half]
        let angles = Tensor::cat(&[&angles, &angles], 2).flatten(0, 1);
        let rounded = |x: Tensor| (x * scale).to_kind(kind);
        Self { cos: rounded(angles.cos()), sin: rounded(angles.sin()), positions }
    }

    pub fn positions(&self) -> i64 {
        self.positions
    }

    /// Of the positions [batch, tokens]; `list` [batch, 1] says which list each row uses (both int64).
    pub fn at(&self, positions: &Tensor, list: &Tensor) -> Rotation {
        let rows = positions + list * self.positions;
        let look_up = |table: &Tensor| Tensor::embedding(table, &rows, -1, false, false).unsqueeze(1);
        Rotation { cos: look_up(&self.cos), sin: look_up(&self.sin) }
    }
}

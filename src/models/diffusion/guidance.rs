//! Classifier-free guidance: away from what is unwanted. Its two halves are two drawings of the same latents, which one
//! device computes as a batch of twice the size, or two devices beside each other.

use tch::Tensor;

/// What a denoiser computes of guidance. Whatever is read beside the texts has two sides as they have: [`Self::Both`] reads both,
/// [`Self::Unwanted`] what stands against the wish, the others the wish alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ways {
    /// Nothing: there is none, and no unwanted text.
    Alone,
    /// Both halves, at this scale.
    Both(f64),
    /// The half that follows the prompts; another device computes the other one.
    Wanted,
    /// The half that follows what is unwanted.
    Unwanted,
}

impl Ways {
    /// Of one device that computes everything; no scale: without guidance.
    pub fn of_one(guidance: Option<f64>) -> Self {
        guidance.map_or(Self::Alone, Self::Both)
    }

    /// The scale, where both halves are computed here.
    pub fn scale(self) -> Option<f64> {
        if let Self::Both(scale) = self { Some(scale) } else { None }
    }

    /// Encoded texts as the denoiser reads them. With guidance the first row is unwanted in all pictures:
    /// [1 + batch, …] → [2 · batch, …], what is unwanted first, or of a half alone [batch, …].
    pub fn rows(self, texts: &Tensor) -> Tensor {
        if self == Self::Alone {
            return texts.shallow_clone();
        }
        let wanted = texts.narrow(0, 1, texts.size()[0] - 1);
        let unwanted = texts.narrow(0, 0, 1).expand_as(&wanted);
        match self {
            Self::Wanted => wanted,
            Self::Unwanted => unwanted.contiguous(),
            _ => Tensor::cat(&[unwanted, wanted], 0),
        }
    }
}

/// Away from what is unwanted, the first half of `outputs`: [2 · batch, …] → [batch, …].
pub fn guide(outputs: &Tensor, scale: f64) -> Tensor {
    let parts = outputs.chunk(2, 0);
    away(&parts[0], &parts[1], scale)
}

/// Away from what is unwanted, at this scale.
pub fn away(unwanted: &Tensor, wanted: &Tensor, scale: f64) -> Tensor {
    unwanted + (wanted - unwanted) * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_each_half() {
        let texts = Tensor::from_slice(&[0i64, 1, 2]).view([3, 1]);
        for (ways, expected) in [
            (Ways::Alone, &[0, 1, 2][..]),
            (Ways::Both(2.0), &[0, 0, 1, 2]),
            (Ways::Wanted, &[1, 2]),
            (Ways::Unwanted, &[0, 0]),
        ] {
            assert_eq!(Vec::<i64>::try_from(ways.rows(&texts).view([-1])).unwrap(), expected, "{ways:?}");
        }
        assert_eq!((Ways::of_one(None), Ways::of_one(Some(2.0)).scale()), (Ways::Alone, Some(2.0)));
    }
}

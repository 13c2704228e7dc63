//! `reverie.tensor.v1.Tensor` to numbers and back. Lengths are checked with overflow in mind: a message is never trusted.

use bytes::Bytes;
use half::f16;

use crate::tensor::v1::{DataType, Tensor, TextTokens};

/// Extents that a tensor may have: shapes are quoted in errors.
const MAX_EXTENTS: usize = 8;

/// Why a tensor message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The element type is missing or is not one of floating point.
    #[error("its dtype must be DATA_TYPE_F32 or DATA_TYPE_F16")]
    DataType,
    /// There are too many extents.
    #[error("its shape has {0} extents, at most {MAX_EXTENTS} are taken")]
    Extents(usize),
    /// The extents multiply to more than can be addressed, or one is zero.
    #[error("its shape {0:?} has a zero extent or is too large")]
    Shape(Vec<u64>),
    /// The bytes do not fill the shape exactly.
    #[error("its shape {shape:?} needs {expected} bytes of data, it has {actual}")]
    Length {
        /// The shape that was sent.
        shape: Vec<u64>,
        /// The bytes it needs.
        expected: usize,
        /// The bytes that came.
        actual: usize,
    },
    /// The shape is valid, but not the one that is needed here.
    #[error("its shape must be {expected:?}, not {actual:?}")]
    Unexpected {
        /// The shape that is needed.
        expected: Vec<u64>,
        /// The shape that was sent.
        actual: Vec<u64>,
    },
    /// Some element is infinite or not a number.
    #[error("element {0} is not finite")]
    NotFinite(usize),
}

/// Writes `data` as an f32 tensor. `data` must fill `shape`.
pub fn from_f32(shape: &[usize], data: &[f32]) -> Tensor {
    debug_assert_eq!(shape.iter().product::<usize>(), data.len());
    let mut bytes = Vec::with_capacity(data.len() * 4);
    for value in data {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    Tensor {
        dtype: DataType::F32.into(),
        shape: shape.iter().map(|&extent| extent as u64).collect(),
        data: Bytes::from(bytes),
    }
}

/// Reads an f32 or f16 tensor as f32. Returns its shape and elements, all of them finite.
pub fn to_f32(tensor: &Tensor) -> Result<(Vec<usize>, Vec<f32>), TensorError> {
    check_extents(tensor)?;
    let width = match DataType::try_from(tensor.dtype) {
        Ok(DataType::F32) => 4,
        Ok(DataType::F16) => 2,
        _ => return Err(TensorError::DataType),
    };
    let too_large = || TensorError::Shape(tensor.shape.clone());
    let mut shape = Vec::with_capacity(tensor.shape.len());
    let mut expected: usize = width;
    for &extent in &tensor.shape {
        let extent = usize::try_from(extent).ok().filter(|&extent| extent > 0).ok_or_else(too_large)?;
        expected = expected.checked_mul(extent).ok_or_else(too_large)?;
        shape.push(extent);
    }
    if expected != tensor.data.len() {
        return Err(TensorError::Length { shape: tensor.shape.clone(), expected, actual: tensor.data.len() });
    }
    let values: Vec<f32> = if width == 4 {
        tensor.data.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    } else {
        tensor.data.as_chunks::<2>().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32()).collect()
    };
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(TensorError::NotFinite(index)),
        None => Ok((shape, values)),
    }
}

fn check_extents(tensor: &Tensor) -> Result<(), TensorError> {
    let extents = tensor.shape.len();
    if extents > MAX_EXTENTS { Err(TensorError::Extents(extents)) } else { Ok(()) }
}

/// Reads a tensor that must have exactly `shape`.
pub fn to_f32_of_shape(tensor: &Tensor, shape: &[usize]) -> Result<Vec<f32>, TensorError> {
    check_extents(tensor)?;
    let expected: Vec<u64> = shape.iter().map(|&extent| extent as u64).collect();
    if tensor.shape != expected {
        return Err(TensorError::Unexpected { expected, actual: tensor.shape.clone() });
    }
    to_f32(tensor).map(|(_, values)| values)
}

/// Encoded text that has been checked: tokens `[max_tokens, dim]` of which the first `length` are real.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedText {
    /// f32 `[max_tokens, dim]`, row-major.
    pub tokens: Vec<f32>,
    /// How many tokens are real.
    pub length: usize,
    /// Identity of the text encoder.
    pub encoder_digest: String,
    /// The text as one vector; empty where none was asked for.
    pub pooled: Vec<f32>,
}

impl EncodedText {
    /// Reads encoded text of `[max_tokens, dim]`, with a vector of `pooled_dim` if one is wanted.
    pub fn from_message(
        message: &TextTokens,
        max_tokens: usize,
        dim: usize,
        pooled_dim: Option<usize>,
    ) -> Result<Self, TensorError> {
        let empty = Tensor::default();
        let tokens = to_f32_of_shape(message.tokens.as_ref().unwrap_or(&empty), &[max_tokens, dim])?;
        let length = message.length as usize;
        if length == 0 || length > max_tokens {
            return Err(TensorError::Unexpected {
                expected: vec![max_tokens as u64],
                actual: vec![u64::from(message.length)],
            });
        }
        let pooled = pooled_dim.map(|dim| to_f32_of_shape(message.pooled.as_ref().unwrap_or(&empty), &[dim]));
        let pooled = pooled.transpose()?.unwrap_or_default();
        Ok(Self { tokens, length, encoder_digest: message.encoder_digest.clone(), pooled })
    }

    /// The attention mask f32 `[max_tokens]`: 1 for a real token, 0 for padding.
    pub fn mask(&self, max_tokens: usize) -> Vec<f32> {
        (0..max_tokens).map(|index| if index < self.length { 1.0 } else { 0.0 }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_it_wrote() {
        let tensor = from_f32(&[2, 3], &[0.0, -1.5, 2.0, f32::MIN_POSITIVE, 1e30, -0.0]);
        let (shape, values) = to_f32(&tensor).unwrap();
        assert_eq!(shape, [2, 3]);
        assert_eq!(values, [0.0, -1.5, 2.0, f32::MIN_POSITIVE, 1e30, -0.0]);
    }

    #[test]
    fn reads_f16() {
        let data: Vec<u8> =
            [f16::from_f32(0.5), f16::from_f32(-2.0)].iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = Tensor { dtype: DataType::F16.into(), shape: vec![2], data: data.into() };
        assert_eq!(to_f32(&tensor).unwrap().1, [0.5, -2.0]);
    }

    #[test]
    fn refuses_a_shape_that_overflows() {
        let tensor =
            Tensor { dtype: DataType::F32.into(), shape: vec![u64::MAX, u64::MAX], data: Bytes::new() };
        assert!(matches!(to_f32(&tensor), Err(TensorError::Shape(_))));
    }

    #[test]
    fn refuses_more_extents_than_an_error_could_quote() {
        let tensor = Tensor { dtype: DataType::F32.into(), shape: vec![1; 1 << 20], data: Bytes::new() };
        assert_eq!(to_f32(&tensor), Err(TensorError::Extents(1 << 20)));
        assert_eq!(to_f32_of_shape(&tensor, &[1]), Err(TensorError::Extents(1 << 20)));
    }

    #[test]
    fn refuses_not_a_number() {
        assert_eq!(to_f32(&from_f32(&[2], &[1.0, f32::NAN])), Err(TensorError::NotFinite(1)));
    }

    proptest! {
        #[test]
        fn any_message_is_read_or_refused(
            dtype in -1i32..5,
            shape in prop::collection::vec(prop_oneof![0u64..5, Just(u64::MAX), Just(1u64 << 62)], 0..4),
            data in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let tensor = Tensor { dtype, shape, data: data.into() };
            if let Ok((shape, values)) = to_f32(&tensor) {
                prop_assert_eq!(shape.iter().product::<usize>(), values.len());
            }
        }
    }
}

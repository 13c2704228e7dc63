//! Vectors of unit length: only their direction counts, and no magnitude overflows in an index.

/// A vector of unit length.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitVector(Vec<f32>);

impl UnitVector {
    /// Scales `vector` to unit length. `Err` says what is wrong with it.
    pub fn new(vector: &[f32], dimension: u32) -> Result<Self, String> {
        if vector.len() != dimension as usize {
            return Err(format!("must have {dimension} elements (got {})", vector.len()));
        }
        if let Some(position) = vector.iter().position(|value| !value.is_finite()) {
            return Err(format!("must be finite, element {position} is not"));
        }
        let length = vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        if length == 0.0 {
            return Err("must not be all zeros: it has no direction".to_owned());
        }
        // Adding zero leaves one zero of two, so that equal vectors have equal bits.
        Ok(Self(vector.iter().map(|&value| (f64::from(value) / length) as f32 + 0.0).collect()))
    }

    /// Its elements.
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// What equal vectors have in common.
    #[cfg(feature = "index")]
    pub(crate) fn bits(&self) -> Vec<u32> {
        self.0.iter().map(|value| value.to_bits()).collect()
    }
}

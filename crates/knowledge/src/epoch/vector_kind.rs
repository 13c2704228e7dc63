//! What numbers a knowledge base's vectors are stored as.

use serde::{Deserialize, Serialize};

/// The numbers of stored vectors. They are searched as they are stored; queries are rounded likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VectorKind {
    /// 32-bit floating point (IEEE 754 binary32).
    #[default]
    F32,
    /// 16-bit floating point (IEEE 754 binary16): half the memory, cosines right to about 0.001.
    F16,
    /// 8-bit integers: a quarter of the memory, cosines right to about 0.01.
    I8,
}

impl VectorKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::I8];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::I8 => "i8",
        }
    }

    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::I8 => 1,
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl std::str::FromStr for VectorKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("must be one of {} (got {name:?})", names()))
    }
}

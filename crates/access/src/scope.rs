//! What a caller may do.

use std::fmt;
use std::str::FromStr;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Draw images.
    Generate,
    /// Search and read knowledge bases.
    Retrieve,
    /// Store, delete and forget entries of knowledge bases, and make snapshots.
    Write,
    /// Restore and delete snapshots, and tell replicas what to take up.
    Administer,
}

impl Scope {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Generate, Self::Retrieve, Self::Write, Self::Administer];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Retrieve => "retrieve",
            Self::Write => "write",
            Self::Administer => "administer",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| {
            format!("there is no scope {text:?}: there are {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

impl<'de> serde::Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

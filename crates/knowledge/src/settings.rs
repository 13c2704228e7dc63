//! What an operator can set of how knowledge bases are followed.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;

const REFRESH_MS: RangeInclusive<u64> = 10..=60_000;

/// The `[epochs]` table.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochSettings {
    /// How often a later epoch is looked for, milliseconds; 0 for never.
    pub refresh_ms: u64,
}

impl EpochSettings {
    /// What is wrong with it.
    pub fn check(self) -> Result<(), String> {
        let (least, most) = (REFRESH_MS.start(), REFRESH_MS.end());
        if self.refresh_ms == 0 || REFRESH_MS.contains(&self.refresh_ms) {
            Ok(())
        } else {
            Err(format!("must be 0, or {least} to {most} (got {})", self.refresh_ms))
        }
    }

    /// How often, if at all.
    pub fn interval(self) -> Option<Duration> {
        (self.refresh_ms > 0).then(|| Duration::from_millis(self.refresh_ms))
    }
}

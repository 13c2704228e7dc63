//! What one evaluation of the model sees.

/// Which conditions one evaluation of the model sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Whether it sees the text prompt, c_p.
    pub text: bool,
    /// Whether it sees the neighbours, c_n.
    pub neighbours: bool,
}

impl Condition {
    /// e(p, n)
    pub const BOTH: Self = Self { text: true, neighbours: true };
    /// e(p, -)
    pub const TEXT: Self = Self { text: true, neighbours: false };
    /// e(-, n)
    pub const NEIGHBOURS: Self = Self { text: false, neighbours: true };
    /// e(-, -)
    pub const NONE: Self = Self { text: false, neighbours: false };

    /// What is left of this condition when only `available` is there.
    pub(super) fn within(self, available: Self) -> Self {
        Self { text: self.text && available.text, neighbours: self.neighbours && available.neighbours }
    }
}

//! The rows of one step, and their shares in the guided output.

use serde::{Deserialize, Serialize};

use super::Condition;

/// The most rows one step takes.
pub const MAX_ROWS: usize = 3;

/// What a step turned out to be, for reporting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// One evaluation with every condition: guidance off, or weights of 1.
    Conditional,
    /// e_p
    TextEnhanced,
    /// e_n
    NeighbourEnhanced,
    /// ratio e_p + (1 - ratio) e_n
    Weighted,
    /// Both conditions against neither.
    Joint,
}

/// One evaluation of the model and its share in the guided output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlannedRow {
    /// What the model sees.
    pub condition: Condition,
    /// Never 0; those of a step sum to 1.
    pub coefficient: f32,
}

/// The rows of one step: between 1 and [`MAX_ROWS`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepPlan {
    kind: StepKind,
    rows: [PlannedRow; MAX_ROWS],
    len: usize,
    rescale: f32,
}

impl StepPlan {
    /// What the step is.
    pub fn kind(&self) -> StepKind {
        self.kind
    }

    /// The evaluations to make; the one with all conditions comes first, unless its share is 0.
    pub fn rows(&self) -> &[PlannedRow] {
        &self.rows[..self.len]
    }

    /// The phi by which to [`rescale`](fn@super::rescale) the sum to the first row; 0 where there is nothing to rescale.
    pub fn rescale(&self) -> f32 {
        self.rescale
    }

    /// Adds up `terms`, given what is `available`: equal evaluations are made once, those that cancel not at all.
    pub(super) fn new(
        kind: StepKind,
        terms: &[(Condition, f64)],
        available: Condition,
        rescale: f32,
    ) -> Self {
        let mut sums = [(Condition::NONE, 0.0_f64); MAX_ROWS];
        let mut distinct = 0;
        for &(condition, coefficient) in terms {
            let condition = condition.within(available);
            let seen = sums[..distinct].iter().position(|(other, _)| *other == condition);
            let at = seen.unwrap_or(distinct);
            distinct = distinct.max(at + 1);
            sums[at] = (condition, sums[at].1 + coefficient);
        }
        let mut plan = Self {
            kind,
            rows: [PlannedRow { condition: Condition::NONE, coefficient: 0.0 }; MAX_ROWS],
            len: 0,
            rescale: 0.0,
        };
        for (condition, coefficient) in sums.into_iter().filter(|(_, coefficient)| *coefficient != 0.0) {
            plan.rows[plan.len] = PlannedRow { condition, coefficient: coefficient as f32 };
            plan.len += 1;
        }
        if plan.rows[0].condition == available {
            if plan.len == 1 {
                plan.kind = StepKind::Conditional;
            } else {
                plan.rescale = rescale;
            }
        }
        plan
    }
}

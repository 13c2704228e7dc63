//! What one evaluation of the model leads to, as a sampler plans it and as it is carried out.

use std::thread;

use crate::combination::{Combination, EPS, KEPT, SLOTS, X, X0};
use crate::level::{Level, Point};
use crate::prediction::Conversion;
use crate::threads::threads_for;
use crate::threshold::Range;

/// Fresh noise added to x after an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum FreshNoise {
    /// z times this; 0 draws nothing.
    Scaled(f64),
    /// Of the variance that the model gives.
    Learned,
    /// Of a variance between two, on a logarithmic scale: the model says how far.
    LearnedRange { ln_small: f64, ln_large: f64 },
}

/// One evaluation of the model, and how x moves after it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Evaluation {
    /// What the model is told.
    pub(crate) timestep: f64,
    /// Where its output is read.
    pub(crate) level: Level,
    /// The next x, before noise.
    pub(crate) x: Combination,
    /// What to keep for later evaluations, by slot. Everything is computed before anything is overwritten.
    pub(crate) keep: Vec<(usize, Combination)>,
    /// The noise that comes on top of x.
    pub(crate) noise: FreshNoise,
}

impl Evaluation {
    /// At `point`, to `x`, without memory or noise.
    pub(crate) fn new(point: Point, x: Combination) -> Self {
        let Point { timestep, level } = point;
        Self { timestep, level, x, keep: Vec::new(), noise: FreshNoise::Scaled(0.0) }
    }

    /// Then z times `scale` is added.
    pub(crate) fn with_noise(self, scale: f64) -> Self {
        Self { noise: FreshNoise::Scaled(scale), ..self }
    }

    /// Then `combination` is kept in `slot`.
    pub(crate) fn keeping(mut self, slot: usize, combination: Combination) -> Self {
        self.keep.push((slot, combination));
        self
    }
}

/// Elements worked on together, so that sums of several tensors stay in the innermost cache.
const BLOCK: usize = 256;

/// An evaluation in single precision: reading x0, and the sums that replace x and kept tensors.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    conversion: Conversion,
    /// eps = `eps_from_x` x + `eps_from_x0` x0, for a thresholded x0.
    eps_from_x: f32,
    eps_from_x0: f32,
    reads_eps: bool,
    /// x first.
    sums: Vec<Sum>,
    /// The weights of x and x0, where x is all that changes and they are all it takes: the samplers of first order.
    first_order: Option<[f32; 2]>,
}

/// The weighted sum that replaces one operand.
#[derive(Debug, Clone)]
struct Sum {
    target: usize,
    /// (operand, weight), no weight 0.
    terms: Vec<(usize, f32)>,
}

/// Kept tensors, or parts of them; those never used are empty.
pub(crate) type Kept<'a> = [&'a mut [f32]; SLOTS];

impl Move {
    pub(crate) fn new(evaluation: &Evaluation, conversion: Conversion) -> Self {
        let sum = |target, combination: Combination| {
            let weights = combination.weights().map(|weight| weight as f32);
            let terms = weights.into_iter().enumerate().filter(|(_, weight)| *weight != 0.0);
            Sum { target, terms: terms.collect() }
        };
        let kept = evaluation.keep.iter().map(|(slot, combination)| sum(KEPT + slot, *combination));
        let sums: Vec<Sum> = [sum(X, evaluation.x)].into_iter().chain(kept).collect();
        let [x, x0, others @ ..] = evaluation.x.weights();
        let is_first_order = evaluation.keep.is_empty() && others.iter().all(|weight| *weight == 0.0);
        let Level { a, s } = evaluation.level;
        Self {
            first_order: is_first_order.then_some([x as f32, x0 as f32]),
            conversion,
            eps_from_x: (1.0 / s) as f32,
            eps_from_x0: (-a / s) as f32,
            reads_eps: sums.iter().any(|sum| sum.terms.iter().any(|(operand, _)| *operand == EPS)),
            sums,
        }
    }

    /// The conversion of the model's output.
    pub(crate) fn conversion(&self) -> Conversion {
        self.conversion
    }

    /// The slots written to.
    pub(crate) fn written(&self) -> impl Iterator<Item = usize> + '_ {
        self.sums[1..].iter().map(|sum| sum.target - KEPT)
    }

    /// Reads x0 from `output` by `conversion`, leaves it there in `range`, and moves `x` and `kept`.
    ///
    /// One walk through memory, shared out to threads where it is long: large samples cost what they move.
    pub(crate) fn apply(
        &self,
        conversion: Conversion,
        range: Range,
        x: &mut [f32],
        output: &mut [f32],
        mut kept: Kept<'_>,
    ) {
        let threads = threads_for(x.len());
        if threads == 1 {
            return self.walk(conversion, range, x, output, &mut kept);
        }
        let part = x.len().div_ceil(threads);
        thread::scope(|scope| {
            for (x, output) in x.chunks_mut(part).zip(output.chunks_mut(part)) {
                let mut mine = kept.each_mut().map(|tensor| {
                    let cut = tensor.len().min(x.len());
                    tensor.split_off_mut(..cut).unwrap_or_default()
                });
                scope.spawn(move || self.walk(conversion, range, x, output, &mut mine));
            }
        });
    }

    fn walk(
        &self,
        conversion: Conversion,
        range: Range,
        x: &mut [f32],
        output: &mut [f32],
        kept: &mut Kept<'_>,
    ) {
        if let Some([from_x, from_x0]) = self.first_order {
            for (x, output) in x.iter_mut().zip(output) {
                let x0 = range.bring(conversion.x0(*x, *output));
                *output = x0;
                *x = from_x * *x + from_x0 * x0;
            }
            return;
        }
        let mut eps = [0.0; BLOCK];
        let mut results = [[0.0; BLOCK]; 1 + SLOTS];
        let mut start = 0;
        for (x, output) in x.chunks_mut(BLOCK).zip(output.chunks_mut(BLOCK)) {
            let block = start..start + x.len();
            // 1. What the model says x0 is, back in range, and the eps that belongs to it.
            if self.reads_eps && range.is_everything() {
                let values = x.iter().zip(output.iter());
                eps.iter_mut().zip(values).for_each(|(eps, (x, output))| *eps = conversion.eps(*x, *output));
            }
            for (x, output) in x.iter().zip(output.iter_mut()) {
                *output = range.bring(conversion.x0(*x, *output));
            }
            if self.reads_eps && !range.is_everything() {
                let values = x.iter().zip(output.iter());
                eps.iter_mut()
                    .zip(values)
                    .for_each(|(eps, (x, x0))| *eps = self.eps_from_x * x + self.eps_from_x0 * x0);
            }
            // 2. The sums, from what was there before.
            for (sum, result) in self.sums.iter().zip(&mut results) {
                let result = &mut result[..x.len()];
                for (nth, &(operand, weight)) in sum.terms.iter().enumerate() {
                    let values: &[f32] = match operand {
                        X => x,
                        X0 => output,
                        EPS => &eps,
                        kept_in => &kept[kept_in - KEPT][block.clone()],
                    };
                    if nth == 0 {
                        result.iter_mut().zip(values).for_each(|(sum, value)| *sum = weight * value);
                    } else {
                        result.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
                    }
                }
                if sum.terms.is_empty() {
                    result.fill(0.0);
                }
            }
            // 3. What they replace.
            for (sum, result) in self.sums.iter().zip(&results) {
                let target = match sum.target {
                    X => &mut *x,
                    kept_in => &mut kept[kept_in - KEPT][block.clone()],
                };
                target.copy_from_slice(&result[..block.len()]);
            }
            start = block.end;
        }
    }
}

//! What one evaluation of the model leads to, as a sampler plans it and as it is carried out.

use super::combination::{Combination, EPS, KEPT, SLOTS, X};
use super::threshold::Range;
use super::walk::{PUT_OFF, walk};
use super::{Conversion, share, threads_for};
use crate::levels::{NoiseLevel, Point};

/// Elements worth a thread of their own: 150 to 600 us, where memory is what they wait for.
pub(crate) const PART: usize = 1 << 20;

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
    pub(crate) level: NoiseLevel,
    /// The next x, before noise.
    pub(crate) x: Combination,
    /// What to keep for later evaluations, by slot. Everything is computed before anything is overwritten.
    pub(crate) keep: Vec<(usize, Combination)>,
    /// The noise that comes on top of x.
    pub(crate) noise: FreshNoise,
    /// Whether eps is that of the model's output even where x0 was brought back into range.
    pub(crate) eps_of_output: bool,
}

impl Evaluation {
    /// At `point`, to `x`, without memory or noise.
    pub(crate) fn new(point: Point, x: Combination) -> Self {
        let Point { timestep, level } = point;
        Self { timestep, level, x, keep: Vec::new(), noise: FreshNoise::Scaled(0.0), eps_of_output: false }
    }

    /// With the eps of the model's output, whatever becomes of x0.
    pub(crate) fn with_eps_of_output(self) -> Self {
        Self { eps_of_output: true, ..self }
    }

    /// Whether every weight is a number: where no signal is left, not every sampler has a next x.
    pub(crate) fn is_finite(&self) -> bool {
        let sums = [self.x].into_iter().chain(self.keep.iter().map(|(_, combination)| *combination));
        let mut weights = sums.flat_map(|sum| sum.weights());
        let noise = match self.noise {
            FreshNoise::Scaled(scale) => scale.is_finite(),
            FreshNoise::Learned => true,
            FreshNoise::LearnedRange { ln_small, ln_large } => ln_small.is_finite() && ln_large.is_finite(),
        };
        noise && weights.all(|weight| (weight as f32).is_finite())
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

/// An evaluation in single precision: reading x0, and the sums that replace x and kept tensors.
#[derive(Debug, Clone)]
pub(crate) struct Move {
    pub(crate) conversion: Conversion,
    level: NoiseLevel,
    /// eps = `eps_from_x` x + `eps_from_x0` x0, for a thresholded x0.
    pub(crate) eps_from_x: f32,
    pub(crate) eps_from_x0: f32,
    pub(crate) reads_eps: bool,
    /// Whether that eps is the model's own, though x0 is not.
    pub(crate) eps_of_output: bool,
    /// x first.
    pub(crate) sums: Vec<Sum>,
    /// The same over the model's output in the place of x0 and eps, for where nothing is out of range. That is one pass less for
    /// those that read eps; others have x0 for all their sums from one reading.
    pub(crate) sums_of_output: Option<Vec<Sum>>,
    /// The weights of x and x0, where x is all that changes and they are all it takes: the samplers of first order.
    pub(crate) first_order: Option<[f32; 2]>,
}

/// Weights from here on stand where sigma falls from the thousands: there every rounding is one too many.
const STEEP: f32 = 64.0;

/// The weighted sum that replaces one operand.
#[derive(Debug, Clone)]
pub(crate) struct Sum {
    pub(crate) target: usize,
    /// The weight of what is replaced, where it comes first.
    pub(crate) own: Option<f32>,
    /// (operand, weight) of the others, no weight 0.
    pub(crate) terms: Vec<(usize, f32)>,
    /// Whether the target is needed no longer once it is replaced.
    pub(crate) in_place: bool,
}

impl Sum {
    fn new(target: usize, combination: Combination) -> Self {
        let weights = combination.weights().map(|weight| weight as f32);
        let mut terms: Vec<_> =
            weights.into_iter().enumerate().filter(|(_, weight)| *weight != 0.0).collect();
        let own = terms.first().is_some_and(|(operand, _)| *operand == target).then(|| terms.remove(0).1);
        Self { target, own, in_place: terms.iter().all(|(operand, _)| *operand != target), terms }
    }

    /// Whether no term is so much larger than a sample that what it loses by rounding shows in the sum.
    fn is_gentle(&self) -> bool {
        self.terms.iter().all(|(_, weight)| weight.abs() < STEEP)
            && self.own.is_none_or(|own| own.abs() < STEEP)
    }

    fn reads(&self, operand: usize) -> bool {
        self.own.is_some() && self.target == operand || self.terms.iter().any(|(term, _)| *term == operand)
    }
}

/// Kept tensors, or parts of them; those never used are empty.
pub(crate) type Kept<'a> = [&'a mut [f32]; SLOTS];

/// The sums that replace x and what is kept, x first; `over` says what they are over.
fn sums(evaluation: &Evaluation, over: impl Fn(Combination) -> Combination) -> Vec<Sum> {
    let kept = evaluation.keep.iter().map(|(slot, combination)| Sum::new(KEPT + slot, over(*combination)));
    let mut sums: Vec<Sum> = [Sum::new(X, over(evaluation.x))].into_iter().chain(kept).collect();
    let mut rest = sums.as_mut_slice();
    while let Some((sum, later)) = rest.split_first_mut() {
        sum.in_place &= !later.iter().any(|later| later.reads(sum.target));
        rest = later;
    }
    let put_off = sums.iter().filter(|sum| !sum.in_place).count();
    assert!(put_off <= PUT_OFF, "more to put off than there is room");
    sums
}

impl Move {
    pub(crate) fn new(evaluation: &Evaluation, conversion: Conversion) -> Self {
        let sums_of_x0 = sums(evaluation, |combination| combination);
        let reads_eps = sums_of_x0.iter().any(|sum| sum.reads(EPS));
        let sums_of_output =
            reads_eps.then(|| sums(evaluation, |combination| combination.over_output(conversion)));
        let [x, x0, others @ ..] = evaluation.x.weights();
        let is_first_order = evaluation.keep.is_empty() && others.iter().all(|weight| *weight == 0.0);
        let NoiseLevel { a, s } = evaluation.level;
        Self {
            first_order: is_first_order.then_some([x as f32, x0 as f32]),
            conversion,
            level: evaluation.level,
            eps_from_x: (1.0 / s) as f32,
            eps_from_x0: (-a / s) as f32,
            reads_eps,
            eps_of_output: evaluation.eps_of_output,
            sums: sums_of_x0,
            sums_of_output: sums_of_output.filter(|sums| sums.iter().all(Sum::is_gentle)),
        }
    }

    /// The conversion of the model's output.
    pub(crate) fn conversion(&self) -> Conversion {
        self.conversion
    }

    /// The same for an output that is x0 already, before it is brought into range.
    pub(crate) fn conversion_of_x0(&self) -> Conversion {
        Conversion::of_x0(0.0, 1.0, self.level)
    }

    /// The slots written to.
    pub(crate) fn written(&self) -> impl Iterator<Item = usize> + '_ {
        self.sums[1..].iter().map(|sum| sum.target - KEPT)
    }

    /// Reads x0 from `output` by `conversion`, brings it into `range`, and moves `x` and `kept`.
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
        let part = x.len().div_ceil(threads_for(x.len(), PART)).max(1);
        let parts = x.chunks_mut(part).zip(output.chunks_mut(part)).map(|(x, output)| {
            let kept = kept.each_mut().map(|tensor| {
                let part = tensor.len().min(x.len());
                tensor.split_off_mut(..part).unwrap_or_default()
            });
            (x, output, kept)
        });
        share(parts, |(x, output, kept)| walk(self, conversion, range, x, output, kept));
    }
}

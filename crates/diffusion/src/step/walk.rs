//! A step's walk through memory: x0 read from the model's output, and the sums that replace x and what is kept.
//!
//! It takes as long as its results take to be written. So a sum is written once, in place where it can be, and all its terms are
//! added up in registers.

#![expect(clippy::inline_always, reason = "compiled for the processor's vectors with the loop around it")]

use std::mem;

use multiversion::multiversion;

use super::Conversion;
use super::combination::{KEPT, OPERANDS};
use super::evaluation::{Kept, Move, Sum};
use super::threshold::Range;

/// Elements worked on together, so that sums of several tensors stay in the innermost cache.
const BLOCK: usize = 1024;

/// The most sums whose target is still needed.
pub(crate) const PUT_OFF: usize = 2;

/// Walks over one part, with whatever vectors the processor has.
#[multiversion(targets = "simd")]
pub(crate) fn walk(
    step: &Move,
    conversion: Conversion,
    range: Range,
    x: &mut [f32],
    output: &mut [f32],
    mut kept: Kept<'_>,
) {
    if let Some([from_x, from_x0]) = step.first_order {
        for (x, output) in x.iter_mut().zip(output) {
            let x0 = range.bring(conversion.x0(*x, *output));
            *x = from_x * *x + from_x0 * x0;
        }
        return;
    }
    let (mut x0, mut eps) = ([0.0; BLOCK], [0.0; BLOCK]);
    let mut results = [[0.0; BLOCK]; PUT_OFF];
    // Where nothing is out of range, x0 and eps are sums themselves.
    let sums_of_output = step.sums_of_output.as_ref().filter(|_| range.is_everything());
    let sums = sums_of_output.unwrap_or(&step.sums);
    for (nth, (x, output)) in x.chunks_mut(BLOCK).zip(output.chunks_mut(BLOCK)).enumerate() {
        let len = x.len();
        let (x0, eps) = (&mut x0[..len], &mut eps[..len]);
        // 1. What the model says x0 is, back in range, and the eps that belongs to it.
        let x0 = if sums_of_output.is_some() {
            output
        } else {
            for ((x, output), x0) in x.iter().zip(output.iter()).zip(x0.iter_mut()) {
                *x0 = range.bring(conversion.x0(*x, *output));
            }
            if step.reads_eps && (range.is_everything() || step.eps_of_output) {
                for ((x, output), eps) in x.iter().zip(output.iter()).zip(eps.iter_mut()) {
                    *eps = conversion.eps(*x, *output);
                }
            } else if step.reads_eps {
                for ((x, x0), eps) in x.iter().zip(x0.iter()).zip(eps.iter_mut()) {
                    *eps = step.eps_from_x * x + step.eps_from_x0 * x0;
                }
            }
            x0
        };
        // 2. The sums, from what was there before.
        let mut operands: [&mut [f32]; OPERANDS] = Default::default();
        operands[..KEPT].swap_with_slice(&mut [x, x0, eps]);
        for (operand, tensor) in operands[KEPT..].iter_mut().zip(&mut kept) {
            *operand = tensor.get_mut(nth * BLOCK..nth * BLOCK + len).unwrap_or_default();
        }
        let mut put_off = results.iter_mut();
        for sum in sums {
            if sum.in_place {
                let target = mem::take(&mut operands[sum.target]);
                add_up(target, sum, &operands);
                operands[sum.target] = target;
            } else if let Some(result) = put_off.next() {
                let result = &mut result[..len];
                if sum.own.is_some() {
                    result.copy_from_slice(operands[sum.target]);
                }
                add_up(result, sum, &operands);
            }
        }
        // 3. What they replace.
        for (sum, result) in sums.iter().filter(|sum| !sum.in_place).zip(&results) {
            operands[sum.target].copy_from_slice(&result[..len]);
        }
    }
}

/// Replaces `target` by `sum`.
#[inline(always)]
fn add_up(target: &mut [f32], sum: &Sum, operands: &[&mut [f32]; OPERANDS]) {
    let Sum { own, ref terms, .. } = *sum;
    match terms.len() {
        0 => add_terms::<0>(target, own, terms, operands),
        1 => add_terms::<1>(target, own, terms, operands),
        2 => add_terms::<2>(target, own, terms, operands),
        3 => add_terms::<3>(target, own, terms, operands),
        4 => add_terms::<4>(target, own, terms, operands),
        _ => {
            add_terms::<5>(target, own, terms, operands);
            for last in terms[5..].chunks(1) {
                add_terms::<1>(target, Some(1.0), last, operands);
            }
        }
    }
}

/// Adds the first `N` of `terms` to `own` times the target, in this order.
#[inline(always)]
fn add_terms<const N: usize>(
    target: &mut [f32],
    own: Option<f32>,
    terms: &[(usize, f32)],
    operands: &[&mut [f32]; OPERANDS],
) {
    let len = target.len();
    let terms: [(&[f32], f32); N] = std::array::from_fn(|n| (&operands[terms[n].0][..len], terms[n].1));
    let add = |sum: f32, terms: &[(&[f32], f32)], i: usize| {
        terms.iter().fold(sum, |sum, (values, weight)| sum + weight * values[i])
    };
    match (own, terms.split_first()) {
        (Some(own), _) => {
            target.iter_mut().enumerate().for_each(|(i, value)| *value = add(own * *value, &terms, i));
        }
        (None, Some(((values, weight), others))) => {
            target.iter_mut().enumerate().for_each(|(i, value)| *value = add(weight * values[i], others, i));
        }
        (None, None) => target.fill(0.0),
    }
}

//! The guided output as a weighted sum of rows.

/// out = sum over rows of coefficient x row: the guided output of one step.
///
/// # Panics
/// When there are not as many coefficients as rows, no rows, or a row differs from `out` in length.
pub fn combine(coefficients: &[f32], rows: &[&[f32]], out: &mut [f32]) {
    assert_eq!(coefficients.len(), rows.len(), "a coefficient a row");
    assert!(rows.iter().all(|row| row.len() == out.len()), "rows have the shape of the output");
    match (coefficients, rows) {
        ([c], [row]) => out.iter_mut().zip(*row).for_each(|(out, value)| *out = c * value),
        ([c, d], [first, second]) => {
            for ((out, first), second) in out.iter_mut().zip(*first).zip(*second) {
                *out = c * first + d * second;
            }
        }
        _ => {
            out.fill(0.0);
            for (c, row) in coefficients.iter().zip(rows) {
                out.iter_mut().zip(*row).for_each(|(out, value)| *out += c * value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combining_adds_up_the_rows() {
        let (a, b, c) = ([1.0, 2.0], [10.0, 20.0], [100.0, 200.0]);
        let mut out = [f32::NAN; 2];
        combine(&[2.0], &[&a], &mut out);
        assert_eq!(out, [2.0, 4.0]);
        combine(&[3.0, -2.0], &[&a, &b], &mut out);
        assert_eq!(out, [-17.0, -34.0]);
        combine(&[1.0, 1.0, -1.0], &[&a, &b, &c], &mut out);
        assert_eq!(out, [-89.0, -178.0]);
    }
}

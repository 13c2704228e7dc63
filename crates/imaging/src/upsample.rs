//! Bilinear upsampling (PyTorch's `interpolate(mode="bilinear")`).
//!
//! Either the edges of both pictures lie on each other: pixel i of the large one lies at (i + 1/2) low / high - 1/2 of the
//! small one, and beyond the edge the edge goes on. Or their corners do (`align_corners=True`): pixel i lies at
//! i (low - 1) / (high - 1).

/// For each of `high` places the two neighbours in `low` and the weight of the second.
fn taps(low: usize, high: usize, align_corners: bool) -> Vec<(usize, usize, f32)> {
    let scale =
        if align_corners { (low - 1) as f32 / (high - 1).max(1) as f32 } else { low as f32 / high as f32 };
    (0..high)
        .map(|i| {
            let place =
                if align_corners { i as f32 * scale } else { ((i as f32 + 0.5) * scale - 0.5).max(0.0) };
            let first = (place as usize).min(low - 1);
            (first, (first + 1).min(low - 1), place - first as f32)
        })
        .collect()
}

/// f32 `[3, low, low]` to `[3, high, high]`.
pub fn bilinear(planes: &[f32], low: usize, high: usize, align_corners: bool) -> Vec<f32> {
    let taps = taps(low, high, align_corners);
    let mut large = Vec::with_capacity(3 * high * high);
    let mut wide = Vec::with_capacity(low * high);
    for plane in planes.chunks_exact(low * low) {
        // 1. Every row to its full width.
        wide.clear();
        for row in plane.chunks_exact(low) {
            wide.extend(
                taps.iter().map(|&(left, right, across)| row[left] + across * (row[right] - row[left])),
            );
        }
        // 2. Between rows.
        for &(top, bottom, down) in &taps {
            let (upper, lower) = (&wide[top * high..][..high], &wide[bottom * high..][..high]);
            large.extend(upper.iter().zip(lower).map(|(upper, lower)| upper + down * (lower - upper)));
        }
    }
    large
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_stays_a_ramp_and_the_edge_goes_on() {
        let row = [0.0, 1.0];
        let planes: Vec<f32> = row.iter().chain(&row).copied().cycle().take(12).collect();
        let large = bilinear(&planes, 2, 4, false);
        assert_eq!(large.len(), 48);
        // torch.nn.functional.interpolate(torch.tensor([[[0., 1.]]]), 4, mode="linear") gives 0, 0.25, 0.75, 1.
        assert_eq!(&large[..4], [0.0, 0.25, 0.75, 1.0]);
        assert_eq!(&large[44..], [0.0, 0.25, 0.75, 1.0]);
        // With align_corners=True it gives 0, 1/3, 2/3, 1.
        let large = bilinear(&planes, 2, 4, true);
        let expected = [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0];
        assert!(
            large
                .iter()
                .zip(expected.iter().cycle())
                .all(|(value, expected)| (value - expected).abs() < 1e-6)
        );
    }

    #[test]
    fn a_flat_picture_stays_flat() {
        for align_corners in [false, true] {
            let large = bilinear(&[0.3; 3 * 9], 3, 12, align_corners);
            assert!(large.iter().all(|&value| (value - 0.3).abs() < 1e-6));
        }
    }
}

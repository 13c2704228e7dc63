//! How near a picture is to the true one.

use reverie_imaging::pictures::Rgb;

/// SSIM's window: a Gaussian of 11 x 11 pixels, as in Wang et al. 2004, "Image quality assessment", section III.C.
const WINDOW: usize = 11;
const WINDOW_DEVIATION: f32 = 1.5;
const WHITE: f32 = 255.0;
/// Share of the true picture's pixels that count as edges: those with the largest gradients.
const EDGES: f64 = 0.05;

/// Three measures of one picture against the truth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quality {
    /// Peak signal-to-noise ratio, decibels; infinite for equal pictures.
    pub(super) psnr: f64,
    /// Mean structural similarity of the luma, at most 1.
    pub(super) ssim: f64,
    /// Gradient at the truth's edges as a share of the truth's own: 1 is as sharp, less is softer.
    pub(super) sharpness: f64,
}

impl Quality {
    /// Of a picture of the same sides as `truth`.
    pub(super) fn of(picture: &Rgb, truth: &Rgb) -> Self {
        let (one, other) = (Plane::luma(picture), Plane::luma(truth));
        Self { psnr: psnr(picture, truth), ssim: ssim(&one, &other), sharpness: sharpness(&one, &other) }
    }
}

fn psnr(picture: &Rgb, truth: &Rgb) -> f64 {
    let squares = picture.as_raw().iter().zip(truth.as_raw());
    let sum: u64 = squares.map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum();
    let mean = sum as f64 / picture.as_raw().len() as f64;
    10.0 * (f64::from(WHITE).powi(2) / mean).log10()
}

/// One channel, row by row.
struct Plane {
    width: usize,
    values: Vec<f32>,
}

impl Plane {
    /// Rec. 601 luma, 0 to 255.
    fn luma(picture: &Rgb) -> Self {
        let of = |pixel: &image::Rgb<u8>| {
            let [red, green, blue] = pixel.0.map(f32::from);
            0.299 * red + 0.587 * green + 0.114 * blue
        };
        Self { width: picture.width() as usize, values: picture.pixels().map(of).collect() }
    }

    fn with(&self, other: &Self, of: impl Fn(f32, f32) -> f32) -> Self {
        let values = self.values.iter().zip(&other.values).map(|(&a, &b)| of(a, b)).collect();
        Self { width: self.width, values }
    }

    /// Convolved by `taps` along the rows, where all of them lie inside, and turned over: twice gives both axes.
    fn filtered(&self, taps: &[f32]) -> Self {
        let height = self.values.len() / self.width;
        let kept = (self.width + 1).saturating_sub(taps.len());
        let rows: Vec<&[f32]> = self.values.chunks_exact(self.width).collect();
        let at =
            |x: usize, row: &[f32]| row[x..].iter().zip(taps).map(|(value, tap)| value * tap).sum::<f32>();
        let values = (0..kept).flat_map(|x| rows.iter().map(move |row| at(x, row))).collect();
        Self { width: height, values }
    }

    fn smoothed(&self, taps: &[f32]) -> Self {
        self.filtered(taps).filtered(taps)
    }

    fn mean(&self) -> f64 {
        self.values.iter().map(|&value| f64::from(value)).sum::<f64>() / self.values.len() as f64
    }

    /// Length of the gradient of every inner pixel, by Sobel's operator: the plane loses a pixel on each side.
    fn gradients(&self) -> Self {
        let (smooth, slope) = ([0.25, 0.5, 0.25], [-0.5, 0.0, 0.5]);
        let across = self.filtered(&slope).filtered(&smooth);
        let down = self.filtered(&smooth).filtered(&slope);
        across.with(&down, f32::hypot)
    }
}

fn window() -> Vec<f32> {
    let middle = (WINDOW / 2) as f32;
    let taps = (0..WINDOW).map(|i| (-0.5 * ((i as f32 - middle) / WINDOW_DEVIATION).powi(2)).exp());
    let taps: Vec<f32> = taps.collect();
    let sum: f32 = taps.iter().sum();
    taps.iter().map(|tap| tap / sum).collect()
}

/// Mean over all windows that lie inside (Wang et al. 2004, equation 13).
fn ssim(one: &Plane, other: &Plane) -> f64 {
    let (c1, c2) = ((0.01 * WHITE).powi(2), (0.03 * WHITE).powi(2));
    let taps = window();
    let (mean_one, mean_other) = (one.smoothed(&taps), other.smoothed(&taps));
    let product = |a: &Plane, b: &Plane| a.with(b, |a, b| a * b).smoothed(&taps);
    let (square_one, square_other, both) = (product(one, one), product(other, other), product(one, other));
    let squares = square_one.with(&square_other, |a, b| a + b);
    let means = mean_one.with(&mean_other, |a, b| a * b);
    let mean_squares = mean_one.with(&mean_other, |a, b| a * a + b * b);
    let luminance = means.with(&mean_squares, |product, squares| (2.0 * product + c1) / (squares + c1));
    let covariance = both.with(&means, |both, means| 2.0 * (both - means) + c2);
    let variances = squares.with(&mean_squares, |squares, means| squares - means + c2);
    luminance.with(&covariance.with(&variances, |a, b| a / b), |a, b| a * b).mean()
}

/// Sum of gradients at the edges of `truth`, over the truth's own.
fn sharpness(picture: &Plane, truth: &Plane) -> f64 {
    let (picture, truth) = (picture.gradients(), truth.gradients());
    let mut sorted = truth.values.clone();
    let rank = ((1.0 - EDGES) * sorted.len() as f64) as usize;
    let (_, &mut least, _) = sorted.select_nth_unstable_by(rank, f32::total_cmp);
    let sum = |of: &Plane| -> f64 {
        let edges = of.values.iter().zip(&truth.values).filter(|(_, truth)| **truth >= least);
        edges.map(|(value, _)| f64::from(*value)).sum()
    };
    sum(&picture) / sum(&truth)
}

/// The middle of the picture's gradients: where there is most to see.
pub(super) fn edge_centre(picture: &Rgb) -> (u32, u32) {
    let gradients = Plane::luma(picture).gradients();
    let (mut sum, mut across, mut down) = (0.0, 0.0, 0.0);
    for (index, &value) in gradients.values.iter().enumerate() {
        let weight = f64::from(value).powi(2);
        sum += weight;
        across += weight * (index % gradients.width) as f64;
        down += weight * (index / gradients.width) as f64;
    }
    if sum == 0.0 {
        return (picture.width() / 2, picture.height() / 2);
    }
    ((across / sum) as u32, (down / sum) as u32)
}

#[cfg(test)]
mod tests {
    use image::imageops::{blur, crop_imm};

    use super::*;

    /// A disk with a soft edge on a slope of grey.
    fn disk(side: u32, x: f32, y: f32) -> Rgb {
        Rgb::from_fn(side, side, |i, j| {
            let distance = (i as f32 - x).hypot(j as f32 - y) - side as f32 / 5.0;
            let inside = (0.5 - distance).clamp(0.0, 1.0);
            let grey = (60.0 + j as f32) * (1.0 - inside) + 230.0 * inside;
            image::Rgb([grey as u8, grey as u8, (grey * 0.8) as u8])
        })
    }

    #[test]
    fn the_truth_itself_is_perfect() {
        let truth = disk(64, 30.0, 34.0);
        let quality = Quality::of(&truth, &truth);
        assert!(quality.psnr.is_infinite());
        assert!((quality.ssim - 1.0).abs() < 1e-6 && (quality.sharpness - 1.0).abs() < 1e-9, "{quality:?}");
    }

    #[test]
    fn a_shift_of_brightness_has_the_psnr_of_its_size() {
        let truth = disk(64, 30.0, 34.0);
        let brighter =
            Rgb::from_fn(64, 64, |x, y| image::Rgb(truth.get_pixel(x, y).0.map(|value| value + 5)));
        let quality = Quality::of(&brighter, &truth);
        assert!((quality.psnr - 20.0 * (255.0f64 / 5.0).log10()).abs() < 1e-9, "{quality:?}");
        assert!((quality.sharpness - 1.0).abs() < 1e-6, "{quality:?}");
    }

    #[test]
    fn blur_is_softer_and_less_similar() {
        let truth = disk(64, 30.0, 34.0);
        let (little, much) =
            (Quality::of(&blur(&truth, 0.7), &truth), Quality::of(&blur(&truth, 2.0), &truth));
        assert!(1.0 > little.sharpness && little.sharpness > much.sharpness && much.sharpness > 0.1);
        assert!(1.0 > little.ssim && little.ssim > much.ssim);
        assert!(little.psnr > much.psnr);
    }

    /// By hand: constant windows of 100 and 110 have SSIM (2 * 100 * 110 + c1) / (100^2 + 110^2 + c1).
    #[test]
    fn of_constant_pictures_only_the_means_count() {
        let flat = |value| Rgb::from_pixel(16, 16, image::Rgb([value; 3]));
        let c1 = (0.01f64 * 255.0).powi(2);
        let expected = (2.0 * 100.0 * 110.0 + c1) / (100.0f64.powi(2) + 110.0f64.powi(2) + c1);
        let found = ssim(&Plane::luma(&flat(100)), &Plane::luma(&flat(110)));
        // Variances of constants are rounding errors against c2.
        assert!((found - expected).abs() < 1e-3, "{found} {expected}");
    }

    #[test]
    fn the_centre_is_where_the_edges_are() {
        let (x, y) = edge_centre(&disk(96, 60.0, 30.0));
        assert!(x.abs_diff(60) < 6 && y.abs_diff(30) < 6, "{x} {y}");
        assert_eq!(edge_centre(&crop_imm(&disk(96, 60.0, 30.0), 0, 0, 4, 1).to_image()), (2, 0));
    }
}

//! The numbers of `model.toml`, as they are held: a file can write `inf` and `nan`, and what fits 64 bits may be infinite in 32.

use std::ops::RangeInclusive;

use serde::Serialize;
use toml::Value;

/// What numbers may be that pixels or latents are divided by.
const FACTOR: RangeInclusive<f32> = 1e-6..=1e6;
/// What is taken from pixels or latents.
const MOST_OFFSET: f32 = 1e6;

/// Refuses what is no number or infinite, wherever it stands in `section`, which is called `name`.
pub(super) fn check_finite(name: &str, section: Option<&impl Serialize>) -> Result<(), String> {
    let Some(section) = section else { return Ok(()) };
    let section = Value::try_from(section).map_err(|error| format!("{name}: {error}"))?;
    match infinite(&section) {
        None => Ok(()),
        Some((place, number)) => {
            Err(format!("{name}{place} must be a finite 32-bit number (it is read as {number})"))
        }
    }
}

fn infinite(value: &Value) -> Option<(String, f64)> {
    match value {
        Value::Float(number) if !number.is_finite() => Some((String::new(), *number)),
        Value::Array(values) => values.iter().find_map(infinite),
        Value::Table(values) => values.iter().find_map(|(key, value)| {
            let (within, number) = infinite(value)?;
            Some((format!(".{key}{within}"), number))
        }),
        _ => None,
    }
}

/// Refuses factors called `name` that what they divide would not survive.
pub(super) fn check_factors(name: &str, factors: &[f32]) -> Result<(), String> {
    check(name, factors, FACTOR)
}

/// Refuses offsets called `name` beside which what they are taken from would not be seen.
pub(super) fn check_offsets(name: &str, offsets: &[f32]) -> Result<(), String> {
    check(name, offsets, -MOST_OFFSET..=MOST_OFFSET)
}

/// Refuses numbers called `name` that are out of `range`.
pub(super) fn check(name: &str, numbers: &[f32], range: RangeInclusive<f32>) -> Result<(), String> {
    match numbers.iter().find(|number| !range.contains(number)) {
        None => Ok(()),
        Some(number) => {
            Err(format!("{name} must be {:?} to {:?} (got {number:?})", range.start(), range.end()))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::package::{Manifest, Role};

    const FACTS: &str = r#"
        schema = 1
        name = "t"
        version = "0.1.0"
        role = "denoiser"
        license = "Apache-2.0"
        [[files]]
        path = "model.onnx"
        sha256 = "0"
        size_bytes = 2
        [graph]
        file = "model.onnx"
        inputs = {}
        outputs = {}
        [picture]
        mean = [0.5, 0.5, 0.25]
        std = [0.5, 0.5, 0.75]
        [latent]
        channels = 4
        downscale = 8
        scale = 0.18215
        shift = 0.125
        [diffusion]
        image_size = 64
        prediction_type = "flow_prediction"
        train_timesteps = 1000
        timestep_scale = 0.001
        [diffusion.flow]
        shift = 3.5
        [defaults]
        sampler = "euler"
        timestep_spacing = "trailing"
        thresholding = "none"
        threshold_quantile = 0.995
        threshold_cap = 1.25
        steps = 20
        text_weight = 7.5
        neighbour_weight = 6.5
        guidance_weight = 5.5
        interleave_ratio = 0.375
        noise_level = 0.625
        [defaults.samplers.ddim]
        threshold_quantile = 0.875
        threshold_cap = 2.75
    "#;

    fn outcome(number: &str, written: &str) -> Result<(), String> {
        assert_eq!(FACTS.matches(number).count(), 1, "{number}");
        let manifest: Manifest = toml::from_str(&FACTS.replace(number, written)).unwrap();
        manifest.validate(Role::Denoiser)
    }

    #[test]
    fn numbers_are_checked_as_they_are_held() {
        outcome("0.25", "0.25").unwrap();
        for (number, place) in [
            ("0.25", "picture.mean"),
            ("0.75", "picture.std"),
            ("0.18215", "latent.scale"),
            ("0.125", "latent.shift"),
            ("0.001", "diffusion.timestep_scale"),
            ("3.5", "diffusion.flow.shift"),
            ("0.995", "defaults.threshold_quantile"),
            ("1.25", "defaults.threshold_cap"),
            ("7.5", "defaults.text_weight"),
            ("6.5", "defaults.neighbour_weight"),
            ("5.5", "defaults.guidance_weight"),
            ("0.375", "defaults.interleave_ratio"),
            ("0.625", "defaults.noise_level"),
            ("0.875", "defaults.samplers.ddim.threshold_quantile"),
            ("2.75", "defaults.samplers.ddim.threshold_cap"),
        ] {
            for wrong in ["1e300", "inf", "-inf", "nan"] {
                // Of these numbers the only one that is held in 64 bits.
                if (place, wrong) != ("diffusion.flow.shift", "1e300") {
                    let refused = outcome(number, wrong).expect_err(place);
                    assert!(refused.starts_with(place), "{place} = {wrong}: {refused}");
                }
            }
        }
    }

    #[test]
    fn what_is_divided_by_a_factor_stays_finite() {
        for (number, place) in [("0.75", "picture.std"), ("0.18215", "latent.scale")] {
            for wrong in ["0.0", "-1.0", "1e-40", "1e-300", "1e30"] {
                let refused = outcome(number, wrong).expect_err(place);
                assert!(refused.starts_with(place), "{place} = {wrong}: {refused}");
            }
        }
    }
}

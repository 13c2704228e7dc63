//! The report: a table a level.

use std::fmt::Write as _;
use std::path::Path;

use image::imageops::FilterType;
use reverie::Failure;
use reverie_proto::superresolution::v1::Level;
use serde_json::{Value, json};

use super::quality::Quality;
use crate::creatures::statistics::{Estimate, estimate};

pub(super) const MARKDOWN: &str = "super-resolution.md";
const JSON: &str = "super-resolution.json";

/// A way to enlarge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// The level's diffusion model.
    Model,
    /// Triangle filter.
    Bilinear,
    /// Catmull-Rom filter: bicubic with a = -0.5.
    Bicubic,
    /// Lanczos filter of three lobes.
    Lanczos,
}

impl Method {
    pub(super) const ALL: [Self; 4] = [Self::Model, Self::Bilinear, Self::Bicubic, Self::Lanczos];

    /// The filter of an interpolation.
    pub(super) fn filter(self) -> Option<FilterType> {
        match self {
            Self::Model => None,
            Self::Bilinear => Some(FilterType::Triangle),
            Self::Bicubic => Some(FilterType::CatmullRom),
            Self::Lanczos => Some(FilterType::Lanczos3),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
            Self::Lanczos => "Lanczos",
        }
    }
}

/// One picture by one method.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) level: Level,
    pub(super) picture: usize,
    pub(super) method: Method,
    pub(super) quality: Quality,
}

type Measure = (&'static str, fn(&Quality) -> f64);
const MEASURES: [Measure; 3] = [
    ("psnr", |quality| quality.psnr),
    ("ssim", |quality| quality.ssim),
    ("sharpness", |quality| quality.sharpness),
];

/// The contact sheet of a level.
pub(super) fn sheet_name(level: &Level) -> String {
    format!("sheet-{}.png", level.image_size)
}

/// Means over pictures with their intervals, of a method or of its gain on bicubic.
struct Summary<'a> {
    rows: Vec<&'a Row>,
}

impl<'a> Summary<'a> {
    fn of(rows: &'a [Row], level: &Level) -> Self {
        Self { rows: rows.iter().filter(|row| row.level.image_size == level.image_size).collect() }
    }

    fn values(&self, method: Method, of: fn(&Quality) -> f64) -> Vec<f64> {
        self.rows.iter().filter(|row| row.method == method).map(|row| of(&row.quality)).collect()
    }

    fn mean(&self, method: Method, of: fn(&Quality) -> f64) -> Estimate {
        estimate(&self.values(method, of).into_iter().map(|value| vec![value]).collect::<Vec<_>>())
    }

    fn gain(&self, of: fn(&Quality) -> f64) -> Estimate {
        let (model, bicubic) = (self.values(Method::Model, of), self.values(Method::Bicubic, of));
        estimate(
            &model.iter().zip(&bicubic).map(|(model, bicubic)| vec![model - bicubic]).collect::<Vec<_>>(),
        )
    }
}

/// Writes `super-resolution.md` and `super-resolution.json` into `out`.
pub(super) fn write(world_version: &str, rows: &[Row], out: &Path) -> Result<(), Failure> {
    let mut levels: Vec<&Level> = rows.iter().map(|row| &row.level).collect();
    levels.dedup_by_key(|level| level.image_size);
    let pictures = rows.iter().map(|row| row.picture + 1).max().unwrap_or(0);
    let mut text = format!(
        "# Super-resolution\n\n\
         {pictures} true drawings of creatures that no model was trained on, enlarged by each level and held against the true \
         drawing of\nits side. World {world_version}. *Sharpness*: gradient at the truth's edges, 1 is the truth's own. In \
         brackets the 95 % interval of a\nbootstrap over pictures.\n"
    );
    let mut told = Vec::new();
    for level in levels {
        let summary = Summary::of(rows, level);
        write_level(&mut text, level, &summary)?;
        told.push(level_json(level, &summary));
    }
    std::fs::write(out.join(MARKDOWN), text)?;
    let json = json!({"world_version": world_version, "pictures": pictures, "levels": told});
    std::fs::write(out.join(JSON), serde_json::to_vec_pretty(&json)?)?;
    Ok(())
}

fn write_level(text: &mut String, level: &Level, summary: &Summary<'_>) -> Result<(), Failure> {
    let digest = level.model.as_ref().map_or("", |model| model.digest.as_str());
    writeln!(text, "\n## {} to {} px\n\nModel `{digest}`.\n", level.low_resolution_size, level.image_size)?;
    writeln!(text, "| | PSNR, dB | SSIM | Sharpness |\n| --- | --- | --- | --- |")?;
    for method in Method::ALL {
        let [psnr, ssim, sharpness] = MEASURES.map(|(_, of)| summary.mean(method, of).mean);
        writeln!(text, "| {} | {psnr:.2} | {ssim:.4} | {sharpness:.3} |", method.name())?;
    }
    let [psnr, ssim, sharpness] = MEASURES.map(|(_, of)| summary.gain(of));
    let told = |gain: &Estimate, digits: usize| {
        format!("{:+.digits$} ({:+.digits$} to {:+.digits$})", gain.mean, gain.low, gain.high)
    };
    writeln!(
        text,
        "| model less bicubic | {} | {} | {} |",
        told(&psnr, 2),
        told(&ssim, 4),
        told(&sharpness, 3)
    )?;
    let better = sharpness.low > 0.0 && psnr.high >= 0.0;
    writeln!(
        text,
        "\nSharper than bicubic without losing PSNR to it: {}.\n\n\
         ![The truth, the model's picture, bicubic]({})",
        if better { "yes" } else { "no" },
        sheet_name(level)
    )?;
    Ok(())
}

fn level_json(level: &Level, summary: &Summary<'_>) -> Value {
    let of = |find: &dyn Fn(fn(&Quality) -> f64) -> Estimate| {
        MEASURES
            .iter()
            .map(|(name, of)| ((*name).to_owned(), json!(find(*of))))
            .collect::<serde_json::Map<_, _>>()
    };
    let methods: serde_json::Map<_, _> = Method::ALL
        .iter()
        .map(|&method| (method.name().to_owned(), json!(of(&|measure| summary.mean(method, measure)))))
        .collect();
    json!({
        "low_resolution_size": level.low_resolution_size,
        "image_size": level.image_size,
        "model": level.model.as_ref().map(|model| &model.digest),
        "methods": methods,
        "gain_on_bicubic": of(&|measure| summary.gain(measure)),
    })
}

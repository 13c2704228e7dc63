//! The judge: a classifier of true drawings, which names what a picture shows.

use reverie::Failure;
use reverie::mesh::{self, MeshArguments};
use reverie_imaging::pictures::{self, Rgb};
use reverie_inference::package::Factor;
use reverie_inference::{Input, Model, Package, Role, Values};
use reverie_knowledge::Folder;

/// The model, loaded.
#[derive(Debug)]
pub(super) struct Judge {
    model: Model,
    factors: Vec<Factor>,
    image_size: u32,
    features: usize,
    digest: String,
}

/// What the judge says of one picture.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    /// The value of each factor.
    pub(super) named: Vec<usize>,
    /// Features, for distances between sets of pictures.
    pub(super) features: Vec<f32>,
}

impl Judge {
    /// Loads the package in `folder`; ONNX Runtime is set as for the encoder.
    pub(super) async fn load(folder: &Folder, arguments: &MeshArguments) -> Result<Self, Failure> {
        let package = Package::load(folder, Role::Judge).await?;
        let settings = mesh::service::<reverie_encoder::Settings>(arguments)?.inference;
        let model = {
            let package = package.clone();
            tokio::task::spawn_blocking(move || Model::load(&package, &settings)).await??
        };
        let location = folder.location();
        let facts = package.judge()?;
        let logits: usize = facts.factors.iter().map(|factor| factor.values.len()).sum();
        let shapes = (package.sample_shape("logits")?, package.sample_shape("features")?);
        let ([width], [features]) = (&shapes.0[..], &shapes.1[..]) else {
            return Err(format!("{location}: logits and features must have one axis beside the batch").into());
        };
        if *width != logits {
            return Err(format!("{location}: {width} logits for {logits} values of the factors").into());
        }
        let (factors, image_size) = (facts.factors.clone(), facts.image_size);
        Ok(Self { model, factors, image_size, features: *features, digest: package.digest().clone() })
    }

    /// What it names, in the order of a verdict.
    pub(super) fn factors(&self) -> &[Factor] {
        &self.factors
    }

    /// SHA-256 of its graph.
    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    /// Names what a picture shows.
    pub(super) fn names(&mut self, picture: &Rgb) -> Result<Verdict, Failure> {
        let side = self.image_size;
        let planes = pictures::to_planes(&pictures::resize_square(picture, side));
        let shape = [1, 3, side as usize, side as usize];
        let image = Input { name: "image", shape: &shape, values: Values::F32(&planes) };
        let mut logits = vec![0.0; self.factors.iter().map(|factor| factor.values.len()).sum()];
        let mut features = vec![0.0; self.features];
        self.model.run(&[image], &mut [("logits", &mut logits), ("features", &mut features)])?;
        Ok(Verdict { named: named(&self.factors, &logits), features })
    }
}

/// The value with the largest logit of each factor.
fn named(factors: &[Factor], logits: &[f32]) -> Vec<usize> {
    let mut rest = logits;
    let mut take = |count: usize| {
        let (these, others) = rest.split_at(count.min(rest.len()));
        rest = others;
        these.iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1)).map_or(0, |(value, _)| value)
    };
    factors.iter().map(|factor| take(factor.values.len())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::creatures::benchmark::tests::factors;

    #[test]
    fn the_largest_logit_of_each_factor_names_its_value() {
        assert_eq!(named(&factors(), &[0.1, 2.0, -1.0, -3.0, -0.5, 7.0, 1.0]), [1, 2, 0]);
    }
}

//! The judge: a classifier of true drawings, which names what a picture shows.

use reverie::Failure;
use reverie::mesh::{self, MeshArguments};
use reverie_engine::policy::{Caller, Class};
use reverie_engine::{Call, Input, Lane, RowData, RowError, RowModel, Session, Values};
use reverie_imaging::pictures::{self, Rgb};
use reverie_packages::package::Factor;
use reverie_packages::{Package, Role};
use reverie_stage::lanes;
use reverie_storage::Folder;

/// The model, loaded.
#[derive(Debug)]
pub(super) struct Judge {
    lane: Lane<JudgeModel>,
    factors: Vec<Factor>,
    image_size: u32,
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
        let settings = mesh::service::<reverie_encoder::Settings>(arguments)?;
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
        let (features, digest) = (*features, package.digest().clone());
        let lane = lanes::load(move || {
            let sessions = Session::open_all(&package, &settings.inference)?;
            let side = image_size as usize;
            let models = sessions.into_iter().map(|session| JudgeModel { session, side, logits, features });
            Ok(Lane::of_package(&package, models.collect(), &settings.lane, &settings.inference)?)
        });
        Ok(Self { lane: lane.await?, factors, image_size, digest })
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
    pub(super) async fn names(&self, picture: &Rgb) -> Result<Verdict, Failure> {
        let planes = pictures::to_planes(&pictures::resize_square(picture, self.image_size));
        let call = Call { caller: Caller(0), class: Class::Batch, deadline: None, origin: 0 };
        let [logits, features] = self.lane.run(call, planes).await?.output;
        Ok(Verdict { named: named(&self.factors, &logits), features })
    }
}

/// The judge on one session.
struct JudgeModel {
    session: Session,
    side: usize,
    logits: usize,
    features: usize,
}

impl RowModel for JudgeModel {
    /// f32 `[3, side, side]`.
    type Row = Vec<f32>;
    /// Logits and features.
    type Output = [Vec<f32>; 2];

    fn batch(&self) -> usize {
        self.session.batch()
    }

    fn run(&mut self, pictures: &mut [Vec<f32>]) -> Result<Vec<[Vec<f32>; 2]>, RowError> {
        let shape = [1, 3, self.side, self.side];
        let mut verdicts = vec![[vec![0.0; self.logits], vec![0.0; self.features]]; pictures.len()];
        let data = pictures.iter().zip(&mut verdicts).map(|(planes, [logits, features])| RowData {
            inputs: vec![Input { name: "image", shape: &shape, values: Values::F32(planes), identity: None }],
            outputs: vec![("logits", logits.as_mut_slice()), ("features", features.as_mut_slice())],
        });
        let mut data: Vec<RowData<'_>> = data.collect();
        self.session.run(&mut data)?;
        Ok(verdicts)
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
    use reverie_engine::contract;

    use super::*;
    use crate::creatures::benchmark::tests::factors;

    #[tokio::test]
    async fn the_judge_keeps_what_holds_for_every_model() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/bestiary/benchmark/judge");
        let package = Package::load(&Folder::open(folder).unwrap(), Role::Judge).await.unwrap();
        let facts = package.judge().unwrap();
        let (side, logits) = (facts.image_size as usize, package.sample_shape("logits").unwrap()[0]);
        let features = package.sample_shape("features").unwrap()[0];
        let open = |inference: &reverie_engine::InferenceSettings| -> Vec<JudgeModel> {
            let sessions = Session::open_all(&package, inference).unwrap();
            sessions.into_iter().map(|session| JudgeModel { session, side, logits, features }).collect()
        };
        let row = |number| contract::values(3 * side * side, number);
        contract::check(open, row, || vec![0.0; 7]);
    }

    #[test]
    fn the_largest_logit_of_each_factor_names_its_value() {
        assert_eq!(named(&factors(), &[0.1, 2.0, -1.0, -3.0, -0.5, 7.0, 1.0]), [1, 2, 0]);
    }
}

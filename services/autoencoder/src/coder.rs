//! One direction of the autoencoder: a graph of one input and one output, on its lane.

use reverie_engine::cost::Weight;
use reverie_engine::policy::Left;
use reverie_engine::{Computed, Input, Lane, ModelError, RowData, RowError, RowModel, Session, Values};
use reverie_packages::Package;
use reverie_packages::package::LatentScale;
use reverie_proto::diffusion::v1::{ModelIdentity, Prediction};
use reverie_service_kit::Context;
use reverie_stage::{lanes, model};
use tonic::Status;

use crate::Settings;

pub(crate) struct Coder {
    pub(crate) lane: Lane<CoderModel>,
    pub(crate) scale: LatentScale,
    pub(crate) identity: ModelIdentity,
    /// Channels of the output, if `model.toml` says.
    pub(crate) output_channels: Option<usize>,
}

impl Coder {
    /// Loads a package that reads `input` and gives `output`; the input of most requests has the extents `typical`, if that is known.
    /// Blocks.
    pub(crate) fn load(
        package: &Package,
        (input, output): (&'static str, &'static str),
        typical: Option<Extents>,
        settings: &Settings,
    ) -> Result<Self, ModelError> {
        let sessions = Session::open_all(package, &settings.inference)?;
        let output_channels = sessions.first().and_then(|session| session.output_channels(output));
        // An encoder may give the mean of a distribution and, in as many channels again, the logarithm of its variance.
        let typical = typical
            .zip(output_channels)
            .map(|(Extents { shape, output: [one, _, height, width] }, channels)| Extents {
                shape,
                output: [one, channels, height, width],
            })
            .or(typical);
        let model = |session| CoderModel { session, input, output, typical };
        let models = sessions.into_iter().map(model).collect();
        Ok(Self {
            lane: Lane::of_package(package, models, &settings.lane, &settings.inference)?,
            scale: package.latent()?,
            identity: model::identity(package),
            output_channels,
        })
    }

    /// Predicts what an input of so many elements takes; none as long as nothing is known.
    pub(crate) fn predict(&self, context: Context, elements: usize) -> Option<Prediction> {
        let left = Left { rows: 1, later_steps: 0, later_rows: 0 };
        lanes::predict(&self.lane, left, elements as f64, context)
    }

    /// Runs the graph on one input.
    pub(crate) async fn run(&self, context: Context, row: CoderRow) -> Result<Computed<Vec<f32>>, Status> {
        let run = async {
            let computed = self.lane.run(lanes::call(context), row).await;
            computed.map_err(|error| lanes::run_status(&error, context))
        };
        context.within("running the autoencoder", run).await
    }
}

/// The graph on one session.
pub(crate) struct CoderModel {
    session: Session,
    input: &'static str,
    output: &'static str,
    typical: Option<Extents>,
}

/// The extents of an input and of what comes of it: batch of one, channels, height and width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extents {
    pub(crate) shape: [usize; 4],
    pub(crate) output: [usize; 4],
}

/// One input of the graph.
pub(crate) struct CoderRow {
    /// Batch of one, channels, height and width.
    pub(crate) shape: [usize; 4],
    pub(crate) values: Vec<f32>,
    /// Elements of the output.
    pub(crate) output_elements: usize,
}

impl RowModel for CoderModel {
    type Row = CoderRow;
    type Output = Vec<f32>;

    fn batch(&self) -> usize {
        self.session.batch()
    }

    fn typical_rows(&self) -> Vec<CoderRow> {
        let row = |Extents { shape, output }: Extents| CoderRow {
            shape,
            values: vec![0.0; shape.iter().product()],
            output_elements: output.iter().product(),
        };
        self.typical.map(row).into_iter().collect()
    }

    fn weight(row: &CoderRow) -> Weight {
        Weight::from(row.values.len() as f64)
    }

    fn can_share(one: &CoderRow, other: &CoderRow) -> bool {
        (one.shape, one.output_elements) == (other.shape, other.output_elements)
    }

    fn run(&mut self, rows: &mut [CoderRow]) -> Result<Vec<Vec<f32>>, RowError> {
        let Self { session, input, output, .. } = self;
        let mut results: Vec<Vec<f32>> = rows.iter().map(|row| vec![0.0; row.output_elements]).collect();
        let data = rows.iter().zip(&mut results).map(|(CoderRow { shape, values, .. }, result)| RowData {
            inputs: vec![Input { name: input, shape, values: Values::F32(values), identity: None }],
            outputs: vec![(*output, result.as_mut_slice())],
        });
        let mut data: Vec<RowData<'_>> = data.collect();
        session.run(&mut data)?;
        if results.iter().flatten().all(|value| value.is_finite()) {
            Ok(results)
        } else {
            Err(RowError::new("the autoencoder gave values that are not finite"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use reverie_engine::contract;
    use reverie_packages::{Bundle, Role};

    use super::*;

    fn row(shape: [usize; 4], output_elements: usize, number: u32) -> CoderRow {
        CoderRow { shape, values: contract::values(shape.iter().product(), number), output_elements }
    }

    /// An autoencoder of random weights.
    #[tokio::test]
    async fn both_directions_keep_what_holds_for_every_model() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("bundle");
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../integration-tests/fixtures/diffusers");
        let from = Path::new(fixtures).join("stable-diffusion");
        let request = reverie_import::Request { from, size: Some(32), ..Default::default() };
        reverie_import::import(&request, &out).unwrap();
        let bundle = Bundle::open(&out.display().to_string()).await.unwrap();
        let decoder = bundle.package("latent-decoder", Role::LatentDecoder).await.unwrap();
        let LatentScale { channels, downscale, .. } = decoder.latent().unwrap();
        let (latent, picture) = ([1, channels, 4, 4], [1, 3, 4 * downscale, 4 * downscale]);
        let elements = |shape: [usize; 4]| shape.iter().product::<usize>();
        let open = |package: Package, input, output| {
            move |inference: &reverie_engine::InferenceSettings| -> Vec<CoderModel> {
                let sessions = Session::open_all(&package, inference).unwrap();
                let model = |session| CoderModel { session, input, output, typical: None };
                sessions.into_iter().map(model).collect()
            }
        };
        contract::check(
            open(decoder, "latent", "picture"),
            |number| row(latent, elements(picture), number),
            || row(latent, 7, 0),
        );
        let encoder = bundle.package("latent-encoder", Role::LatentEncoder).await.unwrap();
        contract::check(
            open(encoder, "picture", "latent"),
            // The mean and the logarithm of the variance.
            |number| row(picture, 2 * elements(latent), number),
            || row(picture, 7, 0),
        );
    }
}

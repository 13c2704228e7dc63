//! How the rows of a model that draws are fed to its graph: what each input takes is the model's own matter, the pass is not.

use std::borrow::Cow;
use std::sync::Arc;

use reverie_engine::cost::Weight;
use reverie_engine::trajectory::{Conditions, Evaluation, Row};
use reverie_engine::{
    Identity, InferenceSettings, Input, ModelError, RowData, RowError, RowModel, Session, Values,
};
use reverie_packages::Package;

/// What feeds the inputs of a model that draws.
pub trait Feeds: Send + Sync + 'static {
    /// What the rows of one image are conditioned on.
    type Conditions: Conditions;
    /// What an input is fed with.
    type Feed: Copy + Send + Sync + 'static;

    /// What the input `name` of the graph is fed with; none if there is nothing here to feed it with.
    fn feed(&self, name: &str) -> Option<Self::Feed>;

    /// What `feed` is in this row.
    fn fed<'a>(&self, feed: Self::Feed, row: &'a Evaluation<Self::Conditions>) -> Fed<'a>;

    /// Rows to measure what a pass costs: [`RowModel::typical_rows`].
    fn typical_rows(&self) -> Vec<Row<Self::Conditions>>;

    /// Whether all inputs of two rows are of equal shape.
    fn can_share(one: &Evaluation<Self::Conditions>, other: &Evaluation<Self::Conditions>) -> bool;

    /// Turns what the graph gave for a row into a prediction for each element of x.
    fn settle(&self, _row: &Evaluation<Self::Conditions>, _prediction: &mut [f32]) {}
}

/// What one input is fed with in one row.
#[derive(Debug)]
pub struct Fed<'a> {
    /// With one row.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Cow<'a, [f32]>,
    /// Of what lasts longer than the row.
    pub identity: Option<Identity>,
}

impl<'a> Fed<'a> {
    /// What is made for this row alone.
    pub fn once(shape: &[usize], values: impl Into<Cow<'a, [f32]>>) -> Self {
        Self { shape: shape.to_vec(), values: values.into(), identity: None }
    }

    /// What stays the same as long as `identity` does.
    #[must_use]
    pub fn lasting(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    fn input<'b>(&'b self, name: &'b str) -> Input<'b> {
        let Self { shape, values, identity } = self;
        Input { name, shape, values: Values::F32(values), identity: *identity }
    }
}

/// A model that draws, on one session.
pub struct FedModel<F: Feeds> {
    session: Session,
    feeds: Arc<F>,
    /// Names of the graph's inputs, and what each is fed with.
    inputs: Arc<[(String, F::Feed)]>,
}

impl<F: Feeds> FedModel<F> {
    /// The model on as many sessions as the settings say. Blocks.
    ///
    /// # Errors
    ///
    /// If the graph has an input that nothing here feeds, or the sessions cannot be opened.
    pub fn open_all(
        package: &Package,
        feeds: &Arc<F>,
        inference: &InferenceSettings,
    ) -> Result<Vec<Self>, ModelError> {
        let feed = |name: &String| {
            let unknown = || package.wrong(format!("nothing is known here to feed its input {name} with"));
            Ok((name.clone(), feeds.feed(name).ok_or_else(unknown)?))
        };
        let inputs =
            package.manifest.graph.inputs.keys().map(feed).collect::<Result<Arc<[_]>, ModelError>>()?;
        let model = |session| Self { session, feeds: Arc::clone(feeds), inputs: Arc::clone(&inputs) };
        Ok(Session::open_all(package, inference)?.into_iter().map(model).collect())
    }
}

impl<F: Feeds> RowModel for FedModel<F> {
    type Row = Row<F::Conditions>;
    type Output = Vec<f32>;

    fn batch(&self) -> usize {
        self.session.batch()
    }

    fn weight(row: &Self::Row) -> Weight {
        row.weight()
    }

    fn typical_rows(&self) -> Vec<Self::Row> {
        self.feeds.typical_rows()
    }

    fn can_share(one: &Self::Row, other: &Self::Row) -> bool {
        F::can_share(&one.evaluation, &other.evaluation)
    }

    fn run(&mut self, rows: &mut [Self::Row]) -> Result<Vec<Vec<f32>>, RowError> {
        let Self { session, feeds, inputs } = self;
        let (evaluations, mut outs): (Vec<_>, Vec<_>) =
            rows.iter_mut().map(|Row { evaluation, out }| (&*evaluation, out)).unzip();
        let fed: Vec<Vec<(&String, Fed<'_>)>> = evaluations
            .iter()
            .map(|row| inputs.iter().map(|(name, feed)| (name, feeds.fed(*feed, row))).collect())
            .collect();
        let data = fed.iter().zip(&mut outs).map(|(fed, out)| RowData {
            inputs: fed.iter().map(|(name, fed)| fed.input(name)).collect(),
            outputs: vec![("prediction", out.as_mut_slice())],
        });
        session.run(&mut data.collect::<Vec<_>>())?;
        for (row, out) in evaluations.iter().zip(&mut outs) {
            feeds.settle(row, out);
        }
        Ok(outs.into_iter().map(std::mem::take).collect())
    }
}

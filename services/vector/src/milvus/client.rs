//! The calls to Milvus.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs;
use std::time::Duration;

use base64::Engine as _;
use prost::Message as _;
use reverie_knowledge::{Hit, UnitVector};
use reverie_service_kit::Context;
use reverie_service_kit::client::{Addresses, Channel, MAX_INTERNAL_MESSAGE, Upstream};
use reverie_service_kit::settings::SettingsError;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Response, Status};

use self::wire::ConsistencyLevel as Level;
use self::wire::milvus_service_client::MilvusServiceClient;
use super::IndexKind;
use super::filter::{KEY, among};
use crate::CollectionError;

/// What `milvus.proto` says.
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, reason = "generated")]
mod wire {
    tonic::include_proto!("milvus.proto.milvus");
}

/// What a call does.
#[derive(Debug, Clone, Copy)]
enum Doing {
    /// It reads: one that does not arrive is made once more.
    Read(&'static str),
    /// It writes, or has Milvus prepare something.
    Write(&'static str),
}

impl Doing {
    const fn name(self) -> &'static str {
        let (Self::Read(name) | Self::Write(name)) = self;
        name
    }

    /// How long it may take where nobody has a deadline.
    fn limit(self) -> Duration {
        match self {
            Self::Read(_) => Duration::from_secs(10),
            Self::Write(_) => Duration::from_mins(1),
        }
    }

    fn is_repeated(self, answer: &Result<impl Sized, Status>) -> bool {
        let is_away = answer.as_ref().is_err_and(|status| status.code() == Code::Unavailable);
        matches!(self, Self::Read(_)) && is_away
    }
}

/// The field with an entry's vector.
const VECTOR: &str = "vector";

/// A Milvus.
#[derive(Debug)]
pub(super) struct Client {
    stage: Upstream,
    /// What it is shown as a credential.
    authorization: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// For the Milvus at `address`, with the credential of `token_file`, if one is named.
    pub(super) fn new(address: &Addresses, token_file: &str) -> Result<Self, SettingsError> {
        let wrong =
            |why: &dyn Display| SettingsError::value("milvus.token_file", format!("{token_file}: {why}"));
        let authorization = if token_file.is_empty() {
            None
        } else {
            let token = fs::read_to_string(token_file).map_err(|error| wrong(&error))?;
            let encoded = base64::engine::general_purpose::STANDARD.encode(token.trim());
            let mut value = MetadataValue::try_from(encoded).map_err(|error| wrong(&error))?;
            value.set_sensitive(true);
            Some(value)
        };
        Ok(Self { stage: Upstream::new("milvus", address.clone()), authorization })
    }

    /// Makes a call that nobody's deadline bounds, and reads how it ended.
    async fn call<Q: Clone, A>(
        &self,
        doing: Doing,
        message: Q,
        call: impl AsyncFn(MilvusServiceClient<Channel>, Request<Q>) -> Result<Response<A>, Status>,
        status: impl FnOnce(&A) -> Option<&wire::Status>,
    ) -> Result<A, CollectionError> {
        self.call_for(Context::default(), doing, message, call, status).await
    }

    /// The same for a request, by its deadline.
    async fn call_for<Q: Clone, A>(
        &self,
        context: Context,
        doing: Doing,
        message: Q,
        call: impl AsyncFn(MilvusServiceClient<Channel>, Request<Q>) -> Result<Response<A>, Status>,
        status: impl FnOnce(&A) -> Option<&wire::Status>,
    ) -> Result<A, CollectionError> {
        let bounded = match context.deadline() {
            Some(_) => context,
            None => Context::with_timeout(doing.limit()),
        };
        let request = || {
            let mut request = bounded.outgoing(message.clone());
            if let Some(authorization) = &self.authorization {
                request.metadata_mut().insert("authorization", authorization.clone());
            }
            request
        };
        let client = MilvusServiceClient::new(self.stage.channel())
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE);
        let mut answer = call(client.clone(), request()).await;
        if doing.is_repeated(&answer) {
            answer = call(client, request()).await;
        }
        let failed = |status: Status| match status.code() {
            Code::DeadlineExceeded | Code::Cancelled if context.deadline().is_some() => {
                CollectionError::OutOfTime(Box::new(context.out_of_time("in Milvus")))
            }
            _ => CollectionError::milvus(doing.name(), status.message()),
        };
        let answer = answer.map_err(failed)?.into_inner();
        match status(&answer) {
            Some(status) if status.code != 0 || status.error_code != 0 => {
                Err(CollectionError::milvus(doing.name(), &status.reason))
            }
            _ => Ok(answer),
        }
    }

    pub(super) async fn has(&self, collection: &str) -> Result<bool, CollectionError> {
        let call = async |mut client: MilvusServiceClient<_>, request| client.has_collection(request).await;
        let told = self.call(Doing::Read("looking for a collection"), named(collection), call, |answer| {
            answer.status.as_ref()
        });
        Ok(told.await?.value)
    }

    /// The collections whose names begin with `prefix`, and when each was made, since 1970.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<(String, Duration)>, CollectionError> {
        let call = async |mut client: MilvusServiceClient<_>, request| client.show_collections(request).await;
        let request = wire::ShowCollectionsRequest {};
        let told = self
            .call(Doing::Read("listing collections"), request, call, |answer| answer.status.as_ref())
            .await?;
        let made = told.created_utc_timestamps.into_iter().map(Duration::from_millis);
        let all = told.collection_names.into_iter().zip(made.chain(std::iter::repeat(Duration::ZERO)));
        Ok(all.filter(|(name, _)| name.starts_with(prefix)).collect())
    }

    pub(super) async fn create(&self, collection: &str, dimension: u32) -> Result<(), CollectionError> {
        let field = |name: &str, data_type: wire::DataType, type_params| wire::FieldSchema {
            name: name.to_owned(),
            is_primary_key: name == KEY,
            data_type: data_type.into(),
            type_params,
        };
        let schema = wire::CollectionSchema {
            name: collection.to_owned(),
            fields: vec![
                field(KEY, wire::DataType::Int64, Vec::new()),
                field(VECTOR, wire::DataType::FloatVector, vec![pair("dim", dimension)]),
            ],
        };
        let call =
            async |mut client: MilvusServiceClient<_>, request| client.create_collection(request).await;
        let request = wire::CreateCollectionRequest {
            collection_name: collection.to_owned(),
            schema: schema.encode_to_vec(),
        };
        self.call(Doing::Write("making a collection"), request, call, |status| Some(status)).await.map(drop)
    }

    pub(super) async fn drop(&self, collection: &str) -> Result<(), CollectionError> {
        let call = async |mut client: MilvusServiceClient<_>, request| client.drop_collection(request).await;
        self.call(Doing::Write("dropping a collection"), named(collection), call, |status| Some(status))
            .await
            .map(drop)
    }

    pub(super) async fn index(&self, collection: &str, kind: IndexKind) -> Result<(), CollectionError> {
        let call = async |mut client: MilvusServiceClient<_>, request| client.create_index(request).await;
        let request = wire::CreateIndexRequest {
            collection_name: collection.to_owned(),
            field_name: VECTOR.to_owned(),
            extra_params: vec![
                pair("index_type", kind.name()),
                pair("metric_type", "COSINE"),
                pair("params", kind.built_with()),
            ],
        };
        self.call(Doing::Write("building an index"), request, call, |status| Some(status)).await.map(drop)
    }

    pub(super) async fn load(&self, collection: &str) -> Result<(), CollectionError> {
        let call = async |mut client: MilvusServiceClient<_>, request| client.load_collection(request).await;
        self.call(Doing::Write("loading a collection"), named(collection), call, |status| Some(status))
            .await
            .map(drop)
    }

    pub(super) async fn is_loaded(&self, collection: &str) -> Result<bool, CollectionError> {
        let call = async |mut client: MilvusServiceClient<_>, request| client.get_load_state(request).await;
        let request = wire::GetLoadStateRequest { collection_name: collection.to_owned() };
        let told = self
            .call(Doing::Write("loading a collection"), request, call, |answer| answer.status.as_ref())
            .await?;
        Ok(told.state() == wire::LoadState::Loaded)
    }

    /// Writes vectors by their keys, one after the other in `values`.
    pub(super) async fn upsert(
        &self,
        collection: &str,
        keys: &[u64],
        values: Vec<f32>,
        dimension: u32,
    ) -> Result<(), CollectionError> {
        let data = keys.iter().copied().map(u64::cast_signed).collect();
        let keys_field = wire::FieldData {
            r#type: wire::DataType::Int64.into(),
            field_name: KEY.to_owned(),
            field: Some(wire::field_data::Field::Scalars(wire::ScalarField {
                data: Some(wire::scalar_field::Data::LongData(wire::LongArray { data })),
            })),
        };
        let vectors_field = wire::FieldData {
            r#type: wire::DataType::FloatVector.into(),
            field_name: VECTOR.to_owned(),
            field: Some(wire::field_data::Field::Vectors(wire::VectorField {
                dim: dimension.into(),
                data: Some(wire::vector_field::Data::FloatVector(wire::FloatArray { data: values })),
            })),
        };
        let call = async |mut client: MilvusServiceClient<_>, request| client.upsert(request).await;
        let request = wire::UpsertRequest {
            collection_name: collection.to_owned(),
            fields_data: vec![keys_field, vectors_field],
            num_rows: keys.len() as u32,
        };
        self.call(Doing::Write("writing vectors"), request, call, |answer| answer.status.as_ref())
            .await
            .map(drop)
    }

    pub(super) async fn flush(&self, collection: &str) -> Result<(), CollectionError> {
        let call = async |mut client: MilvusServiceClient<_>, request| client.flush(request).await;
        let request = wire::FlushRequest { collection_names: vec![collection.to_owned()] };
        self.call(Doing::Write("writing vectors"), request, call, |answer| answer.status.as_ref())
            .await
            .map(drop)
    }

    /// How many vectors searches see.
    pub(super) async fn count(&self, collection: &str) -> Result<u64, CollectionError> {
        let told = self
            .query("counting vectors", collection, String::new(), &["count(*)"], Context::default())
            .await?;
        let count = told.into_iter().find_map(|field| match field.field? {
            wire::field_data::Field::Scalars(scalars) => longs(scalars).first().copied(),
            wire::field_data::Field::Vectors(_) => None,
        });
        Ok(count.unwrap_or_default().cast_unsigned())
    }

    /// The vectors of these keys, of those that are there.
    pub(super) async fn vectors(
        &self,
        collection: &str,
        keys: &[u64],
        context: Context,
    ) -> Result<HashMap<u64, Vec<f32>>, CollectionError> {
        let filter = among(keys.iter().copied());
        let (mut found, mut vectors) = (Vec::new(), Vec::new());
        for field in self.query("reading vectors", collection, filter, &[KEY, VECTOR], context).await? {
            match field.field {
                Some(wire::field_data::Field::Scalars(scalars)) => found = longs(scalars),
                Some(wire::field_data::Field::Vectors(wire::VectorField { dim, data: Some(data) })) => {
                    let wire::vector_field::Data::FloatVector(values) = data;
                    let dimension = usize::try_from(dim).unwrap_or_default().max(1);
                    vectors = values.data.chunks(dimension).map(<[f32]>::to_vec).collect();
                }
                _ => {}
            }
        }
        Ok(found.into_iter().map(i64::cast_unsigned).zip(vectors).collect())
    }

    async fn query(
        &self,
        doing: &'static str,
        collection: &str,
        expr: String,
        fields: &[&str],
        context: Context,
    ) -> Result<Vec<wire::FieldData>, CollectionError> {
        let call = async |mut client: MilvusServiceClient<_>, request| client.query(request).await;
        let request = wire::QueryRequest {
            collection_name: collection.to_owned(),
            expr,
            output_fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            consistency_level: Level::Bounded.into(),
        };
        let told = self.call_for(context, Doing::Read(doing), request, call, |answer| answer.status.as_ref());
        Ok(told.await?.fields_data)
    }

    /// The keys nearest to each query.
    pub(super) async fn search(
        &self,
        collection: &str,
        search: Search<'_>,
        context: Context,
    ) -> Result<Vec<Vec<Hit>>, CollectionError> {
        let Search { queries, limit, filter, with } = search;
        let bytes =
            |query: &UnitVector| query.values().iter().flat_map(|value| value.to_le_bytes()).collect();
        let group = wire::PlaceholderGroup {
            placeholders: vec![wire::PlaceholderValue {
                tag: "$0".to_owned(),
                r#type: wire::DataType::FloatVector.into(),
                values: queries.iter().map(bytes).collect(),
            }],
        };
        let request = wire::SearchRequest {
            collection_name: collection.to_owned(),
            dsl: filter,
            placeholder_group: group.encode_to_vec(),
            dsl_type: 1,
            search_params: vec![
                pair("anns_field", VECTOR),
                pair("topk", limit),
                pair("metric_type", "COSINE"),
                pair("params", with),
                pair("round_decimal", -1),
            ],
            nq: (queries.len() as u64).cast_signed(),
            consistency_level: Level::Bounded.into(),
        };
        let call = async |mut client: MilvusServiceClient<_>, request| client.search(request).await;
        let doing = Doing::Read("searching");
        let told = self.call_for(context, doing, request, call, |answer| answer.status.as_ref()).await?;
        let results = told.results.unwrap_or_default();
        let counts: Vec<usize> =
            results.topks.iter().map(|count| usize::try_from(*count).unwrap_or_default()).collect();
        let mut hits = hits(results).into_iter();
        // Milvus tells all of them one after the other, and how many are whose.
        let each: Vec<Vec<Hit>> = counts.iter().map(|count| hits.by_ref().take(*count).collect()).collect();
        if each.len() != queries.len() || hits.next().is_some() {
            let why = format!("it answered {} queries of {}", each.len(), queries.len());
            return Err(CollectionError::milvus(doing.name(), why));
        }
        Ok(each)
    }
}

/// What is searched for in a collection.
pub(super) struct Search<'a> {
    pub(super) queries: &'a [UnitVector],
    /// How many keys are wanted for each.
    pub(super) limit: usize,
    /// Which keys may be found: an expression; "" for all.
    pub(super) filter: String,
    /// The parameters of the index.
    pub(super) with: String,
}

/// All that was found, in its order.
fn hits(results: wire::SearchResultData) -> Vec<Hit> {
    let keys = match results.ids.and_then(|ids| ids.id_field) {
        Some(wire::ids::IdField::IntId(keys)) => keys.data,
        None => Vec::new(),
    };
    let hit = |(key, score): (i64, f32)| Hit { key: key.cast_unsigned(), score: score.clamp(-1.0, 1.0) };
    keys.into_iter().zip(results.scores).map(hit).collect()
}

fn named(collection: &str) -> wire::CollectionRequest {
    wire::CollectionRequest { collection_name: collection.to_owned() }
}

fn pair(key: &str, value: impl Display) -> wire::KeyValuePair {
    wire::KeyValuePair { key: key.to_owned(), value: value.to_string() }
}

fn longs(scalars: wire::ScalarField) -> Vec<i64> {
    match scalars.data {
        Some(wire::scalar_field::Data::LongData(longs)) => longs.data,
        None => Vec::new(),
    }
}

//! The calls to Milvus.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs;
use std::time::Duration;

use base64::Engine as _;
use prost::Message as _;
use reverie_knowledge::Hit;
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

/// What is done by calls that read.
const SEARCHING: &str = "searching";
const READING_VECTORS: &str = "reading vectors";
const LOOKING: &str = "looking for a collection";
const READS: [&str; 3] = [SEARCHING, READING_VECTORS, LOOKING];

/// The field with an entry's vector.
const VECTOR: &str = "vector";
/// How long a call may take that reads, and one that writes or loads.
const READING: Duration = Duration::from_secs(10);
const WRITING: Duration = Duration::from_mins(1);

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

    /// Makes a call, and reads how it ended. One that reads and does not arrive is made once more.
    async fn call<Q: Clone, A>(
        &self,
        doing: &'static str,
        message: Q,
        call: impl AsyncFn(MilvusServiceClient<Channel>, Request<Q>) -> Result<Response<A>, Status>,
        status: impl FnOnce(&A) -> Option<&wire::Status>,
    ) -> Result<A, CollectionError> {
        let reads = READS.contains(&doing);
        let context = Context::with_timeout(if reads { READING } else { WRITING });
        let request = || {
            let mut request = context.outgoing(message.clone());
            if let Some(authorization) = &self.authorization {
                request.metadata_mut().insert("authorization", authorization.clone());
            }
            request
        };
        let client = MilvusServiceClient::new(self.stage.channel())
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE);
        let mut answer = call(client.clone(), request()).await;
        if reads && answer.as_ref().is_err_and(|status| status.code() == Code::Unavailable) {
            answer = call(client, request()).await;
        }
        let answer = answer.map_err(|status| CollectionError::milvus(doing, status.message()))?.into_inner();
        match status(&answer) {
            Some(status) if status.code != 0 || status.error_code != 0 => {
                Err(CollectionError::milvus(doing, &status.reason))
            }
            _ => Ok(answer),
        }
    }

    pub(super) async fn has(&self, collection: &str) -> Result<bool, CollectionError> {
        let call = async |mut client: MilvusServiceClient<_>, request| client.has_collection(request).await;
        let told = self.call(LOOKING, named(collection), call, |answer| answer.status.as_ref());
        Ok(told.await?.value)
    }

    /// The collections whose names begin with `prefix`, and when each was made, since 1970.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<(String, Duration)>, CollectionError> {
        let call = async |mut client: MilvusServiceClient<_>, request| client.show_collections(request).await;
        let request = wire::ShowCollectionsRequest {};
        let told = self.call("listing collections", request, call, |answer| answer.status.as_ref()).await?;
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
        self.call("making a collection", request, call, |status| Some(status)).await.map(drop)
    }

    pub(super) async fn drop(&self, collection: &str) -> Result<(), CollectionError> {
        let call = async |mut client: MilvusServiceClient<_>, request| client.drop_collection(request).await;
        self.call("dropping a collection", named(collection), call, |status| Some(status)).await.map(drop)
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
        self.call("building an index", request, call, |status| Some(status)).await.map(drop)
    }

    pub(super) async fn load(&self, collection: &str) -> Result<(), CollectionError> {
        let call = async |mut client: MilvusServiceClient<_>, request| client.load_collection(request).await;
        self.call("loading a collection", named(collection), call, |status| Some(status)).await.map(drop)
    }

    pub(super) async fn is_loaded(&self, collection: &str) -> Result<bool, CollectionError> {
        let call = async |mut client: MilvusServiceClient<_>, request| client.get_load_state(request).await;
        let request = wire::GetLoadStateRequest { collection_name: collection.to_owned() };
        let told = self.call("loading a collection", request, call, |answer| answer.status.as_ref()).await?;
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
        self.call("writing vectors", request, call, |answer| answer.status.as_ref()).await.map(drop)
    }

    pub(super) async fn flush(&self, collection: &str) -> Result<(), CollectionError> {
        let call = async |mut client: MilvusServiceClient<_>, request| client.flush(request).await;
        let request = wire::FlushRequest { collection_names: vec![collection.to_owned()] };
        self.call("writing vectors", request, call, |answer| answer.status.as_ref()).await.map(drop)
    }

    /// How many vectors searches see.
    pub(super) async fn count(&self, collection: &str) -> Result<u64, CollectionError> {
        let told = self.query("counting vectors", collection, String::new(), &["count(*)"]).await?;
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
    ) -> Result<HashMap<u64, Vec<f32>>, CollectionError> {
        let filter = among(keys.iter().copied());
        let (mut found, mut vectors) = (Vec::new(), Vec::new());
        for field in self.query(READING_VECTORS, collection, filter, &[KEY, VECTOR]).await? {
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
    ) -> Result<Vec<wire::FieldData>, CollectionError> {
        let call = async |mut client: MilvusServiceClient<_>, request| client.query(request).await;
        let request = wire::QueryRequest {
            collection_name: collection.to_owned(),
            expr,
            output_fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            consistency_level: Level::Bounded.into(),
        };
        let told = self.call(doing, request, call, |answer| answer.status.as_ref());
        Ok(told.await?.fields_data)
    }

    /// The `limit` keys nearest to a vector, of those that `filter` allows; the index searches with these parameters.
    pub(super) async fn search(
        &self,
        collection: &str,
        query: &[f32],
        limit: usize,
        filter: String,
        with: String,
    ) -> Result<Vec<Hit>, CollectionError> {
        let group = wire::PlaceholderGroup {
            placeholders: vec![wire::PlaceholderValue {
                tag: "$0".to_owned(),
                r#type: wire::DataType::FloatVector.into(),
                values: vec![query.iter().flat_map(|value| value.to_le_bytes()).collect()],
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
            nq: 1,
            consistency_level: Level::Bounded.into(),
        };
        let call = async |mut client: MilvusServiceClient<_>, request| client.search(request).await;
        let told = self.call(SEARCHING, request, call, |answer| answer.status.as_ref()).await?;
        let wire::SearchResultData { scores, ids } = told.results.unwrap_or_default();
        let keys = match ids.and_then(|ids| ids.id_field) {
            Some(wire::ids::IdField::IntId(keys)) => keys.data,
            None => Vec::new(),
        };
        let hit = |(key, score): (i64, f32)| Hit { key: key.cast_unsigned(), score: score.clamp(-1.0, 1.0) };
        Ok(keys.into_iter().zip(scores).map(hit).collect())
    }
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

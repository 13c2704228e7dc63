//! The gRPC face of changes: convert, change, convert.

use std::sync::Arc;

use reverie_imaging::{Encoded, pool};
use reverie_proto::knowledge::v1 as messages;
use reverie_proto::knowledge::v1::knowledge_service_server::KnowledgeService;
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::{Context, Permit, Refusal, Violations};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status};

use crate::convert::Detail;
use crate::embedding::EmbeddingSearch;
use crate::knowledge_base::KnowledgeBase;
use crate::library::Library;
use crate::thumbnails::Thumbnails;
use crate::writing::{Change, NewEntry, SnapshotChange, Stored};

mod convert;

/// Searches that recall is measured with at most, as the vector service takes them.
const MAX_RECALL_QUERIES: u32 = 1000;

/// Takes changes.
pub(crate) struct Knowledge {
    library: Arc<Library>,
    embedding: EmbeddingSearch,
    thumbnails: Thumbnails,
    /// For changes, so that they leave places to searches.
    places: Arc<Semaphore>,
    max_changes: usize,
}

impl Knowledge {
    pub(crate) fn new(
        library: Arc<Library>,
        embedding: EmbeddingSearch,
        thumbnails: Thumbnails,
        max_changes: usize,
    ) -> Self {
        Self { library, embedding, thumbnails, places: Arc::new(Semaphore::new(max_changes)), max_changes }
    }

    /// Takes a place among the changes in flight.
    fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let most = self.max_changes;
            Refusal::overloaded(format!(
                "all {most} places for changes in flight are taken (limits.max_changes)"
            ))
        })
    }

    /// The vector of each entry: its own, or that of its image.
    async fn vectors(
        &self,
        context: Context,
        base: &KnowledgeBase,
        entries: &mut [messages::Entry],
    ) -> Result<Vec<Vec<f32>>, Status> {
        let mut violations = Violations::new();
        let mut vectors: Vec<Option<Vec<f32>>> = Vec::with_capacity(entries.len());
        let (mut images, mut places): (Vec<Image>, Vec<usize>) = (Vec::new(), Vec::new());
        for (place, entry) in entries.iter_mut().enumerate() {
            let image = entry.image.clone().unwrap_or_default();
            if let Some(vector) = entry.vector.take() {
                vectors.push(convert::vector(&mut violations, place, &vector, base)?);
                // The encoder, which would tell whether it can be decoded, does not see it.
                let decoded = match Encoded::read(&image) {
                    Ok(header) => pool::decode(header, |_| ()).await,
                    Err(error) => Err(error),
                };
                violations.take(format!("entries[{place}].image"), decoded);
            } else {
                vectors.push(None);
                images.push(image);
                places.push(place);
            }
        }
        violations.into_result()?;
        if !images.is_empty() {
            let own = |field: &str| convert::own_field(field, &places);
            let rows = self.embedding.embed_images(context, base, images, own).await?;
            for (place, row) in places.iter().zip(rows) {
                vectors[*place] = Some(row);
            }
        }
        let all: Option<Vec<_>> = vectors.into_iter().collect();
        all.ok_or_else(|| Refusal::internal("a vector was lost").into())
    }

    async fn delete(
        &self,
        (context, permit): (Context, Permit),
        name: &str,
        ids: Vec<String>,
        forget: bool,
    ) -> Result<Stored, Status> {
        let (live, writer) = self.library.writable(name)?;
        convert::check_ids(&ids, convert::MAX_DELETED)?;
        let _place = self.place()?;
        let work = async {
            let stored = writer.change(Change::Delete { ids, forget }, permit).await?;
            if forget {
                self.library.drop_older(live, &self.embedding).await;
                let forgotten = writer.has_forgotten(live, &stored).await;
                self.library.drop_older(live, &self.embedding).await;
                let unreadable = stored.told.unreadable.iter().cloned().map(Err);
                let all: Result<(), String> = unreadable.chain([forgotten]).collect();
                let is_left = |why| {
                    format!(
                        "they are deleted, but something of them is left: {why}; mend or remove it, and call again"
                    )
                };
                all.map_err(|why| Refusal::unavailable(is_left(why)))?;
            }
            Ok(stored)
        };
        let doing = if forget { "forgetting, which goes on" } else { "storing the change" };
        context.within(doing, work).await
    }

    async fn snapshot(
        &self,
        (context, permit): (Context, Permit),
        name: &str,
        change: SnapshotChange,
    ) -> Result<Stored, Status> {
        let (_, writer) = self.library.writable(name)?;
        let _place = self.place()?;
        context.within("storing the change", writer.change(Change::Snapshot(change), permit)).await
    }
}

/// The deadline of a call, and what it takes of the service.
fn of<T>(request: &Request<T>) -> (Context, Permit) {
    (Context::of(request), Permit::of(request))
}

#[tonic::async_trait]
impl KnowledgeService for Knowledge {
    async fn upsert_entries(
        &self,
        request: Request<messages::UpsertEntriesRequest>,
    ) -> Result<Response<messages::UpsertEntriesResponse>, Status> {
        let (context, permit) = of(&request);
        let messages::UpsertEntriesRequest { knowledge_base, mut entries } = request.into_inner();
        let (_, writer) = self.library.writable(&knowledge_base)?;
        let _place = self.place()?;
        let base = self.library.current(&knowledge_base)?;
        let labels = convert::labels(&entries)?;
        let work = async {
            let vectors = self.vectors(context, &base, &mut entries).await?;
            let images = entries.into_iter().map(|entry| entry.image.unwrap_or_default().data);
            let entries = labels.into_iter().zip(images).zip(vectors);
            let entries = entries.map(|((label, image), vector)| NewEntry { label, image, vector });
            writer.change(Change::Upsert(entries.collect()), permit).await
        };
        let Stored { manifest, told, .. } = context.within("storing the entries", work).await?;
        Ok(Response::new(messages::UpsertEntriesResponse {
            epoch: Some(convert::epoch(&manifest)),
            inserted: told.inserted,
            replaced: told.replaced,
        }))
    }

    async fn delete_entries(
        &self,
        request: Request<messages::DeleteEntriesRequest>,
    ) -> Result<Response<messages::DeleteEntriesResponse>, Status> {
        let call = of(&request);
        let messages::DeleteEntriesRequest { knowledge_base, ids } = request.into_inner();
        let Stored { manifest, told, .. } = self.delete(call, &knowledge_base, ids, false).await?;
        let (epoch, missing_ids) = (Some(convert::epoch(&manifest)), told.missing);
        Ok(Response::new(messages::DeleteEntriesResponse { epoch, missing_ids }))
    }

    async fn forget_entries(
        &self,
        request: Request<messages::ForgetEntriesRequest>,
    ) -> Result<Response<messages::ForgetEntriesResponse>, Status> {
        let call = of(&request);
        let messages::ForgetEntriesRequest { knowledge_base, ids } = request.into_inner();
        let told = self.delete(call, &knowledge_base, ids, true).await?.told;
        let base = self.library.current(&knowledge_base)?;
        let (epoch, missing_ids) = (Some(convert::epoch(&base.manifest)), told.missing);
        Ok(Response::new(messages::ForgetEntriesResponse { epoch, missing_ids }))
    }

    async fn batch_get_entries(
        &self,
        request: Request<messages::BatchGetEntriesRequest>,
    ) -> Result<Response<messages::BatchGetEntriesResponse>, Status> {
        let context = Context::of(&request);
        let permit = Permit::of(&request);
        let request = request.into_inner();
        let base = self.library.current(&request.knowledge_base)?;
        let detail = convert::wanted(&request)?;
        let (mut keys, mut missing_ids) = (Vec::new(), Vec::new());
        for id in request.ids {
            match base.key(&id) {
                Some(key) => keys.push(key),
                None => missing_ids.push(id),
            }
        }
        let work = async {
            let thumbnails = match detail {
                Detail::Thumbnail => self.thumbnails.of(&base, &keys).await?,
                Detail::None | Detail::Original => Vec::new(),
            };
            let epoch = Some(convert::epoch(&base.manifest));
            let read = move || Ok(convert::entries(&base, &keys, detail, thumbnails));
            let entries = permit.run_blocking(read).await?;
            Ok(Response::new(messages::BatchGetEntriesResponse { entries, missing_ids, epoch }))
        };
        context.within("retrieval", work).await
    }

    async fn get_knowledge_base(
        &self,
        request: Request<messages::GetKnowledgeBaseRequest>,
    ) -> Result<Response<messages::GetKnowledgeBaseResponse>, Status> {
        let context = Context::of(&request);
        let messages::GetKnowledgeBaseRequest { knowledge_base: name, recall_queries } = request.into_inner();
        let work = async {
            let mut violations = Violations::new();
            violations.in_range("recall_queries", Some(recall_queries), 0..=MAX_RECALL_QUERIES);
            violations.into_result()?;
            let base = self.library.current(&name)?;
            let is_writable = self.library.writable(&name).is_ok();
            let mut described = convert::describe(&base.manifest, is_writable);
            described.vector_memory_bytes = self.embedding.memory_bytes(context, &base).await;
            if recall_queries > 0 {
                described.recall = Some(self.embedding.recall(context, &base, recall_queries).await?);
            }
            Ok(Response::new(described))
        };
        context.within("retrieval", work).await
    }

    async fn create_snapshot(
        &self,
        request: Request<messages::CreateSnapshotRequest>,
    ) -> Result<Response<messages::CreateSnapshotResponse>, Status> {
        let call = of(&request);
        let messages::CreateSnapshotRequest { knowledge_base, snapshot } = request.into_inner();
        convert::check_snapshot(&snapshot)?;
        let change = SnapshotChange::Create(snapshot.clone());
        let stored = self.snapshot(call, &knowledge_base, change).await?;
        let created = stored.manifest.snapshots.get(&snapshot);
        let snapshot = created.map(|created| convert::snapshot(&snapshot, created));
        Ok(Response::new(messages::CreateSnapshotResponse { snapshot }))
    }

    async fn restore_snapshot(
        &self,
        request: Request<messages::RestoreSnapshotRequest>,
    ) -> Result<Response<messages::RestoreSnapshotResponse>, Status> {
        let call = of(&request);
        let messages::RestoreSnapshotRequest { knowledge_base, snapshot } = request.into_inner();
        convert::check_snapshot(&snapshot)?;
        let stored = self.snapshot(call, &knowledge_base, SnapshotChange::Restore(snapshot)).await?;
        let epoch = Some(convert::epoch(&stored.manifest));
        Ok(Response::new(messages::RestoreSnapshotResponse { epoch }))
    }

    async fn delete_snapshot(
        &self,
        request: Request<messages::DeleteSnapshotRequest>,
    ) -> Result<Response<messages::DeleteSnapshotResponse>, Status> {
        let call = of(&request);
        let messages::DeleteSnapshotRequest { knowledge_base, snapshot } = request.into_inner();
        convert::check_snapshot(&snapshot)?;
        self.snapshot(call, &knowledge_base, SnapshotChange::Delete(snapshot)).await?;
        Ok(Response::new(messages::DeleteSnapshotResponse {}))
    }
}

//! Callers of a mesh, and what became of each of their calls.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use reverie_proto::generation::v1::GenerateRequest;
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::generation_service_client::GenerationServiceClient;
use reverie_proto::knowledge::v1::knowledge_service_client::KnowledgeServiceClient;
use reverie_proto::knowledge::v1::{
    BatchGetEntriesRequest, DeleteEntriesRequest, Entry, ImageDetail, UpsertEntriesRequest,
};
use reverie_proto::retrieval::v1::RetrieveRequest;
use reverie_proto::retrieval::v1::retrieval_service_client::RetrievalServiceClient;
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::client::{MAX_INTERNAL_MESSAGE, Upstream};
use reverie_service_kit::{Address, Context, is_caused_by};
use tonic::{Status, TimeoutExpired};

use super::besieged::BASE;
use crate::requests::{PATIENCE, quick};
use crate::{Fallible, creatures};

/// What callers ask for: their images differ in size and seed alone, so that all can be known before.
const PROMPT: &str = "a small zunin on the left, snow";
const SIZES: [u32; 2] = [64, 256];
const SEEDS: std::ops::Range<u64> = 0..4;
/// How long callers wait, milliseconds.
const DEADLINES: [u64; 3] = [2000, 5000, 10_000];
/// After its deadline a call may take this long to be told of it.
const SLACK: Duration = Duration::from_secs(1);
/// Between two calls of a caller, milliseconds.
const PAUSE: std::ops::Range<u64> = 0..300;

/// What a caller does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Asks for an image.
    Draw {
        /// Pixels per side.
        size: u32,
        /// Its seed.
        seed: u64,
    },
    /// Searches a knowledge base that does not change.
    Search,
    /// Stores an entry in one that does, or deletes it.
    Change {
        /// Its id.
        id: String,
        /// Its caption from now on; none if it is deleted.
        caption: Option<String>,
    },
}

/// How a call ended.
#[derive(Debug)]
pub enum Outcome {
    /// With what was to be expected.
    Right,
    /// With something else.
    Wrong(String),
    /// With a status from the mesh, or with one that says that nobody is there.
    Refused(Status),
    /// With its connection.
    Broken(Status),
    /// By the caller's own timer, which runs until an answer begins.
    TimedOut,
    /// Not at all by its deadline.
    Unanswered,
}

impl Outcome {
    /// What kind of end it was.
    pub fn name(&self) -> String {
        match self {
            Self::Refused(status) => format!("{:?}", status.code()),
            Self::Right => "right".to_owned(),
            Self::Wrong(_) => "wrong".to_owned(),
            Self::Broken(_) => "connection broke".to_owned(),
            Self::TimedOut => "own timer".to_owned(),
            Self::Unanswered => "unanswered".to_owned(),
        }
    }

    /// Of a status that a call ended with here.
    fn of(status: Status) -> Self {
        if is_caused_by::<TimeoutExpired>(&status) {
            Self::TimedOut
        } else if std::error::Error::source(&status).is_some() {
            Self::Broken(status)
        } else {
            // It came over the wire.
            Self::Refused(status)
        }
    }
}

/// One call.
#[derive(Debug)]
pub struct Call {
    /// What it was.
    pub deed: Deed,
    /// When it began and ended.
    pub begun: Instant,
    /// See `begun`.
    pub ended: Instant,
    /// How it ended.
    pub outcome: Outcome,
}

/// An entry that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Its id.
    pub id: String,
    /// The captions that it may have, none if it may be deleted: one if the last change was acknowledged.
    pub possible: Vec<Option<String>>,
    /// The one that it has.
    pub found: Option<String>,
}

/// Callers of one door.
#[derive(Debug)]
pub struct Traffic {
    door: Upstream,
    images: BTreeMap<(u32, u64), Bytes>,
    found: Vec<String>,
    picture: Image,
    calls: Mutex<Vec<Call>>,
    /// The captions that each id may have.
    changed: Mutex<BTreeMap<String, Vec<Option<String>>>>,
    entries: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Traffic {
    /// Learns of a mesh that nothing happens to what its answers are.
    pub async fn learn(door: &Address) -> Fallible<Arc<Self>> {
        let picture = Image { data: creatures::entries().await?[0].image.clone(), ..Image::default() };
        let mut traffic = Self {
            door: Upstream::new("pipeline", door),
            images: BTreeMap::new(),
            found: Vec::new(),
            picture,
            calls: Mutex::default(),
            changed: Mutex::default(),
            entries: AtomicU64::new(0),
        };
        let context = || Context::with_timeout(PATIENCE);
        for size in SIZES {
            for seed in SEEDS {
                let image = traffic.draw(context(), quick(PROMPT, size, seed)).await?;
                if image.is_empty() {
                    return Err("no image comes".into());
                }
                traffic.images.insert((size, seed), image);
            }
        }
        traffic.found = traffic.search(context()).await?;
        if traffic.found.is_empty() {
            return Err("nothing is found".into());
        }
        Ok(Arc::new(traffic))
    }

    /// Calls until it is dropped.
    pub async fn go_on(self: Arc<Self>, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        // Entries that this caller alone changes, as long as it knows what they are.
        let mut own: Vec<String> = Vec::new();
        loop {
            let deed = match random.random_range(0..6) {
                0 => Deed::Search,
                1 => {
                    let (new, caption) = self.entry();
                    let known = if own.is_empty() { 0 } else { random.random_range(0..2) };
                    let again = (known > 0).then(|| own.swap_remove(random.random_range(0..own.len())));
                    let is_deleted = again.is_some() && random.random_bool(0.3);
                    Deed::Change { id: again.unwrap_or(new), caption: (!is_deleted).then_some(caption) }
                }
                _ => Deed::Draw {
                    size: *SIZES.choose(&mut random).unwrap_or(&64),
                    seed: random.random_range(SEEDS),
                },
            };
            let deadline = DEADLINES.choose(&mut random).copied().unwrap_or_default();
            let changed = if let Deed::Change { id, .. } = &deed { Some(id.clone()) } else { None };
            if self.call(deed, Duration::from_millis(deadline)).await {
                own.extend(changed);
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(PAUSE))).await;
        }
    }

    /// Whether every sort of call, one after the other, ends as it should.
    pub async fn all_is_well(&self) -> bool {
        let draws = SIZES.into_iter().flat_map(|size| SEEDS.map(move |seed| Deed::Draw { size, seed }));
        let (id, caption) = self.entry();
        for deed in draws.chain([Deed::Search, Deed::Change { id, caption: Some(caption) }]) {
            if !self.call(deed, PATIENCE).await {
                return false;
            }
        }
        true
    }

    /// The calls since this was asked last.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut lock(&self.calls))
    }

    /// Entries that were changed, and what is stored of them.
    pub async fn stored(&self) -> Fallible<Vec<Changed>> {
        let changed = lock(&self.changed).clone();
        let mut stored = BTreeMap::new();
        let ids: Vec<String> = changed.keys().cloned().collect();
        for ids in ids.chunks(64) {
            let request = BatchGetEntriesRequest {
                knowledge_base: BASE.to_owned(),
                ids: ids.to_vec(),
                images: ImageDetail::None.into(),
            };
            let mut client = KnowledgeServiceClient::new(self.door.channel());
            let answer = client.batch_get_entries(Context::with_timeout(PATIENCE).outgoing(request)).await?;
            stored.extend(answer.into_inner().entries.into_iter().map(|entry| (entry.id, entry.caption)));
        }
        let compared = changed.into_iter().map(|(id, possible)| {
            let found = stored.get(&id).cloned();
            Changed { id, possible, found }
        });
        Ok(compared.collect())
    }

    /// The id and the caption of an entry; no other one has either.
    fn entry(&self) -> (String, String) {
        let number = self.entries.fetch_add(1, Ordering::Relaxed);
        (format!("entry-{number}"), format!("a creature, number {number}"))
    }

    /// Makes one call and keeps what became of it; whether that was right.
    async fn call(&self, deed: Deed, timeout: Duration) -> bool {
        let (begun, context) = (Instant::now(), Context::with_timeout(timeout));
        let answer = async {
            Ok::<_, Status>(match &deed {
                Deed::Draw { size, seed } => {
                    let image = self.draw(context, quick(PROMPT, *size, *seed)).await?;
                    let is_right = self.images.get(&(*size, *seed)) == Some(&image);
                    (!is_right).then(|| format!("another image of {size} px and seed {seed}"))
                }
                Deed::Search => {
                    let found = self.search(context).await?;
                    (found != self.found).then(|| format!("{found:?} and not {:?}", self.found))
                }
                Deed::Change { id, caption } => {
                    self.store(context, id, caption.as_deref()).await.map(|()| None)?
                }
            })
        };
        let outcome = match tokio::time::timeout(timeout + SLACK, answer).await {
            Ok(Ok(None)) => Outcome::Right,
            Ok(Ok(Some(wrong))) => Outcome::Wrong(wrong),
            Ok(Err(status)) => Outcome::of(status),
            Err(_) => Outcome::Unanswered,
        };
        let is_right = matches!(outcome, Outcome::Right);
        lock(&self.calls).push(Call { deed, begun, ended: Instant::now(), outcome });
        is_right
    }

    async fn draw(&self, context: Context, request: GenerateRequest) -> Result<Bytes, Status> {
        let mut client =
            GenerationServiceClient::new(self.door.channel()).max_decoding_message_size(MAX_INTERNAL_MESSAGE);
        let mut news = client.generate(context.outgoing(request)).await?.into_inner();
        let (mut image, mut is_completed) = (Bytes::new(), false);
        while let Some(message) = news.message().await? {
            match message.event {
                Some(Event::Image(drawn)) => image = drawn.image.unwrap_or_default().data,
                Some(Event::Completed(_)) => is_completed = true,
                _ => {}
            }
        }
        if !is_completed {
            image.clear();
        }
        Ok(image)
    }

    async fn search(&self, context: Context) -> Result<Vec<String>, Status> {
        let request = RetrieveRequest {
            text: PROMPT.to_owned(),
            limit: 4,
            images: ImageDetail::None.into(),
            ..RetrieveRequest::default()
        };
        let mut client = RetrievalServiceClient::new(self.door.channel());
        let found = client.retrieve(context.outgoing(request)).await?.into_inner();
        Ok(found.neighbours.into_iter().map(|neighbour| neighbour.id).collect())
    }

    async fn store(&self, context: Context, id: &str, caption: Option<&str>) -> Result<(), Status> {
        let caption = caption.map(str::to_owned);
        lock(&self.changed).entry(id.to_owned()).or_insert_with(|| vec![None]).push(caption.clone());
        let (mut client, knowledge_base) =
            (KnowledgeServiceClient::new(self.door.channel()), BASE.to_owned());
        if let Some(caption) = caption.clone() {
            let image = Some(self.picture.clone());
            let entries = vec![Entry { id: id.to_owned(), caption, image, ..Entry::default() }];
            let request = UpsertEntriesRequest { knowledge_base, entries };
            client.upsert_entries(context.outgoing(request)).await?;
        } else {
            let request = DeleteEntriesRequest { knowledge_base, ids: vec![id.to_owned()] };
            client.delete_entries(context.outgoing(request)).await?;
        }
        lock(&self.changed).insert(id.to_owned(), vec![caption]);
        Ok(())
    }
}

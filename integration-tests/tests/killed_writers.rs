//! Whatever is acknowledged survives: the services of a knowledge base are killed at random moments while it is written to, and
//! afterwards nothing is lost, nothing is there twice, and nothing is left of what was forgotten.
//!
//! `REVERIE_KILLS` sets how often (100 otherwise), `REVERIE_SEED` which moments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reverie_integration_tests::processes::Process;
use reverie_integration_tests::requests::PATIENCE;
use reverie_integration_tests::{Fallible, creatures, folders, number};
use reverie_knowledge::Epochs;
use reverie_knowledge::epoch::{VectorKind, write_empty};
use reverie_proto::knowledge::v1::knowledge_service_client::KnowledgeServiceClient;
use reverie_proto::knowledge::v1::{
    DeleteEntriesRequest, Entry, ForgetEntriesRequest, ImageDetail, QueryVector, RetrievalStrategy,
    UpsertEntriesRequest,
};
use reverie_proto::retrieval::v1::RetrieveRequest;
use reverie_proto::retrieval::v1::retrieval_service_client::RetrievalServiceClient;
use reverie_proto::retrieval::v1::retrieve_request::Embed;
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::client::{Channel, Upstream};
use reverie_service_kit::{Address, Context};
use reverie_storage::Folder;
use tonic::Code;

const BASE: &str = "birds";
const DIMENSION: u32 = 8;
/// Ids that are written again and again.
const IDS: u32 = 40;

/// What an id may be, given what was acknowledged of it: of a change that was not acknowledged, nobody knows.
type Possible = BTreeSet<Option<u64>>;

struct Writing {
    client: KnowledgeServiceClient<Channel>,
    image: Image,
    draw: StdRng,
    model: BTreeMap<String, Possible>,
    /// By id, the versions that there may be something of.
    sent: BTreeMap<String, BTreeSet<u64>>,
    /// What must be nowhere: an id, and a version of it.
    forgotten: BTreeSet<(String, u64)>,
    version: u64,
    acknowledged: usize,
}

impl Writing {
    /// Writes until a call fails.
    async fn until_it_fails(&mut self) -> Fallible<()> {
        loop {
            let ids: BTreeSet<String> = (0..self.draw.random_range(1..4))
                .map(|_| format!("e{}", self.draw.random_range(0..IDS)))
                .collect();
            self.version += 1;
            let context = Context::with_timeout(PATIENCE);
            let (now, outcome) = match self.draw.random_range(0..8) {
                0 | 1 => {
                    let ids = ids.iter().cloned().collect();
                    let request = DeleteEntriesRequest { knowledge_base: BASE.to_owned(), ids };
                    (None, self.client.delete_entries(context.outgoing(request)).await.map(drop))
                }
                2 => {
                    let listed = ids.iter().cloned().collect();
                    let request = ForgetEntriesRequest { knowledge_base: BASE.to_owned(), ids: listed };
                    let forgotten = self.client.forget_entries(context.outgoing(request)).await;
                    if forgotten.is_ok() {
                        for id in &ids {
                            let versions = self.sent.remove(id).unwrap_or_default();
                            self.forgotten.extend(versions.into_iter().map(|version| (id.clone(), version)));
                        }
                    }
                    (None, forgotten.map(drop))
                }
                _ => {
                    for id in &ids {
                        self.sent.entry(id.clone()).or_default().insert(self.version);
                    }
                    let entries = ids.iter().map(|id| self.entry(id)).collect();
                    let request = UpsertEntriesRequest { knowledge_base: BASE.to_owned(), entries };
                    let stored = self.client.upsert_entries(context.outgoing(request)).await;
                    (Some(self.version), stored.map(drop))
                }
            };
            for id in ids {
                let possible = self.model.entry(id).or_insert_with(|| BTreeSet::from([None]));
                if outcome.is_ok() {
                    possible.clear();
                }
                possible.insert(now);
            }
            match outcome {
                Ok(()) => self.acknowledged += 1,
                Err(status)
                    if matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown) =>
                {
                    return Ok(());
                }
                Err(status) => return Err(status.into()),
            }
        }
    }

    fn entry(&self, id: &str) -> Entry {
        Entry {
            id: id.to_owned(),
            caption: format!("a zunin, version {}", self.version),
            attribution: mark(id, self.version),
            image: Some(self.image.clone()),
            vector: Some(QueryVector { values: vector(id), ..QueryVector::default() }),
            ..Entry::default()
        }
    }
}

/// What tells a version of an entry from all others, in its files.
fn mark(id: &str, version: u64) -> String {
    format!("entry {id} of version {version}.")
}

fn vector(id: &str) -> Vec<f32> {
    let place = id[1..].parse::<usize>().unwrap_or_default();
    (0..DIMENSION as usize).map(|at| ((place * 7 + at * 13) % 29) as f32 + 1.0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_services_are_killed() -> Fallible<()> {
    let (kills, seed) = (number("REVERIE_KILLS", 100)?, number("REVERIE_SEED", 1)?);
    println!("{kills} kills, seed {seed}");
    let directory = tempfile::tempdir()?;
    let location = directory.path().display().to_string();
    let folder = Folder::open(&location)?;
    write_empty(&folder, BASE.to_owned(), String::new(), DIMENSION, VectorKind::F16, "a".repeat(64)).await?;
    let bases = [
        format!("knowledge_bases.{BASE}={location:?}"),
        "knowledge_bases.creatures=\"\"".to_owned(),
        "epochs.refresh_ms=20".to_owned(),
    ];
    let mut vector_service = Process::start("vector", &bases).await?;
    let own = [
        format!("default_knowledge_base={BASE:?}"),
        format!("writable=[{BASE:?}]"),
        format!("stages.vector={:?}", vector_service.url()),
        // Vectors come with the entries.
        "stages.encoder=\"http://127.0.0.1:9\"".to_owned(),
    ];
    let mut retrieval = Process::start("retrieval", &[&bases[..], &own].concat()).await?;
    let client = |retrieval: &Process| -> Fallible<_> {
        let address: Address = retrieval.address()?;
        Ok(KnowledgeServiceClient::new(Upstream::new("retrieval", &address).channel()))
    };
    let image = Image { data: creatures::entries().await?[0].image.clone(), ..Image::default() };
    let mut writing = Writing {
        client: client(&retrieval)?,
        image,
        draw: StdRng::seed_from_u64(seed),
        model: BTreeMap::new(),
        sent: BTreeMap::new(),
        forgotten: BTreeSet::new(),
        version: 0,
        acknowledged: 0,
    };
    let mut moments = StdRng::seed_from_u64(seed + 1);
    for kill in 0..kills {
        if kill % 10 == 9 {
            vector_service.kill().await?;
            vector_service.start_again().await?;
        }
        let moment = Duration::from_millis(moments.random_range(0..250));
        let killed = async {
            tokio::time::sleep(moment).await;
            retrieval.kill().await
        };
        let (wrote, killed) = tokio::join!(writing.until_it_fails(), killed);
        wrote?;
        killed?;
        retrieval.begin_again().await?;
        writing.client = client(&retrieval)?;
    }
    println!("{} changes were acknowledged", writing.acknowledged);
    // Most lives are too short for one, on a busy machine.
    assert!(4 * writing.acknowledged as u64 > kills, "{} changes in {kills} lives", writing.acknowledged);

    // What is stored is what was acknowledged.
    let manifest = Epochs::new(folder.clone()).latest().await?;
    let mut stored: BTreeMap<String, u64> = BTreeMap::new();
    for entry in manifest.read_entries(&folder).await? {
        let version =
            entry.caption.rsplit(' ').next().and_then(|text| text.parse().ok()).ok_or("no version")?;
        assert!(stored.insert(entry.id.clone(), version).is_none(), "{} is there twice", entry.id);
    }
    for (id, possible) in &writing.model {
        let found = stored.get(id).copied();
        assert!(possible.contains(&found), "{id} is {found:?}, not one of {possible:?}");
    }
    assert!(stored.keys().all(|id| writing.model.contains_key(id)));

    // And what is found is what is stored, by its words and by its vector.
    let mut search = RetrievalServiceClient::new(Upstream::new("retrieval", &retrieval.address()?).channel());
    for (text, embed, strategy) in
        [("a zunin", None, RetrievalStrategy::Bm25), ("", Some(vector("e1")), RetrievalStrategy::Embedding)]
    {
        let embed = embed.map(|values| Embed::Vector(QueryVector { values, ..QueryVector::default() }));
        let request = RetrieveRequest {
            text: text.to_owned(),
            limit: 100,
            strategy: strategy.into(),
            images: ImageDetail::None.into(),
            embed,
            ..RetrieveRequest::default()
        };
        let found = search.retrieve(Context::with_timeout(PATIENCE).outgoing(request)).await?.into_inner();
        let found: Vec<String> = found.neighbours.into_iter().map(|neighbour| neighbour.id).collect();
        let different: BTreeSet<&String> = found.iter().collect();
        assert_eq!(different.len(), found.len(), "{strategy:?} finds an entry twice");
        assert_eq!(different, stored.keys().collect(), "{strategy:?}");
    }

    // And nothing is left of what was forgotten, once nobody removes files any more.
    retrieval.kill().await?;
    println!("{} versions of entries were forgotten", writing.forgotten.len());
    assert!(!writing.forgotten.is_empty());
    for (id, version) in &writing.forgotten {
        let holding = folders::holding(directory.path(), mark(id, *version).as_bytes())?;
        assert!(holding.is_empty(), "version {version} of {id} is still in {holding:?}");
    }
    Ok(())
}

//! Knowledge bases that change while the mesh serves: what is stored is found and drawn with, what is deleted is not, and whoever
//! searches meanwhile sees one epoch.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use reverie::Failure;
use reverie::mesh::{Mesh, MeshArguments, MeshSettings};
use reverie_integration_tests::creatures::{self, name_of};
use reverie_integration_tests::requests::{PATIENCE, draw, neighbour_ids, quick};
use reverie_integration_tests::{BUNDLE, Fallible, bases, folders};
use reverie_knowledge::epoch::Entry as Kept;
use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::{GenerateRequest, Retrieval};
use reverie_proto::knowledge::v1::knowledge_service_client::KnowledgeServiceClient;
use reverie_proto::knowledge::v1::metadata_value::Kind;
use reverie_proto::knowledge::v1::{
    BatchGetEntriesRequest, CreateSnapshotRequest, DeleteEntriesRequest, Entry, ForgetEntriesRequest,
    GetKnowledgeBaseRequest, ImageDetail, MetadataValue, QueryVector, RestoreSnapshotRequest,
    RetrievalStrategy, UpsertEntriesRequest, UpsertEntriesResponse,
};
use reverie_proto::retrieval::v1::RetrieveRequest;
use reverie_proto::retrieval::v1::retrieval_service_client::RetrievalServiceClient;
use reverie_proto::tensor::v1::{Image, ImageFormat};
use reverie_service_kit::client::{Channel, Upstream};
use reverie_service_kit::{Address, Context};
use reverie_storage::sha256_hex;
use tempfile::TempDir;
use tonic::{Code, Status};

const BASE: &str = "birds";

/// A mesh with a knowledge base that is empty and can be changed, and one that cannot.
struct Live {
    mesh: Mesh,
    folder: TempDir,
    client: KnowledgeServiceClient<Channel>,
}

impl Live {
    async fn start() -> Fallible<Self> {
        let folder = tempfile::tempdir()?;
        let location = folder.path().display().to_string();
        bases::create(folder.path(), BASE).await?;
        let mesh = mesh(location, None).await?;
        let client = knowledge(&mesh);
        Ok(Self { mesh, folder, client })
    }

    async fn upsert(&self, entries: Vec<Entry>) -> Result<UpsertEntriesResponse, Status> {
        let request = UpsertEntriesRequest { knowledge_base: BASE.to_owned(), entries };
        let mut client = self.client.clone();
        let stored = client.upsert_entries(Context::with_timeout(PATIENCE).outgoing(request));
        stored.await.map(tonic::Response::into_inner)
    }

    async fn found(&self, text: &str, strategy: RetrievalStrategy) -> Result<Vec<String>, Status> {
        search(self.mesh.pipeline(), text, strategy).await
    }
}

/// A mesh with the knowledge base at this location. It looks for later epochs so often, in milliseconds.
async fn mesh(location: String, refresh_ms: Option<u64>) -> Fallible<Mesh> {
    let arguments = MeshArguments {
        bundle: BUNDLE.to_owned(),
        knowledge_bases: vec![(BASE.to_owned(), location)],
        ..MeshArguments::default()
    };
    let mut settings = MeshSettings::load(&arguments).await?;
    let (retrieval, vector) = settings.memory.as_mut().ok_or("no knowledge bases")?;
    retrieval.writable.insert(BASE.to_owned());
    for epochs in [&mut retrieval.epochs, &mut vector.epochs] {
        epochs.refresh_ms = refresh_ms.unwrap_or(epochs.refresh_ms);
    }
    Mesh::start(settings).await
}

fn knowledge(mesh: &Mesh) -> KnowledgeServiceClient<Channel> {
    KnowledgeServiceClient::new(Upstream::new("pipeline", mesh.pipeline()).channel())
}

async fn search(pipeline: &Address, text: &str, strategy: RetrievalStrategy) -> Result<Vec<String>, Status> {
    let request = RetrieveRequest {
        knowledge_base: BASE.to_owned(),
        text: text.to_owned(),
        limit: 20,
        strategy: strategy.into(),
        images: ImageDetail::None.into(),
        ..RetrieveRequest::default()
    };
    let mut client = RetrievalServiceClient::new(Upstream::new("pipeline", pipeline).channel());
    let found = client.retrieve(Context::with_timeout(PATIENCE).outgoing(request)).await?.into_inner();
    Ok(found.neighbours.into_iter().map(|neighbour| neighbour.id).collect())
}

fn entry(kept: &Kept) -> Entry {
    Entry {
        id: kept.id.clone(),
        caption: kept.caption.clone(),
        image: Some(Image { data: kept.image.clone(), ..Image::default() }),
        attribution: "drawn by a program".to_owned(),
        metadata: [("year".to_owned(), MetadataValue { kind: Some(Kind::Number(2026.0)) })].into(),
        ..Entry::default()
    }
}

/// Views of three creatures.
async fn views() -> Fallible<Vec<Kept>> {
    let names = creatures::names(3).await?;
    let mut entries = creatures::entries().await?;
    entries.retain(|entry| name_of(&entry.id).is_some_and(|name| names.iter().any(|known| known == name)));
    Ok(entries)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_found_and_drawn_with_and_what_is_deleted_is_not() -> Fallible<()> {
    let live = Live::start().await?;
    let views = views().await?;
    let name = name_of(&views[0].id).ok_or("no name")?.to_owned();
    let own: BTreeSet<String> =
        views.iter().filter(|view| name_of(&view.id) == Some(&name)).map(|view| view.id.clone()).collect();
    let prompt = format!("a small {name} on the left, snow");
    let hybrid = RetrievalStrategy::Hybrid;
    assert!(live.found(&prompt, hybrid).await?.is_empty(), "it is empty at first");

    let stored = live.upsert(views.iter().map(entry).collect()).await?;
    assert_eq!((stored.inserted as usize, stored.replaced), (views.len(), 0));
    for strategy in [hybrid, RetrievalStrategy::Bm25, RetrievalStrategy::Embedding] {
        let found: BTreeSet<String> = live.found(&prompt, strategy).await?.into_iter().collect();
        assert!(found.is_superset(&own), "{strategy:?}: {found:?}");
    }
    let request = || GenerateRequest {
        memory: Some(Memory::Retrieval(Retrieval {
            knowledge_base: BASE.to_owned(),
            ..Retrieval::default()
        })),
        ..quick(&prompt, 64, 5)
    };
    let drawn = draw(live.mesh.pipeline(), request()).await?;
    assert!(neighbour_ids(&drawn).iter().all(|id| own.contains(*id)), "{:?}", neighbour_ids(&drawn));

    let mut client = live.client.clone();
    let known = client
        .batch_get_entries(BatchGetEntriesRequest {
            knowledge_base: BASE.to_owned(),
            ids: vec![views[1].id.clone(), "none".to_owned()],
            images: ImageDetail::Original.into(),
        })
        .await?
        .into_inner();
    assert_eq!(known.missing_ids, ["none"]);
    let told = &known.entries[0];
    assert_eq!(told.image.as_ref().map(|image| &image.data), Some(&views[1].image));
    assert_eq!(told.image_sha256, sha256_hex(&views[1].image));
    assert_eq!((&told.caption, told.metadata.len()), (&views[1].caption, 1));

    let snapshot = CreateSnapshotRequest { knowledge_base: BASE.to_owned(), snapshot: "all".to_owned() };
    client.create_snapshot(snapshot).await?;
    let ids: Vec<String> = own.iter().cloned().collect();
    let delete = DeleteEntriesRequest { knowledge_base: BASE.to_owned(), ids: ids.clone() };
    let deleted = client.delete_entries(delete.clone()).await?.into_inner();
    assert!(deleted.missing_ids.is_empty());
    for strategy in [hybrid, RetrievalStrategy::Bm25, RetrievalStrategy::Embedding] {
        let found = live.found(&prompt, strategy).await?;
        assert!(found.iter().all(|id| !own.contains(id)), "{strategy:?}: {found:?}");
    }
    assert_eq!(client.delete_entries(delete).await?.into_inner().missing_ids, ids);
    let restore = RestoreSnapshotRequest { knowledge_base: BASE.to_owned(), snapshot: "all".to_owned() };
    client.restore_snapshot(restore).await?;
    let again = draw(live.mesh.pipeline(), request()).await?;
    assert!(again.image == drawn.image, "the same entries, the same image");

    let forget = ForgetEntriesRequest { knowledge_base: BASE.to_owned(), ids };
    client.forget_entries(forget).await?;
    assert!(live.found(&prompt, hybrid).await?.is_empty());
    let request = GetKnowledgeBaseRequest { knowledge_base: BASE.to_owned(), recall_queries: 20 };
    let told = client.get_knowledge_base(request).await?.into_inner();
    assert_eq!(told.vectors, "f32");
    assert!(told.vector_memory_bytes.is_some_and(|bytes| bytes > 0), "{told:?}");
    let recall = told.recall.ok_or("no recall was told")?;
    assert!(recall.queries == 20 && recall.recall > 0.99, "{recall:?}");
    assert_eq!(told.epoch.map(|epoch| epoch.size), Some((views.len() - own.len()) as u64));
    assert!(told.is_writable && told.segments.iter().all(|segment| !segment.is_forgetting));
    for kept in views.iter().filter(|view| own.contains(&view.id)) {
        let holding = folders::holding(live.folder.path(), &kept.image)?;
        assert!(holding.is_empty(), "{} is still in {holding:?}", kept.id);
    }
    live.mesh.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_refused_by_its_field_and_nothing_is() -> Fallible<()> {
    let live = Live::start().await?;
    let good = entry(&views().await?[0]);
    let with = |change: &dyn Fn(&mut Entry)| {
        let mut entry = Entry { id: "other".to_owned(), ..good.clone() };
        change(&mut entry);
        vec![good.clone(), entry]
    };
    let torn = Image { data: good.image.clone().unwrap_or_default().data.slice(..200), ..Image::default() };
    let raw =
        Image { format: ImageFormat::Rgb8.into(), width: 8, height: 8, data: vec![0; 8 * 8 * 3].into() };
    let vector = |values: Vec<f32>, space: &str| Some(QueryVector { values, space_digest: space.to_owned() });
    let cases = [
        (Vec::new(), "entries: must be 1 to 64 entries (got 0)"),
        (vec![good.clone(); 65], "entries: must be 1 to 64 entries (got 65)"),
        (with(&|entry| entry.id = good.id.clone()), "entries[1].id: must occur once"),
        (with(&|entry| entry.id.clear()), "entries[1].id: id must be 1 to 256 bytes"),
        (with(&|entry| entry.caption = " ".to_owned()), "entries[1].caption: caption must not be empty"),
        (with(&|entry| entry.attribution = "\u{7}".to_owned()), "entries[1].attribution"),
        (with(&|entry| entry.image = None), "entries[1].image"),
        (with(&|entry| entry.image = Some(torn.clone())), "entries[1].image"),
        (with(&|entry| entry.image = Some(raw.clone())), "entries[1].image: must be PNG, JPEG or WebP"),
        (
            with(&|entry| entry.metadata.values_mut().for_each(|value| value.kind = None)),
            "entries[1].metadata",
        ),
        (with(&|entry| entry.vector = vector(vec![1.0; 3], "")), "entries[1].vector.values: must have"),
        (
            with(&|entry| entry.vector = vector(vec![f32::NAN; 128], "")),
            "entries[1].vector.values: must be finite",
        ),
    ];
    for (entries, told) in cases {
        let status = live.upsert(entries).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(told), "{} is not {told}", status.message());
    }
    let foreign =
        live.upsert(with(&|entry| entry.vector = vector(vec![1.0; 128], "another"))).await.unwrap_err();
    assert_eq!(foreign.code(), Code::FailedPrecondition, "{foreign}");

    let mut client = live.client.clone();
    let request =
        |name: &str| UpsertEntriesRequest { knowledge_base: name.to_owned(), entries: vec![good.clone()] };
    let fixed = client.upsert_entries(request("creatures")).await.unwrap_err();
    assert_eq!(fixed.code(), Code::FailedPrecondition, "{fixed}");
    assert!(fixed.message().contains("`writable`"), "{fixed}");
    let unknown = client.upsert_entries(request("fishes")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
    for ids in [Vec::new(), vec![String::new()], vec!["x".to_owned(); 1001]] {
        let request = DeleteEntriesRequest { knowledge_base: BASE.to_owned(), ids };
        let status = client.delete_entries(request).await.unwrap_err();
        assert!(status.code() == Code::InvalidArgument && status.message().contains("ids"), "{status}");
    }
    let request = RestoreSnapshotRequest { knowledge_base: BASE.to_owned(), snapshot: "Übung".to_owned() };
    let status = client.restore_snapshot(request).await.unwrap_err();
    assert!(status.message().contains("snapshot: a name must be"), "{status}");
    let request = GetKnowledgeBaseRequest { knowledge_base: BASE.to_owned(), recall_queries: 0 };
    let told = client.get_knowledge_base(request).await?.into_inner();
    assert_eq!(told.epoch.map(|epoch| (epoch.number, epoch.size)), Some((1, 0)), "nothing was stored");
    live.mesh.shutdown().await;
    Ok(())
}

/// What cannot be read of one knowledge base is told, and stops nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn damage_of_one_knowledge_base_is_told_and_stops_nothing_else() -> Fallible<()> {
    let live = Live::start().await?;
    let views = views().await?;
    let location = live.folder.path().display().to_string();
    let ids = |views: &[Kept]| views.iter().map(|view| view.id.clone()).collect::<BTreeSet<_>>();
    let found = async |mesh: &Mesh| {
        let found = search(mesh.pipeline(), &views[0].caption, RetrievalStrategy::Embedding).await?;
        Ok::<_, Status>(found.into_iter().collect::<BTreeSet<_>>())
    };
    live.upsert(vec![entry(&views[0])]).await?;
    // It does not look for later epochs by itself.
    let behind = mesh(location.clone(), Some(60_000)).await?;
    live.upsert(vec![entry(&views[1])]).await?;
    let request = GetKnowledgeBaseRequest { knowledge_base: BASE.to_owned(), recall_queries: 0 };
    let told = live.client.clone().get_knowledge_base(request).await?.into_inner();
    let segment = &told.segments.last().ok_or("no segment")?.name;
    let file = live.folder.path().join(format!("segments/{segment}/vectors.usearch"));
    let good = std::fs::read(&file)?;
    std::fs::write(&file, "something else")?;

    let request = UpsertEntriesRequest { knowledge_base: BASE.to_owned(), entries: vec![entry(&views[2])] };
    let refused = knowledge(&behind).upsert_entries(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains(&file.display().to_string()), "{refused}");
    assert_eq!(found(&behind).await?, ids(&views[..1]), "it goes on with what it has");
    assert_eq!(found(&live.mesh).await?, ids(&views[..2]), "and so does the other");

    let later = mesh(location, None).await?;
    let refused = found(&later).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains(&file.display().to_string()), "{refused}");
    let creatures =
        Memory::Retrieval(Retrieval { knowledge_base: "creatures".to_owned(), ..Retrieval::default() });
    let request = GenerateRequest { memory: Some(creatures), ..quick(&views[0].caption, 64, 5) };
    assert!(!neighbour_ids(&draw(later.pipeline(), request).await?).is_empty());
    // Mended while it serves.
    std::fs::write(&file, good)?;
    let begun = Instant::now();
    while found(&later).await.is_err() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(found(&later).await?, ids(&views[..2]));
    for mesh in [live.mesh, behind, later] {
        mesh.shutdown().await;
    }
    Ok(())
}

/// Both entries of a pair are always stored, replaced and deleted together.
#[tokio::test(flavor = "multi_thread")]
async fn searches_meanwhile_see_one_epoch_and_no_error() -> Fallible<()> {
    const ROUNDS: usize = 60;
    let live = Live::start().await?;
    let picture = entry(&views().await?[0]);
    let pair = |round: usize| {
        let one = |side: &str| Entry {
            id: format!("{side}-{}", round % 20),
            caption: format!("a zunin{} {side} in the snow", round % 20),
            vector: Some(QueryVector {
                values: (0..128).map(|place| if place == round % 128 { 1.0 } else { 0.01 }).collect(),
                ..QueryVector::default()
            }),
            ..picture.clone()
        };
        vec![one("left"), one("right")]
    };
    let done = AtomicBool::new(false);
    let write = async {
        for round in 0..ROUNDS {
            live.upsert(pair(round)).await?;
            if round % 5 == 4 {
                let ids = pair(round).into_iter().map(|entry| entry.id).collect();
                let request = DeleteEntriesRequest { knowledge_base: BASE.to_owned(), ids };
                live.client.clone().delete_entries(request).await?;
            }
        }
        done.store(true, Ordering::Relaxed);
        Ok::<_, Failure>(0)
    };
    let look = async |number: usize| {
        let mut searches = 0;
        while !done.load(Ordering::Relaxed) {
            let strategy = [RetrievalStrategy::Hybrid, RetrievalStrategy::Bm25][searches % 2];
            let name = format!("zunin{}", (number + searches) % 20);
            let mut found = search(live.mesh.pipeline(), &format!("a {name}, snow"), strategy).await?;
            found.sort();
            let of_it: Vec<&str> =
                found.iter().filter_map(|id| id.split_once('-')).map(|(side, _)| side).collect();
            assert!(of_it.len().is_multiple_of(2), "half of a pair: {found:?}");
            searches += 1;
        }
        Ok(searches)
    };
    let looking = try_join_all((0..3).map(look));
    let (_, searches) = futures::future::try_join(write, looking).await?;
    assert!(searches.iter().sum::<usize>() > 3 * ROUNDS / 10, "{searches:?}");
    live.mesh.shutdown().await;
    Ok(())
}

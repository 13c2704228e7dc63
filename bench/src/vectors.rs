//! `reverie-bench vectors`: the vector service against its index in this process.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::try_join_all;
use futures::stream::FuturesUnordered;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reverie::Failure;
use reverie_knowledge::UnitVector;
use reverie_knowledge::epoch::{Label, Metadata, NewEpoch, VectorKind, write_epoch_from};
use reverie_knowledge::index::{Searches, SegmentIndex, build_index};
use reverie_proto::vector::v1::vector_service_client::VectorServiceClient;
use reverie_proto::vector::v1::{BatchSearchRequest, SearchRequest, Vector};
use reverie_service_kit::client::{Channel, Upstream};
use reverie_service_kit::output::OutputError;
use reverie_service_kit::settings::{Sources, load};
use reverie_service_kit::{Address, Listener, Shutdown, say};
use reverie_storage::{Folder, StorageError};
use roaring::RoaringBitmap;
use serde_json::json;

/// Widths of the search along the graph (`search.expansion`) that are compared.
const EXPANSIONS: [usize; 6] = [32, 64, 128, 256, 512, 1024];
/// Nearest entries that are asked for.
const NEAREST: usize = 10;
const BATCH: usize = 32;
/// Vectors gather around so many centres for each thousand of them, as far from a centre as it is long.
const CENTRES_PER_THOUSAND: usize = 4;
const SPREAD: f32 = 1.0;
/// Queries whose nearest entries are looked for by an exact search.
const EXACT_QUERIES: usize = 200;
const SPACE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const NAME: &str = "bench";
const PATIENCE: Duration = Duration::from_mins(10);

/// Measures the vector service against its index in this process: building, loading, recall, searches one by one and in batches,
/// through filters, and at half of what it can do.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Vectors.
    #[arg(long, default_value_t = 100_000)]
    count: usize,
    /// Length of each.
    #[arg(long, default_value_t = 256)]
    dimension: usize,
    /// What they are stored as.
    #[arg(long, default_value = "f16")]
    vectors: VectorKind,
    /// Vectors that a search keeps in view: the service's setting `search.expansion`.
    #[arg(long, default_value_t = Searches::ONE.expansion)]
    expansion: usize,
    /// Queries.
    #[arg(long, default_value_t = 2000)]
    queries: usize,
    /// Seconds of searches at half load.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Also writes the vectors and the queries here, as `vectors.f32` and `queries.f32` (little-endian), for bench/peers/vectors.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Prints one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { count, dimension, vectors: kind, queries, .. } = arguments;
    if count == 0 || dimension == 0 || queries == 0 {
        return Err("--count, --dimension and --queries must be 1 or more".into());
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (rows, queries) = draw(count, dimension, queries);
    if let Some(folder) = &arguments.out {
        std::fs::create_dir_all(folder)?;
        store(&folder.join("vectors.f32"), &rows)?;
        store(&folder.join("queries.f32"), &queries)?;
    }
    let begun = Instant::now();
    let vectors = tokio::task::block_in_place(|| build_index(dimension as u32, kind, &rows, threads))?;
    let (build, file_bytes) = (begun.elapsed(), vectors.index.len());
    drop(rows);
    let begun = Instant::now();
    let searches = Searches { threads, expansion: arguments.expansion };
    let load = || SegmentIndex::load(&vectors, count as u64, dimension as u32, searches);
    let mut index = tokio::task::block_in_place(load)?;
    let loaded = begun.elapsed();
    let units: Result<Vec<UnitVector>, String> =
        queries.iter().map(|query| UnitVector::new(query, dimension as u32)).collect();
    let within = tokio::task::block_in_place(|| Within::measure(&mut index, &units?, searches))?;
    drop(index);

    let folder = tempfile::tempdir()?;
    let location = folder.path().to_str().ok_or("the temporary folder has no name in UTF-8")?;
    let label = |number: usize| Label {
        id: number.to_string(),
        caption: "a vector".to_owned(),
        attribution: String::new(),
        metadata: Metadata::new(),
    };
    let epoch = NewEpoch {
        name: NAME.to_owned(),
        description: String::new(),
        epoch: 1,
        dimension: dimension as u32,
        kind,
        space_digest: SPACE.to_owned(),
        entries: (0..count).map(label).collect(),
        vectors,
    };
    let images = futures::stream::iter((0..count).map(|_| Ok::<_, StorageError>(Bytes::from_static(b"-"))));
    write_epoch_from(&Folder::open(location)?, epoch, None, images.boxed()).await?;
    let service = Service::start(location, searches).await?;
    let through = Through::measure(&service, &queries, &within, threads, arguments.seconds).await;
    let started = service.started;
    service.stop().await?;
    let through = through?;

    if arguments.json {
        let report = json!({
            "count": count, "dimension": dimension, "kind": kind.name(), "threads": threads,
            "build_seconds": build.as_secs_f64(), "file_bytes": file_bytes, "load_seconds": loaded.as_secs_f64(),
            "memory_bytes": within.memory_bytes, "recall": within.recall, "expansion": arguments.expansion,
            "expansions": within.by_expansion.map(|(expansion, recall, per_second)| {
                json!({"expansion": expansion, "recall": recall, "queries_per_second": per_second})
            }),
            "index_queries_per_second": within.per_second, "index_exact_ms": within.exact_ms,
            "service_start_seconds": started.as_secs_f64(), "batches_per_index": through.batches,
            "half_load": {"queries_per_second": through.offered, "p50_ms": through.at_half.0, "p99_ms": through.at_half.1},
            "filters_ms": through.filtered.map(|(percent, p50, p99)| json!({"percent": percent, "p50": p50, "p99": p99})),
        });
        return Ok(say!("{report}")?);
    }
    let per_vector = |bytes: usize| bytes / count;
    say!("{count} vectors of {dimension} numbers as {}, {threads} threads", kind.name())?;
    let per_second = count as f64 / build.as_secs_f64();
    say!(
        "  built                  {:.1} s, {per_second:.0} a second; {} bytes a vector in the file",
        build.as_secs_f64(),
        per_vector(file_bytes)
    )?;
    say!(
        "  loaded                 {:.2} s; {} bytes a vector in memory",
        loaded.as_secs_f64(),
        per_vector(within.memory_bytes)
    )?;
    say!("  recall@{NEAREST}              {:.4} (exact: {:.1} ms a query)", within.recall, within.exact_ms)?;
    for (expansion, recall, per_second) in within.by_expansion {
        say!(
            "    with {expansion:4} in view    {recall:.4}, {per_second:.0} queries a second by one thread"
        )?;
    }
    let [one, all] = within.per_second;
    say!("  index in this process  {one:.0} queries a second by one thread, {all:.0} by {threads}")?;
    say!("  service                started in {:.2} s", started.as_secs_f64())?;
    Ok(through.print(threads)?)
}

/// What the index does in this process.
struct Within {
    memory_bytes: usize,
    recall: f64,
    exact_ms: f64,
    /// Vectors in view, recall, and queries a second by one thread.
    by_expansion: [(usize, f64, f64); EXPANSIONS.len()],
    /// Queries a second, by one thread and by all.
    per_second: [f64; 2],
}

impl Within {
    fn measure(
        index: &mut SegmentIndex,
        queries: &[UnitVector],
        searches: Searches,
    ) -> Result<Self, Failure> {
        let checked = &queries[..queries.len().min(EXACT_QUERIES)];
        let begun = Instant::now();
        let truth = checked.iter().map(|query| index.search(query, NEAREST, usize::MAX, None));
        let truth = truth.collect::<Result<Vec<_>, _>>()?;
        let exact_ms = begun.elapsed().as_secs_f64() * 1e3 / checked.len() as f64;
        let recall = |index: &SegmentIndex| -> Result<f64, Failure> {
            let (mut found, mut all) = (0, 0);
            for (query, truth) in checked.iter().zip(&truth) {
                let told = index.search(query, NEAREST, 0, None)?;
                let told: HashSet<u64> = told.iter().map(|hit| hit.key).collect();
                all += truth.len();
                found += truth.iter().filter(|hit| told.contains(&hit.key)).count();
            }
            Ok(found as f64 / all as f64)
        };
        let search = |index: &SegmentIndex, queries: &[UnitVector]| {
            queries.iter().try_for_each(|query| index.search(query, NEAREST, 0, None).map(drop))
        };
        let by_one = |index: &SegmentIndex| -> Result<f64, Failure> {
            let begun = Instant::now();
            search(index, queries)?;
            Ok(queries.len() as f64 / begun.elapsed().as_secs_f64())
        };
        let mut by_expansion = EXPANSIONS.map(|expansion| (expansion, 0.0, 0.0));
        for (expansion, found, per_second) in &mut by_expansion {
            index.set_expansion(*expansion);
            (*found, *per_second) = (recall(index)?, by_one(index)?);
        }
        index.set_expansion(searches.expansion);
        let index = &*index;
        let (recall, one) = (recall(index)?, by_one(index)?);
        let begun = Instant::now();
        let share = queries.len().div_ceil(searches.threads);
        std::thread::scope(|scope| {
            let running: Vec<_> =
                queries.chunks(share).map(|queries| scope.spawn(move || search(index, queries))).collect();
            running.into_iter().try_for_each(|running| running.join().unwrap_or(Ok(())))
        })?;
        let together = queries.len() as f64 / begun.elapsed().as_secs_f64();
        Ok(Self {
            memory_bytes: index.memory_bytes(),
            recall,
            exact_ms,
            by_expansion,
            per_second: [one, together],
        })
    }
}

/// What the service does, over the network of this machine.
struct Through {
    /// Queries a second in batches, as shares of what the index does: by one caller, and by as many as there are threads.
    batches: [f64; 2],
    /// Queries a second at half load, and what they took: median and 99th percentile, milliseconds.
    offered: f64,
    at_half: (f64, f64),
    /// Percent of the entries that may be found, median and 99th percentile, milliseconds.
    filtered: [(u32, f64, f64); 3],
}

impl Through {
    fn print(&self, threads: usize) -> Result<(), OutputError> {
        let [one, all] = self.batches.map(|share| 100.0 * share);
        say!("  batches of {BATCH}          {one:.1} % of that by one caller, {all:.1} % by {threads}")?;
        let (p50, p99) = self.at_half;
        say!(
            "  at half load           {:.0} queries a second: median {p50:.2} ms, 99th percentile {p99:.2} ms",
            self.offered
        )?;
        for (percent, p50, p99) in self.filtered {
            say!("  among {percent:2} %             median {p50:.2} ms, 99th percentile {p99:.2} ms")?;
        }
        Ok(())
    }

    async fn measure(
        service: &Service,
        queries: &[Vec<f32>],
        within: &Within,
        threads: usize,
        seconds: u64,
    ) -> Result<Self, Failure> {
        let mut batches = [0.0; 2];
        for (place, callers) in [1, threads].into_iter().enumerate() {
            let begun = Instant::now();
            let calls = (0..callers).map(|_| async {
                for batch in queries.chunks(BATCH) {
                    service.batch(batch).await?;
                }
                Ok::<_, Failure>(())
            });
            try_join_all(calls).await?;
            let per_second = (callers * queries.len()) as f64 / begun.elapsed().as_secs_f64();
            batches[place] = per_second / within.per_second[place];
        }
        let offered = within.per_second[1] / 2.0;
        let at_half = service.open_loop(queries, offered, Duration::from_secs(seconds)).await?;
        let mut filtered = [(1, 0.0, 0.0), (10, 0.0, 0.0), (50, 0.0, 0.0)];
        for (percent, p50, p99) in &mut filtered {
            let allowed = service.share(*percent)?;
            let mut times = Vec::new();
            for query in queries.iter().take(EXACT_QUERIES) {
                let begun = Instant::now();
                service.one(query, allowed.clone()).await?;
                times.push(begun.elapsed());
            }
            (*p50, *p99) = percentiles(times);
        }
        Ok(Self { batches, offered, at_half, filtered })
    }
}

/// The vector service in this process, reached over TCP.
struct Service {
    client: VectorServiceClient<Channel>,
    entries: u32,
    started: Duration,
    shutdown: Shutdown,
    running: tokio::task::JoinHandle<Result<(), reverie_service_kit::RunError>>,
}

impl Service {
    async fn start(location: &str, searches: Searches) -> Result<Self, Failure> {
        let settings = [
            ("knowledge_bases.creatures".to_owned(), "\"\"".to_owned()),
            (format!("knowledge_bases.{NAME}"), format!("{location:?}")),
            ("search.exact_mib".to_owned(), "0".to_owned()),
            ("search.expansion".to_owned(), searches.expansion.to_string()),
            // As many searches at a time as there are processors wait for no lock.
            ("limits.max_in_flight".to_owned(), (searches.threads * 64).to_string()),
        ];
        let settings: reverie_vector::Settings =
            load(&Sources { config: None, overrides: settings.into_iter().collect() })?;
        let listener = Listener::bind(&"127.0.0.1:0".parse()?).await?;
        let address: Address = format!("http://{}", listener.describe()).parse()?;
        let (shutdown, begun) = (Shutdown::new(), Instant::now());
        let running = tokio::spawn(reverie_vector::run(settings, listener, shutdown.clone()));
        let upstream = Upstream::new("vector", &address);
        while upstream.check_health(Duration::from_secs(1)).await.is_err() {
            if running.is_finished() || begun.elapsed() > PATIENCE {
                return Err("the vector service does not serve".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let client = VectorServiceClient::new(upstream.channel());
        let started = begun.elapsed();
        let listed =
            client.clone().list_collections(reverie_proto::vector::v1::ListCollectionsRequest {}).await?;
        let entries = listed.into_inner().collections.first().map_or(0, |collection| collection.size);
        Ok(Self { client, entries: entries as u32, started, shutdown, running })
    }

    async fn stop(self) -> Result<(), Failure> {
        self.shutdown.cancel();
        drop(self.client);
        Ok(self.running.await??)
    }

    async fn batch(&self, queries: &[Vec<f32>]) -> Result<(), Failure> {
        let request = BatchSearchRequest {
            collection: NAME.to_owned(),
            vectors: queries.iter().map(|query| Vector { values: query.clone() }).collect(),
            space_digest: SPACE.to_owned(),
            limit: NEAREST as u32,
            ..BatchSearchRequest::default()
        };
        let found = self.client.clone().batch_search(request).await?.into_inner().results;
        if found.len() == queries.len() { Ok(()) } else { Err("an answer was lost".into()) }
    }

    async fn one(&self, query: &[f32], allowed_keys: Bytes) -> Result<(), Failure> {
        let request = SearchRequest {
            collection: NAME.to_owned(),
            vector: query.to_vec(),
            space_digest: SPACE.to_owned(),
            limit: NEAREST as u32,
            allowed_keys,
            ..SearchRequest::default()
        };
        let found = self.client.clone().search(request).await?.into_inner().hits;
        if found.len() == NEAREST.min(self.entries as usize) {
            Ok(())
        } else {
            Err("too few were found".into())
        }
    }

    /// A share of the entries, drawn at random.
    fn share(&self, percent: u32) -> Result<Bytes, Failure> {
        let mut random = StdRng::seed_from_u64(u64::from(percent));
        let allowed: RoaringBitmap =
            (0..self.entries).filter(|_| random.random_range(0..100) < percent).collect();
        let mut bytes = Vec::new();
        allowed.serialize_into(&mut bytes)?;
        Ok(bytes.into())
    }

    /// Searches that come at random moments, so many a second on average, whether or not those before are done (Poisson).
    async fn open_loop(
        &self,
        queries: &[Vec<f32>],
        per_second: f64,
        time: Duration,
    ) -> Result<(f64, f64), Failure> {
        let mut random = StdRng::seed_from_u64(1);
        let (mut running, mut times) = (FuturesUnordered::new(), Vec::new());
        let (begun, mut due) = (Instant::now(), Duration::ZERO);
        for query in queries.iter().cycle() {
            due += Duration::from_secs_f64(-f64::ln(1.0 - random.random::<f64>()) / per_second);
            if due > time {
                break;
            }
            let arrival = tokio::time::sleep_until((begun + due).into());
            tokio::pin!(arrival);
            loop {
                tokio::select! {
                    () = &mut arrival => break,
                    Some(done) = running.next() => times.push(done?),
                }
            }
            running.push(async move {
                self.one(query, Bytes::new()).await?;
                // From the moment at which it was due, so that waiting for this program counts.
                Ok::<_, Failure>(begun.elapsed().saturating_sub(due))
            });
        }
        while let Some(done) = running.next().await {
            times.push(done?);
        }
        Ok(percentiles(times))
    }
}

/// Median and 99th percentile, milliseconds.
fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |share: f64| {
        times.get((times.len() as f64 * share) as usize).map_or(f64::NAN, |it| it.as_secs_f64() * 1e3)
    };
    (at(0.5), at(0.99))
}

/// Vectors around centres, and queries around the same ones.
fn draw(count: usize, dimension: usize, queries: usize) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let mut random = StdRng::seed_from_u64(1);
    let normal = |random: &mut StdRng| {
        // Box and Muller 1958.
        let (one, other): (f32, f32) = (random.random(), random.random());
        (-2.0 * (1.0 - one).ln()).sqrt() * (std::f32::consts::TAU * other).cos()
    };
    let centres: Vec<Vec<f32>> = (0..(count * CENTRES_PER_THOUSAND).div_ceil(1000))
        .map(|_| (0..dimension).map(|_| normal(&mut random)).collect())
        .collect();
    let mut around = |_| {
        let centre = &centres[random.random_range(0..centres.len())];
        centre.iter().map(|value| value + SPREAD * normal(&mut random)).collect()
    };
    ((0..count).map(&mut around).collect(), (0..queries).map(&mut around).collect())
}

fn store(path: &std::path::Path, rows: &[Vec<f32>]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for value in rows.iter().flatten() {
        file.write_all(&value.to_le_bytes())?;
    }
    file.flush()
}

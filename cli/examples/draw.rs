//! Draws an image from a back end in Rust.
//!
//! ```sh
//! cargo run --package reverie --example draw -- http://127.0.0.1:7100 256 7 "a small zunin on the left, snow" zunin.png
//! ```
//!
//! `REVERIE_TLS_AUTHORITIES` names the authorities (PEM) of an https:// address, and `REVERIE_API_KEY` is the key. Ctrl-C cancels the call.

use std::env;
use std::error::Error;
use std::time::{Duration, Instant};

use reverie::client::{self, Outcome};
use reverie_proto::generation::v1::GenerateRequest;
use reverie_service_kit::Address;
use reverie_service_kit::client::credential;
use reverie_service_kit::tls::{self, ClientTls, ClientTlsSettings};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// For all calls together. The mesh is told, and does not begin what cannot be done in time.
const TIMEOUT: Duration = Duration::from_mins(1);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [address, size, seed, prompt, file] = &env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("give ADDRESS, SIZE, SEED, PROMPT and FILE".into());
    };
    if let Ok(authorities) = env::var("REVERIE_TLS_AUTHORITIES") {
        let settings = ClientTlsSettings { authorities: authorities.into(), ..ClientTlsSettings::default() };
        tls::install(ClientTls::start(&settings).await?);
    }
    if let Ok(key) = env::var("REVERIE_API_KEY") {
        credential::show(&key)?;
    }
    let request = GenerateRequest {
        prompt: prompt.clone(),
        size: Some(size.parse()?),
        seed: Some(seed.parse()?),
        ..GenerateRequest::default()
    };
    let address = address.parse()?;
    let drawn = tokio::select! {
        drawn = draw(&address, request) => drawn?,
        // Dropped, the call is cancelled in every stage.
        _ = tokio::signal::ctrl_c() => return Err("given up".into()),
    };
    std::fs::write(file, &drawn.image.data)?;
    println!("{file}: seed {}", drawn.started.seed);
    Ok(())
}

/// A call that a replica could not take is made again by the channel; one that the mesh is too busy for is repeated here.
async fn draw(address: &Address, request: GenerateRequest) -> Result<Outcome, Status> {
    let end = Instant::now() + TIMEOUT;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let ended = client::ask(address, request.clone(), left, |_| ()).await;
        // A refusal without a time after which to try again is one that no retry helps.
        let wait = match &ended {
            Err(status) if status.code() == Code::ResourceExhausted => {
                status.get_details_retry_info().and_then(|info| info.retry_delay)
            }
            _ => None,
        };
        match wait {
            Some(wait) if Instant::now() + wait < end => tokio::time::sleep(wait).await,
            _ => return ended,
        }
    }
}

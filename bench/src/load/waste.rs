//! What the models computed in a run, and how much of it was for images that somebody got.

use std::collections::BTreeMap;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use reverie::Failure;
use reverie_service_kit::telemetry::metrics;
use tokio::net::TcpStream;

use super::calls::{Call, End};

/// Seconds in all forward passes of a model, by `model`.
const SECONDS: &str = "reverie_lane_row_duration_seconds_sum";

/// Seconds of each model.
pub(super) type Seconds = BTreeMap<String, f64>;

/// Where the counters of the lanes are read.
#[derive(Debug, Clone)]
pub(super) enum Meters {
    /// The mesh runs in this process.
    Here,
    /// At the admin servers of these services.
    At(Vec<http::Uri>),
}

impl Meters {
    /// Seconds that each model has computed so far.
    pub(super) async fn read(&self) -> Result<Seconds, Failure> {
        let mut seconds = Seconds::new();
        match self {
            Self::Here => add(&metrics::text()?, &mut seconds),
            Self::At(addresses) => {
                for address in addresses {
                    let text = get(address).await.map_err(|error| format!("{address}: {error}"))?;
                    add(&text, &mut seconds);
                }
            }
        }
        Ok(seconds)
    }
}

/// Adds the seconds of each model in a page of metrics.
fn add(page: &str, seconds: &mut Seconds) {
    for line in page.lines().filter_map(|line| line.strip_prefix(SECONDS)) {
        let labels_and_value = line.strip_prefix('{').and_then(|line| line.rsplit_once("} "));
        let Some((labels, value)) = labels_and_value else { continue };
        let model = labels.split(',').find_map(|label| label.strip_prefix("model=\"")?.strip_suffix('"'));
        if let (Some(model), Ok(value)) = (model, value.parse::<f64>()) {
            *seconds.entry(model.to_owned()).or_default() += value;
        }
    }
}

async fn get(address: &http::Uri) -> Result<String, Failure> {
    let host = address.host().unwrap_or_default();
    let stream = TcpStream::connect((host, address.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer, and its error is the answer's.
    tokio::spawn(connection);
    let request =
        hyper::Request::get("/metrics").header(hyper::header::HOST, host).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    if !answer.status().is_success() {
        return Err(format!("/metrics answers {}", answer.status()).into());
    }
    Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec())?)
}

/// The share of the models' time between `before` and `after` that went to images nobody got, 0 to 1. Only of the models that
/// images name: what the encoders compute is small, and some of it is for images to come.
pub(super) fn wasted(before: &Seconds, after: &Seconds, calls: &[Call]) -> Option<f64> {
    let mut useful: BTreeMap<&str, f64> = BTreeMap::new();
    for call in calls {
        if let End::Drawn(models) = &call.end {
            for (model, seconds) in models {
                *useful.entry(model).or_default() += seconds;
            }
        }
    }
    let all: f64 = useful
        .keys()
        .map(|model| after.get(*model).unwrap_or(&0.0) - before.get(*model).unwrap_or(&0.0))
        .sum();
    (all > 0.0).then(|| (1.0 - useful.values().sum::<f64>() / all).max(0.0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_seconds_of_each_model_are_read_from_a_page() {
        let page = "# HELP reverie_lane_row_duration_seconds x\n\
                    reverie_lane_row_duration_seconds_sum{model=\"base\"} 1.5\n\
                    reverie_lane_row_duration_seconds_count{model=\"base\"} 9\n\
                    reverie_lane_row_duration_seconds_sum{a=\"b\",model=\"up\"} 2\n\
                    reverie_lane_row_duration_seconds_sum{model=\"base\"} 0.5\n";
        let mut seconds = BTreeMap::new();
        add(page, &mut seconds);
        assert_eq!(seconds, BTreeMap::from([("base".to_owned(), 2.0), ("up".to_owned(), 2.0)]));
    }

    #[test]
    fn what_no_image_was_made_of_is_wasted() {
        let call = |end| {
            let zero = Duration::ZERO;
            Call { kind: 0, due: zero, made: zero, ended: zero, end }
        };
        let of = |seconds| BTreeMap::from([("base".to_owned(), seconds), ("text".to_owned(), 9.0)]);
        let drawn = || call(End::Drawn(BTreeMap::from([("base".to_owned(), 1.5)])));
        assert_eq!(wasted(&of(1.0), &of(5.0), &[drawn(), call(End::Late), drawn()]), Some(0.25));
        assert_eq!(
            wasted(&of(1.0), &of(5.0), &[call(End::Late)]),
            None,
            "nothing says which models are meant"
        );
    }
}

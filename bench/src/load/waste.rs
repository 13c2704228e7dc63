//! What the models computed in a run, and how much of it was for images that somebody got.

use std::collections::BTreeMap;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use reverie::Failure;
use reverie_service_kit::telemetry::metrics;
use tokio::net::TcpStream;

use super::calls::{Call, End};

/// The histogram of the rows of a model, by `model`.
const ROWS: &str = "reverie_lane_row_duration_seconds_";

/// What a model has computed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Computed {
    rows: f64,
    seconds: f64,
}

/// What each model has computed.
pub(super) type Models = BTreeMap<String, Computed>;

/// Where the counters of the lanes are read.
#[derive(Debug, Clone)]
pub(super) enum Meters {
    /// The mesh runs in this process.
    Here,
    /// At the admin servers of these services.
    At(Vec<http::Uri>),
}

impl Meters {
    /// What each model has computed so far.
    pub(super) async fn read(&self) -> Result<Models, Failure> {
        let mut models = Models::new();
        match self {
            Self::Here => add(&metrics::text()?, &mut models),
            Self::At(addresses) => {
                for address in addresses {
                    let text = get(address).await.map_err(|error| format!("{address}: {error}"))?;
                    add(&text, &mut models);
                }
            }
        }
        Ok(models)
    }
}

/// Adds what a page of metrics says.
fn add(page: &str, models: &mut Models) {
    for line in page.lines().filter_map(|line| line.strip_prefix(ROWS)) {
        let Some((series, rest)) = line.split_once('{') else { continue };
        let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
        let model = labels.split(',').find_map(|label| label.strip_prefix("model=\"")?.strip_suffix('"'));
        let (Some(model), Ok(value)) = (model, value.parse::<f64>()) else { continue };
        let computed = models.entry(model.to_owned()).or_default();
        match series {
            "count" => computed.rows += value,
            "sum" => computed.seconds += value,
            _ => {}
        }
    }
}

async fn get(address: &http::Uri) -> Result<String, Failure> {
    let host = address.host().unwrap_or_default();
    let stream = TcpStream::connect((host, address.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer, and its error is the answer's.
    tokio::spawn(connection);
    let request = hyper::Request::get("/metrics").header(hyper::header::HOST, host);
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    if !answer.status().is_success() {
        return Err(format!("/metrics answers {}", answer.status()).into());
    }
    Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec())?)
}

/// The share of the models' time between `before` and `after` that went to images nobody got, 0 to 1: of each of `models`, and of
/// those that images name, the rows that no image was made of, each as long as its rows take. What the encoders compute is small and
/// not counted.
pub(super) fn wasted(before: &Models, after: &Models, calls: &[Call], models: &[String]) -> Option<f64> {
    let mut useful: BTreeMap<&str, u64> = models.iter().map(|model| (model.as_str(), 0)).collect();
    for call in calls {
        if let End::Drawn(models) = &call.end {
            for (model, rows) in models {
                *useful.entry(model).or_default() += rows;
            }
        }
    }
    let (mut all, mut wasted) = (0.0, 0.0);
    for (model, rows) in useful {
        let [before, after] = [before, after].map(|models| models.get(model).copied().unwrap_or_default());
        let (computed, seconds) = (after.rows - before.rows, after.seconds - before.seconds);
        if computed > 0.0 {
            all += seconds;
            wasted += seconds * (1.0 - rows as f64 / computed).max(0.0);
        }
    }
    (all > 0.0).then_some(wasted / all)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_each_model_computed_is_read_from_a_page() {
        let page = "# HELP reverie_lane_row_duration_seconds x\n\
                    reverie_lane_row_duration_seconds_bucket{model=\"base\",le=\"1\"} 4\n\
                    reverie_lane_row_duration_seconds_sum{model=\"base\"} 1.5\n\
                    reverie_lane_row_duration_seconds_count{model=\"base\"} 9\n\
                    reverie_lane_row_duration_seconds_sum{a=\"b\",model=\"up\"} 2\n\
                    reverie_lane_row_duration_seconds_sum{model=\"base\"} 0.5\n";
        let mut models = Models::new();
        add(page, &mut models);
        let of = |rows, seconds| Computed { rows, seconds };
        assert_eq!(models, [("base".to_owned(), of(9.0, 2.0)), ("up".to_owned(), of(0.0, 2.0))].into());
    }

    #[test]
    fn what_no_image_was_made_of_is_wasted() {
        let call = |end| {
            let zero = Duration::ZERO;
            Call { kind: 0, due: zero, made: zero, ended: zero, end }
        };
        // Rows of the base model take a second, those of the level three.
        let at = |base, up| -> Models {
            let of = |rows, each: f64| Computed { rows, seconds: rows * each };
            [
                ("base".to_owned(), of(base, 1.0)),
                ("up".to_owned(), of(up, 3.0)),
                ("text".to_owned(), of(9.0, 9.0)),
            ]
            .into()
        };
        let drawn = || call(End::Drawn([("base".to_owned(), 4), ("up".to_owned(), 1)].into()));
        let share = wasted(&at(10.0, 10.0), &at(20.0, 12.0), &[drawn(), call(End::Late), drawn()], &[]);
        // Two of ten rows of the base model, and none of the level's: 2 of 16 seconds.
        assert!(share.is_some_and(|share| (share - 0.125).abs() < 1e-9), "{share:?}");
        let of_nobody =
            |models: &[String]| wasted(&at(1.0, 1.0), &at(5.0, 1.0), &[call(End::Abandoned)], models);
        assert_eq!(of_nobody(&["base".to_owned()]), Some(1.0), "nobody got an image");
        assert_eq!(of_nobody(&["up".to_owned()]), None, "it computed nothing");
    }
}

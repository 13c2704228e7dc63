//! How long pods take, by the times that Kubernetes writes down.

use serde_json::Value;

/// How long a pod took from its creation to Ready.
pub(super) fn seconds_to_ready(pod: &Value) -> Option<u64> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
    let created = second_of_day(pod["metadata"]["creationTimestamp"].as_str()?)?;
    Some(seconds_between(created, second_of_day(ready["lastTransitionTime"].as_str()?)?))
}

/// From one second of a day to a later one, past midnight too.
pub(super) fn seconds_between(start: u64, end: u64) -> u64 {
    (end + 86_400 - start) % 86_400
}

/// Of a time as Kubernetes writes it: 2026-11-26T20:10:31Z.
pub(super) fn second_of_day(time: &str) -> Option<u64> {
    let clock = time.split_once('T')?.1.trim_end_matches('Z');
    let mut parts = clock.split(':').map(|part| part.parse::<u64>().ok());
    Some(parts.next()?? * 3600 + parts.next()?? * 60 + parts.next()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_read_as_kubernetes_writes_it() {
        assert_eq!(second_of_day("2026-11-26T20:10:31Z"), Some(20 * 3600 + 631));
        assert_eq!(second_of_day("yesterday"), None);
        assert_eq!((seconds_between(5, 12), seconds_between(86_399, 2)), (7, 3));
    }
}

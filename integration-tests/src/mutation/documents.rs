//! JSON and TOML.

use rand::RngExt as _;
use serde_json::{Value, json};

use super::{Random, choose};

/// What is written stands in what was read of it, where it is not left out as the default.
///
/// # Panics
/// It does not.
pub fn check_meaning(written: &Value, read: &Value, place: &str) {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => {
            for (key, value) in written {
                if let Some(read) = read.get(key) {
                    check_meaning(value, read, &format!("{place}.{key}"));
                }
            }
        }
        (Value::Array(written), Value::Array(read)) => {
            assert_eq!(written.len(), read.len(), "{place}");
            for (written, read) in written.iter().zip(read) {
                check_meaning(written, read, place);
            }
        }
        (Value::Number(written), Value::Number(read)) => {
            let [written, read] = [written, read].map(|number| number.as_f64().unwrap_or(f64::NAN));
            // Singles have no smaller numbers.
            assert!(
                (written - read).abs() <= 1e-6 * written.abs() + 1e-38,
                "{place}: {written} was read as {read}"
            );
        }
        _ => assert_eq!(written, read, "{place}"),
    }
}

/// Changes one to three places of a document.
pub fn document(random: &mut Random, document: &mut Value) {
    for _ in 0..random.random_range(1..=3) {
        let places = count(document);
        let mut place = random.random_range(0..places);
        if let Some(value) = nth(document, &mut place) {
            change(random, value);
        }
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(values) => values.iter().map(count).sum(),
        Value::Object(values) => values.values().map(count).sum(),
        _ => 0,
    }
}

fn nth<'a>(value: &'a mut Value, place: &mut usize) -> Option<&'a mut Value> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    match value {
        Value::Array(values) => values.iter_mut().find_map(|value| nth(value, place)),
        Value::Object(values) => values.values_mut().find_map(|value| nth(value, place)),
        _ => None,
    }
}

fn change(random: &mut Random, value: &mut Value) {
    match value {
        Value::Object(map) if !map.is_empty() && random.random_bool(0.8) => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = choose(random, &keys).clone();
            let other = choose(random, &keys).clone();
            let Some(held) = map.remove(&key) else { return };
            match random.random_range(0..4) {
                0 => {}
                1 => drop(map.insert(format!("{key}_"), held)),
                // The value of another key.
                2 => drop(map.insert(other, held)),
                _ => {
                    map.insert(format!("{key}2"), held.clone());
                    map.insert(key, held);
                }
            }
        }
        Value::Array(values) if !values.is_empty() && random.random_bool(0.8) => {
            let at = random.random_range(0..values.len());
            let to = random.random_range(0..values.len());
            match random.random_range(0..4) {
                0 => drop(values.remove(at)),
                1 => values.insert(to, values[at].clone()),
                2 => values.swap(at, to),
                _ => values.clear(),
            }
        }
        Value::Number(number) if random.random_bool(0.7) => {
            let near = number.as_f64().unwrap_or_default();
            let numbers = [
                json!(0),
                json!(-1),
                json!(1),
                json!(near + 1.0),
                json!(number.as_i64().map(|whole| whole.saturating_sub(1))),
                json!(number.as_i64().map(|whole| whole.saturating_mul(2))),
                json!(-near),
                json!(i64::MAX),
                json!(u32::MAX),
                json!(1e300),
                json!(1e-300),
            ];
            *value = choose(random, &numbers).clone();
        }
        Value::String(text) if random.random_bool(0.7) => match random.random_range(0..5) {
            0 => text.clear(),
            1 => drop(text.pop()),
            2 => text.push_str(choose::<&str>(random, &["x", "\u{0}", "/../x", "é", " "])),
            3 => *text = text.repeat(random.random_range(2..100)),
            _ => *text = text.to_uppercase(),
        },
        _ => {
            let others = [json!(null), json!(true), json!(3), json!(0.5), json!("x"), json!([]), json!({})];
            *value = choose(random, &others).clone();
        }
    }
}

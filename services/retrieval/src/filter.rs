//! Filters on metadata: for each key, which entries have which value. A filter is worked out before a search and is exact.

use std::collections::{BTreeMap, HashMap};

use reverie_knowledge::epoch::{Entry, Value};
use roaring::RoaringBitmap;

/// What holds of an entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Filter {
    /// Each of these.
    All(Vec<Filter>),
    /// One of these.
    Any(Vec<Filter>),
    /// Not this.
    Not(Box<Filter>),
    /// The value of a key is one of these.
    OneOf { key: String, values: Vec<Value> },
    /// The value of a key is a number within this range, its ends included.
    Range { key: String, at_least: f64, at_most: f64 },
}

/// The metadata of all entries, by key.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    all: RoaringBitmap,
    columns: BTreeMap<String, Column>,
}

/// The values of one key; entries are told by position.
#[derive(Debug, Default)]
struct Column {
    texts: HashMap<String, RoaringBitmap>,
    flags: [RoaringBitmap; 2],
    /// In ascending order.
    numbers: Vec<(f64, u32)>,
}

impl Columns {
    /// Reads the metadata of `entries`.
    pub(crate) fn of(entries: &[Entry]) -> Self {
        let mut columns: BTreeMap<String, Column> = BTreeMap::new();
        for (position, entry) in (0_u32..).zip(entries) {
            for (key, value) in &entry.metadata {
                columns.entry(key.clone()).or_default().insert(value, position);
            }
        }
        for column in columns.values_mut() {
            column.numbers.sort_unstable_by(|(one, _), (other, _)| one.total_cmp(other));
        }
        Self { all: (0..entries.len() as u32).collect(), columns }
    }

    /// All entries, by position.
    pub(crate) fn all(&self) -> &RoaringBitmap {
        &self.all
    }

    /// The entries of which `filter` holds.
    pub(crate) fn select(&self, filter: &Filter) -> RoaringBitmap {
        match filter {
            Filter::All(filters) => {
                let mut left = self.all.clone();
                for filter in filters {
                    left &= self.select(filter);
                }
                left
            }
            Filter::Any(filters) => {
                let mut found = RoaringBitmap::new();
                for filter in filters {
                    found |= self.select(filter);
                }
                found
            }
            Filter::Not(filter) => &self.all - self.select(filter),
            Filter::OneOf { key, values } => {
                let mut found = RoaringBitmap::new();
                for value in values {
                    match (self.columns.get(key), value) {
                        (None, _) => {}
                        (Some(column), Value::Text(text)) => {
                            found |= column.texts.get(text).cloned().unwrap_or_default();
                        }
                        (Some(column), Value::Flag(flag)) => found |= &column.flags[usize::from(*flag)],
                        (Some(column), Value::Number(number)) => found.extend(column.range(*number, *number)),
                    }
                }
                found
            }
            Filter::Range { key, at_least, at_most } => {
                let column = self.columns.get(key);
                column.map(|column| column.range(*at_least, *at_most).collect()).unwrap_or_default()
            }
        }
    }
}

impl Column {
    fn insert(&mut self, value: &Value, position: u32) {
        match value {
            Value::Text(text) => {
                self.texts.entry(text.clone()).or_default().insert(position);
            }
            Value::Flag(flag) => {
                self.flags[usize::from(*flag)].insert(position);
            }
            // Of the two zeros, one.
            Value::Number(number) => self.numbers.push((number + 0.0, position)),
        }
    }

    /// The entries that have a number from `at_least` to `at_most`.
    fn range(&self, at_least: f64, at_most: f64) -> impl Iterator<Item = u32> {
        let first = self.numbers.partition_point(|(number, _)| *number < at_least);
        let from = self.numbers.get(first..).unwrap_or_default();
        from.iter().take_while(move |(number, _)| *number <= at_most).map(|(_, position)| *position)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use reverie_knowledge::epoch::Metadata;

    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn columns() -> Columns {
        let said: [&[(&str, Value)]; 5] = [
            &[("kind", text("fox")), ("year", Value::Number(1999.0))],
            &[("kind", text("hen")), ("year", Value::Number(-0.0)), ("wild", Value::Flag(false))],
            &[("kind", text("fox")), ("wild", Value::Flag(true)), ("year", text("1999"))],
            &[],
            &[("kind", Value::Number(7.5)), ("year", Value::Number(2026.5))],
        ];
        let entry = |said: &[(&str, Value)]| Entry {
            id: String::new(),
            caption: String::new(),
            attribution: String::new(),
            metadata: said
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect::<Metadata>(),
            image: Bytes::new(),
        };
        Columns::of(&said.map(entry))
    }

    fn one_of<const N: usize>(key: &str, values: &[Value; N]) -> Filter {
        Filter::OneOf { key: key.to_owned(), values: values.to_vec() }
    }

    fn range(key: &str, at_least: f64, at_most: f64) -> Filter {
        Filter::Range { key: key.to_owned(), at_least, at_most }
    }

    #[test]
    fn filters_select_what_they_say() {
        let columns = columns();
        let cases: [(Filter, &[u32]); 14] = [
            (one_of("kind", &[text("fox")]), &[0, 2]),
            (one_of("kind", &[text("fox"), text("hen"), text("owl")]), &[0, 1, 2]),
            (one_of("kind", &[Value::Number(7.5)]), &[4]),
            (one_of("year", &[Value::Number(0.0)]), &[1]),
            (one_of("year", &[text("1999")]), &[2]),
            (one_of("wild", &[Value::Flag(false)]), &[1]),
            (one_of("colour", &[text("red")]), &[]),
            (range("year", 0.0, 1999.0), &[0, 1]),
            (range("year", 1999.5, f64::INFINITY), &[4]),
            (range("year", f64::NEG_INFINITY, f64::INFINITY), &[0, 1, 4]),
            (Filter::Not(Box::new(one_of("kind", &[text("fox")]))), &[1, 3, 4]),
            (Filter::All(vec![one_of("kind", &[text("fox")]), range("year", 0.0, 3000.0)]), &[0]),
            (Filter::Any(vec![one_of("wild", &[Value::Flag(true)]), range("year", 2000.0, 3000.0)]), &[2, 4]),
            (
                Filter::Not(Box::new(Filter::Any(vec![
                    range("year", 0.0, 1.0),
                    one_of("kind", &[text("fox")]),
                ]))),
                &[3, 4],
            ),
        ];
        for (filter, expected) in cases {
            assert_eq!(columns.select(&filter).iter().collect::<Vec<_>>(), expected, "{filter:?}");
        }
    }
}

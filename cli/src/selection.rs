//! What a search may find, as it is written on the command line.

use std::path::PathBuf;

use reverie_proto::knowledge::v1::filter::Condition;
use reverie_proto::knowledge::v1::metadata_value::Kind;
use reverie_proto::knowledge::v1::{
    Filter, Filters, GroupBy, MetadataValue, OneOf, Range, RetrievalStrategy, Selection,
};

use crate::names::parser;

/// A search of a knowledge base.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SearchArguments {
    /// How to search for neighbours.
    #[arg(long, value_parser = parser::<RetrievalStrategy>())]
    pub(crate) retrieval: Option<RetrievalStrategy>,
    /// Knowledge base to search.
    #[arg(long, value_name = "NAME")]
    pub(crate) knowledge_base: Option<String>,
    /// Image to search for, by embedding.
    #[arg(long, value_name = "FILE")]
    pub(crate) query_image: Option<PathBuf>,
    /// Score below which an entry does not match, -1 to 1.
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    pub(crate) minimum_score: Option<f32>,
    /// Finds only entries whose metadata fits: KEY=VALUE, KEY=VALUE|VALUE, KEY!=VALUE, or KEY=MIN..MAX for numbers, of which either
    /// end may be left out. VALUE is a number, true or false, or else a text; put a text that looks like another kind in double quotes.
    /// If repeated, all must fit.
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = filter)]
    pub(crate) filters: Vec<Filter>,
    /// Leaves out the entry with this id; may be repeated.
    #[arg(long = "exclude", value_name = "ID")]
    pub(crate) excluded: Vec<String>,
    /// Leaves out images that look alike, for others that match less: 0 to 1.
    #[arg(long, value_name = "0..1", allow_negative_numbers = true)]
    pub(crate) diversity: Option<f32>,
    /// Finds one of the entries with the same value of this metadata key, or if there is no key, with captions about the same.
    #[arg(long, value_name = "KEY", num_args = 0..=1, default_missing_value = "", require_equals = true)]
    pub(crate) group_by: Option<String>,
    /// Finds so many of each group, 1 to 100.
    #[arg(long, value_name = "N", requires = "group_by", allow_negative_numbers = true)]
    pub(crate) per_group: Option<u32>,
}

impl SearchArguments {
    /// Which entries may be found, if not all.
    pub(crate) fn selection(&self) -> Option<Selection> {
        let all = |filters: &Vec<Filter>| Condition::All(Filters { filters: filters.clone() });
        let selection = Selection {
            filter: match self.filters.as_slice() {
                [] => None,
                [one] => Some(one.clone()),
                _ => Some(Filter { condition: Some(all(&self.filters)) }),
            },
            exclude_ids: self.excluded.clone(),
            diversity: self.diversity,
            group_by: self
                .group_by
                .clone()
                .map(|metadata_key| GroupBy { metadata_key, limit: self.per_group }),
        };
        (selection != Selection::default()).then_some(selection)
    }
}

fn filter(text: &str) -> Result<Filter, String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, KEY!=VALUE or KEY=MIN..MAX")?;
    let (key, is_not) = key.strip_suffix('!').map_or((key, false), |key| (key, true));
    let key = key.to_owned();
    let condition = match range(value) {
        Some((at_least, at_most)) => Condition::Range(Range { key, at_least, at_most }),
        None => Condition::OneOf(OneOf { key, values: value.split('|').map(self::value).collect() }),
    };
    let filter = Filter { condition: Some(condition) };
    Ok(if is_not { Filter { condition: Some(Condition::Not(Box::new(filter))) } } else { filter })
}

/// The ends of a range of numbers, if `text` is one.
fn range(text: &str) -> Option<(Option<f64>, Option<f64>)> {
    let end = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
    let (min, max) = text.split_once("..")?;
    end(min).zip(end(max)).filter(|(min, max)| min.is_some() || max.is_some())
}

fn value(text: &str) -> MetadataValue {
    let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let number = || text.parse().ok().filter(|number: &f64| number.is_finite()).map(Kind::Number);
    let flag = || text.parse().ok().map(Kind::Flag);
    let kind = match quoted {
        Some(text) => Kind::Text(text.to_owned()),
        None => number().or_else(flag).unwrap_or_else(|| Kind::Text(text.to_owned())),
    };
    MetadataValue { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of(kinds: &[Kind]) -> Condition {
        let values = kinds.iter().map(|kind| MetadataValue { kind: Some(kind.clone()) }).collect();
        Condition::OneOf(OneOf { key: "k".to_owned(), values })
    }

    fn text(text: &str) -> Kind {
        Kind::Text(text.to_owned())
    }

    #[test]
    fn filters_are_read_as_they_are_meant() {
        let range = |at_least, at_most| Condition::Range(Range { key: "k".to_owned(), at_least, at_most });
        let cases = [
            ("k=fox", one_of(&[text("fox")])),
            ("k=fox|a=b", one_of(&[text("fox"), text("a=b")])),
            ("k=1999", one_of(&[Kind::Number(1999.0)])),
            ("k=\"1999\"|true|\"true\"", one_of(&[text("1999"), Kind::Flag(true), text("true")])),
            ("k=", one_of(&[text("")])),
            ("k=nan", one_of(&[text("nan")])),
            ("k=-1.5..2", range(Some(-1.5), Some(2.0))),
            ("k=..2", range(None, Some(2.0))),
            ("k=2..", range(Some(2.0), None)),
            ("k=..", one_of(&[text("..")])),
            ("k=a..b", one_of(&[text("a..b")])),
        ];
        for (written, expected) in cases {
            assert_eq!(filter(written).unwrap().condition, Some(expected), "{written}");
        }
        let not = filter("k!=fox").unwrap().condition;
        assert_eq!(not, Some(Condition::Not(Box::new(filter("k=fox").unwrap()))));
        assert!(filter("fox").is_err());
    }
}

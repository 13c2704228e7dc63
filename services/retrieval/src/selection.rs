//! Which entries a request lets a search find, and how alike they may be.

use reverie_knowledge::epoch::{Value, check_key};
use reverie_proto::knowledge::v1 as messages;
use reverie_proto::knowledge::v1::filter::Condition;
use reverie_proto::knowledge::v1::metadata_value::Kind;
use reverie_proto::limits::SHARE;
use reverie_service_kit::Violations;

use crate::filter::Filter;

const MAX_EXCLUDED: usize = 1000;
const MAX_CONDITIONS: usize = 256;
const MAX_DEPTH: usize = 16;
const MAX_VALUES: usize = 1000;
const MAX_OF_GROUP: u32 = 100;

/// What of a knowledge base a search may find.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Selection {
    pub(crate) filter: Option<Filter>,
    pub(crate) exclude_ids: Vec<String>,
    /// 0 for what is found as it comes.
    pub(crate) diversity: f32,
    pub(crate) group_by: Option<GroupBy>,
}

/// How entries are grouped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupBy {
    /// The metadata key; none for the subjects of captions.
    pub(crate) key: Option<String>,
    /// How many of a group are found.
    pub(crate) limit: usize,
}

impl Selection {
    /// Checks the field `selection` of a request.
    pub(crate) fn read(violations: &mut Violations, message: Option<&messages::Selection>) -> Self {
        let Some(message) = message else { return Self::default() };
        let excluded = message.exclude_ids.len();
        violations.require(
            excluded <= MAX_EXCLUDED,
            "selection.exclude_ids",
            format!("must be at most {MAX_EXCLUDED} ids (got {excluded})"),
        );
        let mut conditions = 0;
        let filter = message
            .filter
            .as_ref()
            .and_then(|filter| read_filter(violations, "selection.filter", filter, 1, &mut conditions));
        violations.require(
            conditions <= MAX_CONDITIONS,
            "selection.filter",
            format!("must have at most {MAX_CONDITIONS} conditions (got {conditions})"),
        );
        let diversity = violations.in_range("selection.diversity", message.diversity, SHARE).unwrap_or(0.0);
        let group_by = message.group_by.as_ref().map(|group| {
            let limit = violations.in_range("selection.group_by.limit", group.limit, 1..=MAX_OF_GROUP);
            let key = Some(&group.metadata_key).filter(|key| !key.is_empty()).cloned();
            if let Some(key) = &key {
                violations.take("selection.group_by.metadata_key", check_key(key));
            }
            GroupBy { key, limit: limit.unwrap_or(1) as usize }
        });
        Self { filter, exclude_ids: message.exclude_ids.clone(), diversity, group_by }
    }

    /// Whether any entry may be found.
    pub(crate) fn allows_all(&self) -> bool {
        self.filter.is_none() && self.exclude_ids.is_empty()
    }

    /// Whether entries that are found may be left out for others.
    pub(crate) fn thins(&self) -> bool {
        self.diversity > 0.0 || self.group_by.is_some()
    }
}

/// Checks a filter in `field`; what is beyond a bound is not looked at.
fn read_filter(
    violations: &mut Violations,
    field: &str,
    message: &messages::Filter,
    depth: usize,
    conditions: &mut usize,
) -> Option<Filter> {
    *conditions += 1;
    if depth > MAX_DEPTH {
        violations.add(field, format!("must not be nested more than {MAX_DEPTH} deep"));
        return None;
    }
    let mut several = |violations: &mut Violations, name: &str, filters: &messages::Filters| {
        let field = format!("{field}.{name}.filters");
        violations.require(!filters.filters.is_empty(), &field, "must not be empty");
        let numbered = filters.filters.iter().take(MAX_CONDITIONS + 1).enumerate();
        let read = numbered.map(|(index, filter)| {
            read_filter(violations, &format!("{field}[{index}]"), filter, depth + 1, conditions)
        });
        read.collect::<Option<Vec<_>>>()
    };
    match message.condition.as_ref() {
        None => {
            violations.add(field, "must have a condition");
            None
        }
        Some(Condition::All(filters)) => several(violations, "all", filters).map(Filter::All),
        Some(Condition::Any(filters)) => several(violations, "any", filters).map(Filter::Any),
        Some(Condition::Not(filter)) => {
            let not = read_filter(violations, &format!("{field}.not"), filter, depth + 1, conditions);
            not.map(|filter| Filter::Not(Box::new(filter)))
        }
        Some(Condition::OneOf(one_of)) => {
            violations.take(format!("{field}.one_of.key"), check_key(&one_of.key));
            let (field, count) = (format!("{field}.one_of.values"), one_of.values.len());
            violations.require(
                (1..=MAX_VALUES).contains(&count),
                &field,
                format!("must be 1 to {MAX_VALUES} values (got {count})"),
            );
            let values = one_of.values.iter().take(MAX_VALUES).map(value).collect::<Option<Vec<_>>>();
            if values.is_none() {
                violations.add(field, "must each be a text, a finite number or a flag");
            }
            Some(Filter::OneOf { key: one_of.key.clone(), values: values? })
        }
        Some(Condition::Range(range)) => {
            violations.take(format!("{field}.range.key"), check_key(&range.key));
            let at_least = range.at_least.unwrap_or(f64::NEG_INFINITY);
            let at_most = range.at_most.unwrap_or(f64::INFINITY);
            violations.require(
                (range.at_least.is_some() || range.at_most.is_some()) && at_least <= at_most,
                format!("{field}.range"),
                "must have a least or a greatest number, and the least must not be above the greatest",
            );
            Some(Filter::Range { key: range.key.clone(), at_least, at_most })
        }
    }
}

/// Reads what metadata says; none if it is neither a text, a finite number nor a flag.
pub(crate) fn value(message: &messages::MetadataValue) -> Option<Value> {
    Some(match message.kind.as_ref()? {
        Kind::Text(text) => Value::Text(text.clone()),
        Kind::Number(number) => Value::Number(Some(*number).filter(|number| number.is_finite())?),
        Kind::Flag(flag) => Value::Flag(*flag),
    })
}

/// The message of a value.
pub(crate) fn message(value: &Value) -> messages::MetadataValue {
    let kind = match value {
        Value::Text(text) => Kind::Text(text.clone()),
        Value::Number(number) => Kind::Number(*number),
        Value::Flag(flag) => Kind::Flag(*flag),
    };
    messages::MetadataValue { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use reverie_proto::knowledge::v1::{Filters, MetadataValue, OneOf, Range};

    use super::*;

    fn filter(condition: Condition) -> messages::Filter {
        messages::Filter { condition: Some(condition) }
    }

    fn is_fox() -> messages::Filter {
        let values = vec![MetadataValue { kind: Some(Kind::Text("fox".to_owned())) }];
        filter(Condition::OneOf(OneOf { key: "kind".to_owned(), values }))
    }

    fn range(at_least: Option<f64>, at_most: Option<f64>) -> messages::Filter {
        filter(Condition::Range(Range { key: "year".to_owned(), at_least, at_most }))
    }

    fn nested(depth: usize) -> messages::Filter {
        (1..depth).fold(is_fox(), |inner, _| filter(Condition::Not(Box::new(inner))))
    }

    fn read(selection: &messages::Selection) -> Result<Selection, String> {
        let mut violations = Violations::new();
        let read = Selection::read(&mut violations, Some(selection));
        violations.into_result().map(|()| read).map_err(|status| status.message().to_owned())
    }

    fn of(filter: messages::Filter) -> messages::Selection {
        messages::Selection { filter: Some(filter), ..Default::default() }
    }

    #[test]
    fn a_filter_is_read_as_it_is_written() {
        let filters = vec![is_fox(), range(Some(1990.0), None)];
        let all = filter(Condition::All(Filters { filters }));
        let expected = Filter::All(vec![
            Filter::OneOf { key: "kind".to_owned(), values: vec![Value::Text("fox".to_owned())] },
            Filter::Range { key: "year".to_owned(), at_least: 1990.0, at_most: f64::INFINITY },
        ]);
        assert_eq!(read(&of(all)).unwrap().filter, Some(expected));
        assert!(read(&of(nested(MAX_DEPTH))).is_ok());
        assert!(!read(&messages::Selection::default()).unwrap().thins());
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_field() {
        let many = |count| {
            filter(Condition::Any(Filters { filters: std::iter::repeat_with(is_fox).take(count).collect() }))
        };
        let group =
            |group: messages::GroupBy| messages::Selection { group_by: Some(group), ..Default::default() };
        let cases = [
            (of(messages::Filter::default()), "selection.filter: must have a condition"),
            (of(many(0)), "selection.filter.any.filters: must not be empty"),
            (of(many(256)), "selection.filter: must have at most 256 conditions (got 257)"),
            (of(nested(MAX_DEPTH + 1)), "nested more than 16 deep"),
            (of(range(Some(2.0), Some(1.0))), "selection.filter.range: must have"),
            (of(range(None, None)), "selection.filter.range: must have"),
            (of(range(Some(f64::NAN), None)), "selection.filter.range: must have"),
            (
                of(filter(Condition::All(Filters {
                    filters: vec![is_fox(), filter(Condition::OneOf(OneOf::default()))],
                }))),
                "selection.filter.all.filters[1].one_of.key",
            ),
            (
                of(filter(Condition::OneOf(OneOf {
                    key: "a".to_owned(),
                    values: vec![MetadataValue::default()],
                }))),
                "selection.filter.one_of.values: must each be",
            ),
            (
                messages::Selection { exclude_ids: vec![String::new(); 1001], ..Default::default() },
                "selection.exclude_ids: must be at most 1000 ids",
            ),
            (
                messages::Selection { diversity: Some(1.5), ..Default::default() },
                "selection.diversity: must be 0 to 1",
            ),
            (
                group(messages::GroupBy { limit: Some(0), ..Default::default() }),
                "selection.group_by.limit: must be 1 to 100",
            ),
            (
                group(messages::GroupBy { metadata_key: "k".repeat(65), limit: None }),
                "selection.group_by.metadata_key: a key of metadata",
            ),
        ];
        for (selection, expected) in cases {
            let why = read(&selection).unwrap_err();
            assert!(why.contains(expected), "{why} is not {expected}");
        }
        assert!(read(&of(many(255))).is_ok());
    }
}

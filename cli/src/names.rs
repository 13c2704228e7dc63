//! Values of the contracts' enums as they are written on the command line: their names with hyphens.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use reverie_proto::names::Named;

/// A value as it is written.
pub fn name<E: Named>(value: E) -> String {
    value.name().replace('_', "-")
}

/// Reads a value.
pub fn parse<E: Named>(text: &str) -> Result<E, String> {
    let known = || E::all().into_iter().map(name).collect::<Vec<_>>().join(", ");
    E::named(&text.replace('-', "_")).ok_or_else(|| format!("{text} is none of {}", known()))
}

/// Reads a value of an argument; `--help` lists all of them.
pub(crate) fn parser<E: Named + Send + Sync + 'static>() -> impl TypedValueParser<Value = E> {
    PossibleValuesParser::new(E::all().into_iter().map(name)).try_map(|text| parse(&text))
}

//! Where the replicas of a service are.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;

use crate::Address;
use crate::listener::AddressError;

/// The addresses of one service: one at least. A host name stands for all the addresses that it resolves to.
///
/// In settings it is one URL, several with commas between them, or a list of URLs.
#[derive(Debug, Clone)]
pub struct Addresses(Vec<Address>);

impl Addresses {
    /// Each address as it was given.
    pub fn iter(&self) -> impl Iterator<Item = &Address> {
        self.0.iter()
    }

    /// Reads the addresses of a service that a mesh may do without: "" and the empty list are none.
    ///
    /// # Errors
    /// That one of them is no address.
    pub fn optional<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        let texts = <OneOrMore as serde::Deserialize>::deserialize(deserializer)?.texts();
        let is_none = texts.iter().all(String::is_empty);
        (!is_none).then(|| Self::read(&texts).map_err(D::Error::custom)).transpose()
    }

    fn read(texts: &[String]) -> Result<Self, AddressError> {
        let texts = texts.iter().flat_map(|text| text.split(','));
        let addresses: Vec<Address> = texts.map(|text| text.trim().parse()).collect::<Result<_, _>>()?;
        if addresses.is_empty() { Err(AddressError::of("")) } else { Ok(Self(addresses)) }
    }
}

/// A text, or a list of texts.
#[derive(serde::Deserialize)]
#[serde(untagged, expecting = "a URL or a list of URLs")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn texts(self) -> Vec<String> {
        match self {
            // A list, as an environment variable or an argument gives it.
            Self::One(text) if text.starts_with('[') => match text.parse() {
                Ok(toml::Value::Array(items)) if items.iter().all(toml::Value::is_str) => {
                    items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
                }
                _ => vec![text],
            },
            Self::One(text) => vec![text],
            Self::More(texts) => texts,
        }
    }
}

impl<'de> serde::Deserialize<'de> for Addresses {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = OneOrMore::deserialize(deserializer)?.texts();
        Self::read(&texts).map_err(D::Error::custom)
    }
}

impl FromStr for Addresses {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::read(&[text.to_owned()])
    }
}

impl From<Address> for Addresses {
    fn from(address: Address) -> Self {
        Self(vec![address])
    }
}

impl From<&Address> for Addresses {
    fn from(address: &Address) -> Self {
        address.clone().into()
    }
}

impl From<&Addresses> for Addresses {
    fn from(addresses: &Addresses) -> Self {
        addresses.clone()
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str(", ")?;
            }
            address.fmt(formatter)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Settings {
        one: Addresses,
        #[serde(deserialize_with = "Addresses::optional")]
        two: Option<Addresses>,
    }

    fn read(one: &str, two: &str) -> Result<(String, Option<String>), toml::de::Error> {
        let settings: Settings = toml::from_str(&format!("one = {one}\ntwo = {two}"))?;
        Ok((settings.one.to_string(), settings.two.map(|two| two.to_string())))
    }

    #[test]
    fn one_url_or_several_in_a_text_or_in_a_list() {
        let both = "http://a:1/, http://b:2/".to_owned();
        for several in [
            "\"http://a:1,http://b:2\"",
            "\"http://a:1, http://b:2\"",
            "['http://a:1', 'http://b:2']",
            "'[\"http://a:1\", \"http://b:2\"]'",
        ] {
            assert_eq!(read(several, several).unwrap(), (both.clone(), Some(both.clone())), "{several}");
        }
        for nothing in ["''", "[]", "['']"] {
            assert_eq!(read("'http://a:1'", nothing).unwrap(), ("http://a:1/".to_owned(), None));
            assert!(read(nothing, nothing).is_err(), "{nothing}");
        }
        for wrong in ["'http://a:1,'", "'ftp://a'", "7", "'[7]'", "'['"] {
            assert!(read(wrong, "''").is_err() && read("'http://a'", wrong).is_err(), "{wrong}");
        }
    }
}

//! Reading JSON that others write: what is missing, null or of another type than it should be is as if it were not there.
//!
//! Nothing is read into a tree, so that a small text cannot become a large value.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Entries of a list; more of them are no answer.
const MAX_ENTRIES: usize = 4096;

/// A value of that type, if there is one.
#[derive(Clone, Debug)]
pub(super) struct Lax<T>(pub(super) Option<T>);

/// Text or a whole number.
pub(super) type Word = Lax<String>;
/// A whole number that is not negative.
pub(super) type Count = Lax<u64>;
/// An object with known fields.
pub(super) type Part<T> = Lax<Fields<T>>;
/// A list of objects.
pub(super) type Parts<T> = Lax<Vec<Part<T>>>;

/// An object.
#[derive(Clone, Debug)]
pub(super) struct Fields<T>(T);

impl<T> Fields<T> {
    /// The fields.
    pub(super) fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Default for Lax<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl Word {
    /// The text; empty if there is none.
    pub(super) fn text(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<T> Part<T> {
    /// The object.
    pub(super) fn get(&self) -> Option<&T> {
        self.0.as_ref().map(|it| &it.0)
    }
}

impl<T> Parts<T> {
    /// The objects of the list.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten().filter_map(Part::get)
    }
}

/// A type that a JSON value can be read as.
pub(super) trait Take<'de>: Sized {
    /// From a string.
    fn from_text(_: &str) -> Option<Self> {
        None
    }

    /// From a whole number that is not negative.
    fn from_count(_: u64) -> Option<Self> {
        None
    }

    /// From true or false.
    fn from_bool(_: bool) -> Option<Self> {
        None
    }

    /// From a list, which is read to its end.
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    /// From an object, which is read to its end.
    fn from_object<A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl Take<'_> for String {
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn from_count(count: u64) -> Option<Self> {
        Some(count.to_string())
    }
}

impl Take<'_> for u64 {
    fn from_count(count: u64) -> Option<Self> {
        Some(count)
    }
}

impl Take<'_> for bool {
    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl<'de, T: Deserialize<'de>> Take<'de> for Vec<T> {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut entries = Self::new();
        while let Some(entry) = list.next_element()? {
            if entries.len() >= MAX_ENTRIES {
                return Err(A::Error::custom("a list with too many entries"));
            }
            entries.push(entry);
        }
        Ok(Some(entries))
    }
}

impl<'de, T: Deserialize<'de>> Take<'de> for Fields<T> {
    fn from_object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(object)).map(|it| Some(Self(it)))
    }
}

impl<'de, T: Take<'de>> Deserialize<'de> for Lax<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any(PhantomData)).map(Lax)
    }
}

struct Any<T>(PhantomData<T>);

impl<'de, T: Take<'de>> Visitor<'de> for Any<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(T::from_bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(T::from_count(value))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(T::from_text(value))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        T::from_list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
        T::from_object(object)
    }
}

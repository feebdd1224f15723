//! Strict JSON: what `serde_json` would write and not read back is refused, and no error quotes a value.

use std::cell::Cell;
use std::fmt::Display;

use serde::ser::{
    self, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::error::Category;

use crate::{Error, ErrorKind, Result};

/// How deep arrays and objects may be in each other: the reader of `serde_json` gives up at 128.
const MAX_DEPTH: u8 = 127;

const FLOAT: &str = "a float is NaN or infinite";
const SOME: &str = "a Some holds nothing, as in Some(None) or Some(()), and would come back as None";
const DEPTH: &str = "it has more than 127 levels";
const TWICE: &str = "an object has one key twice";
const KEY: &str = "a map has a key that is no text, finite number or bool";

/// Writes a value as JSON, the same bytes as [`serde_json::to_vec`], unless it would not come back.
///
/// Some values `serde_json` writes, and then reads as another value or not at all. These are refused:
///
/// - NaN and infinities, which are written as `null`;
/// - a `Some` of what is written as `null` too, such as `Some(None)` or `Some(())`: it would come back as `None`;
/// - more than 127 arrays and objects in each other;
/// - an object with one key twice, where serde merges two values: by `#[serde(flatten)]`, or where what an
///   enum with `#[serde(tag = "…")]` holds has the tag as a key.
///
/// What a type loses by its own `Serialize` or `Deserialize`, or by attributes, cannot be seen here: for example
/// `#[serde(skip)]`, or two maps under `#[serde(flatten)]`, which both get all entries. In what is flattened,
/// untagged or tagged inside, serde cannot read 128-bit integers and keys that are numbers or bools, nor always
/// the last digit of an `f32`. Tests find these, and `MemoryStore::encoded` of `sosa-memory` helps.
///
/// For codecs and models that use `serde_json` themselves; [`Json`](crate::Json) encodes by it.
///
/// ```
/// assert_eq!(sosa::to_json(&(1.5, Some("a"), None::<u8>))?, br#"[1.5,"a",null]"#);
/// for lost in [Some(Some(f64::NAN)), Some(None)] {
///     assert!(serde_json::to_vec(&lost).is_ok());
///     assert_eq!(sosa::to_json(&lost).unwrap_err().kind(), sosa::ErrorKind::Encode);
/// }
/// # Ok::<(), sosa::Error>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::Encode`] if the value would not come back, or if it has no JSON form at all: a map whose keys are
/// no texts, finite numbers or bools, or a `Serialize` that fails. The message says which, and quotes nothing.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let refused = Cell::new(None);
    // As `serde_json::to_vec` begins.
    let mut bytes = Vec::with_capacity(128);
    let place = Place { depth: 0, inside: Inside::Other, refused: &refused };
    let written = value.serialize(Strict { inner: &mut serde_json::Serializer::new(&mut bytes), place });
    // First: a `Serialize` may have gone on after an error.
    if let Some(why) = refused.get() {
        return Err(no_form(why));
    }
    match written {
        Ok(()) => Ok(bytes),
        // When it writes, only a key is an error of syntax.
        Err(error) if error.classify() == Category::Syntax => Err(no_form(KEY)),
        Err(error) => Err(json_error(ErrorKind::Encode, &error)),
    }
}

fn no_form(why: &str) -> Error {
    Error::new(ErrorKind::Encode, format!("the value has no JSON form: {why}"))
}

/// Where in the JSON a value is written.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// How many arrays and objects are around it.
    depth: u8,
    inside: Inside,
    /// Why the value is refused. Beside the error, whose text might be anybody's.
    refused: &'a Cell<Option<&'static str>>,
}

/// What is directly around a value, but for newtypes, which JSON does not show.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Some,
    /// A `RawValue` of `serde_json` in a `Some`.
    RawInSome,
    Other,
}

impl Place<'_> {
    fn refuse<E: ser::Error>(self, why: &'static str) -> E {
        self.refused.set(Some(why));
        E::custom(why)
    }

    /// Returns the place this many arrays or objects further in.
    fn deeper<E: ser::Error>(self, levels: u8) -> Result<Self, E> {
        match self.depth + levels {
            depth @ ..=MAX_DEPTH => Ok(Self { depth, inside: Inside::Other, ..self }),
            _ => Err(self.refuse(DEPTH)),
        }
    }

    /// Checks what is written as `null`.
    fn null<E: ser::Error>(self) -> Result<(), E> {
        if self.inside == Inside::Other { Ok(()) } else { Err(self.refuse(SOME)) }
    }
}

/// A value that is written strictly.
struct Value<'a, T: ?Sized> {
    value: &'a T,
    place: Place<'a>,
}

impl<T: Serialize + ?Sized> Serialize for Value<'_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Strict { inner, place: self.place })
    }
}

/// Writes to a serializer of JSON, once it has looked at the value.
struct Strict<'a, S> {
    inner: S,
    place: Place<'a>,
}

macro_rules! as_they_are {
    ($($method:ident($type:ty),)*) => {
        $(#[inline]
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        })*
    };
}

impl<'a, S: Serializer> Serializer for Strict<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = List<'a, S::SerializeSeq>;
    type SerializeTuple = List<'a, S::SerializeTuple>;
    type SerializeTupleStruct = List<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = List<'a, S::SerializeTupleVariant>;
    type SerializeMap = Map<'a, S::SerializeMap>;
    type SerializeStruct = Fields<'a, S::SerializeStruct>;
    type SerializeStructVariant = List<'a, S::SerializeStructVariant>;

    as_they_are! {
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_i128(i128),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_u128(u128),
        serialize_char(char),
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.inner.serialize_f32(value) } else { Err(self.place.refuse(FLOAT)) }
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.inner.serialize_f64(value) } else { Err(self.place.refuse(FLOAT)) }
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        if self.place.inside == Inside::RawInSome && value == "null" {
            self.place.null()?;
        }
        self.inner.serialize_str(value)
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        // They are written as an array.
        self.place.deeper(1)?;
        self.inner.serialize_bytes(value)
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.place.null()?;
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let place = Place { inside: Inside::Some, ..self.place };
        self.inner.serialize_some(&Value { value, place })
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.place.null()?;
        self.inner.serialize_unit()
    }

    #[inline]
    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.place.null()?;
        self.inner.serialize_unit_struct(name)
    }

    #[inline]
    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &Value { value, place: self.place })
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let place = self.place.deeper(1)?;
        self.inner.serialize_newtype_variant(name, index, variant, &Value { value, place })
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Ok(List { place: self.place.deeper(1)?, inner: self.inner.serialize_seq(len)? })
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        Ok(List { place: self.place.deeper(1)?, inner: self.inner.serialize_tuple(len)? })
    }

    #[inline]
    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        Ok(List { place: self.place.deeper(1)?, inner: self.inner.serialize_tuple_struct(name, len)? })
    }

    // An object around the variant's own array or object.
    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let place = self.place.deeper(2)?;
        Ok(List { place, inner: self.inner.serialize_tuple_variant(name, index, variant, len)? })
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let place = self.place.deeper(2)?;
        Ok(List { place, inner: self.inner.serialize_struct_variant(name, index, variant, len)? })
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let place = self.place.deeper(1)?;
        // A struct with a flattened field does not know its length.
        let keys = len.is_none().then(|| Vec::with_capacity(256));
        Ok(Map { place, inner: self.inner.serialize_map(len)?, keys })
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        // By structs of these names `serde_json` writes a number or JSON text of its own, and no object. It does not
        // limit how deep such text is when it reads it.
        let place = match name {
            "$serde_json::private::RawValue" if self.place.inside == Inside::Some => {
                Place { inside: Inside::RawInSome, ..self.place }
            }
            "$serde_json::private::RawValue" | "$serde_json::private::Number" => {
                Place { inside: Inside::Other, ..self.place }
            }
            _ => self.place.deeper(1)?,
        };
        Ok(Fields { place, inner: self.inner.serialize_struct(name, len)?, first: None })
    }

    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Elements, or fields whose names differ.
struct List<'a, L> {
    inner: L,
    place: Place<'a>,
}

macro_rules! list {
    ($($trait:ident::$method:ident($($name:ident)?),)*) => {
        $(impl<L: $trait> $trait for List<'_, L> {
            type Ok = L::Ok;
            type Error = L::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: &'static str,)?
                value: &T,
            ) -> Result<(), L::Error> {
                self.inner.$method($($name,)? &Value { value, place: self.place })
            }

            #[inline]
            fn end(self) -> Result<L::Ok, L::Error> {
                self.inner.end()
            }
        })*
    };
}

list! {
    SerializeSeq::serialize_element(),
    SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(),
    SerializeTupleVariant::serialize_field(),
    SerializeStructVariant::serialize_field(name),
}

/// The fields of a struct.
struct Fields<'a, F> {
    inner: F,
    place: Place<'a>,
    /// The first name: the tag, in a variant of an enum that is tagged inside.
    first: Option<&'static str>,
}

impl<F: SerializeStruct> SerializeStruct for Fields<'_, F> {
    type Ok = F::Ok;
    type Error = F::Error;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), F::Error> {
        match self.first {
            None => self.first = Some(name),
            Some(first) if first == name => return Err(self.place.refuse(TWICE)),
            Some(_) => {}
        }
        self.inner.serialize_field(name, &Value { value, place: self.place })
    }

    #[inline]
    fn end(self) -> Result<F::Ok, F::Error> {
        self.inner.end()
    }
}

/// The entries of a map.
///
/// A map has each key once, unless serde puts other fields in front of its own: those of a struct that flattens it, or
/// the tag of an enum. Only then keys are compared.
struct Map<'a, M> {
    inner: M,
    place: Place<'a>,
    /// The keys as JSON, a line each, if they are compared.
    keys: Option<Vec<u8>>,
}

impl<M: SerializeMap> SerializeMap for Map<'_, M> {
    type Ok = M::Ok;
    type Error = M::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), M::Error> {
        // A tag comes first, and is a `str` itself, a type without a size, so that a reference to it is larger. The
        // keys of a map have a size.
        if size_of::<&T>() > size_of::<&()>() {
            self.keys.get_or_insert_with(|| Vec::with_capacity(256));
        }
        if let Some(keys) = &mut self.keys {
            // What is no key fails below.
            let _ = serde_json::to_writer(&mut *keys, key);
            keys.push(b'\n');
        }
        self.inner.serialize_key(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), M::Error> {
        self.inner.serialize_value(&Value { value, place: self.place })
    }

    #[inline]
    fn end(self) -> Result<M::Ok, M::Error> {
        if self.keys.is_some_and(|keys| has_a_line_twice(&keys)) {
            return Err(self.place.refuse(TWICE));
        }
        self.inner.end()
    }
}

fn has_a_line_twice(text: &[u8]) -> bool {
    let mut lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines.windows(2).any(|pair| pair[0] == pair[1])
}

/// Tells of a JSON error without its text, which may quote the value.
///
/// For codecs and models that use `serde_json` themselves; to write, there is [`to_json`].
pub fn json_error(kind: ErrorKind, error: &serde_json::Error) -> Error {
    let what = match error.classify() {
        _ if kind == ErrorKind::Encode => "the value has no JSON form",
        Category::Io => "the JSON could not be read",
        Category::Syntax => "the JSON is malformed",
        Category::Data => "the JSON has another type than asked",
        Category::Eof => "the JSON ends early",
    };
    match error.line() {
        0 => Error::new(kind, what),
        line => Error::new(kind, format!("{what} (line {line}, column {})", error.column())),
    }
}

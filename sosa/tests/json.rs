//! What JSON accepts it gives back; what it would change or lose is refused.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as _;
use std::marker::PhantomData;

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::ser::{self, SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sosa::{Codec, ErrorKind, Json, Keyspace, to_json};

mod shapes;
use shapes::{Bytes, Flat, Float, New, Nothing, Shape, Tagged, chain, comes_back, shapes, tree};

const FLOAT: &str = "a float is NaN or infinite";
const SOME: &str = "a Some holds nothing, as in Some(None) or Some(()), and would come back as None";
const DEPTH: &str = "it has more than 127 levels";
const TWICE: &str = "an object has one key twice";
const KEY: &str = "a map has a key that is no text, finite number or bool";

/// Asserts that a value is refused, and why.
#[track_caller]
fn refused<T: Serialize>(value: &T, why: &str) {
    let error = to_json(value).expect_err("it would not come back");
    assert_eq!(error.kind(), ErrorKind::Encode);
    assert_eq!(error.to_string(), format!("the value has no JSON form: {why}"));
    assert!(error.source().is_none());
}

/// Asserts that a value is written as `serde_json` does, and comes back.
#[track_caller]
fn accepted<T: Serialize + DeserializeOwned + PartialEq>(value: &T) {
    let json = to_json(value).expect("it comes back");
    assert_eq!(json, serde_json::to_vec(value).unwrap());
    assert!(serde_json::from_slice::<T>(&json).unwrap() == *value);
}

fn one<K: Ord, V>(key: K, value: V) -> BTreeMap<K, V> {
    BTreeMap::from([(key, value)])
}

#[test]
fn floats_must_be_finite() {
    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused(&float, FLOAT);
        refused(&(float as f32), FLOAT);
        refused(&Some(float), FLOAT);
        refused(&(1, vec![New(Some(float))]), FLOAT);
        refused(&one("a", float), FLOAT);
        refused(&one(Float(float), 1), KEY);
    }
    for float in [0.0, -0.0, 5e-324, f64::MIN_POSITIVE, f64::MAX, f64::MIN] {
        accepted(&float);
        accepted(&one(Float(float), 1));
    }
    let bits = |json: &[u8]| serde_json::from_slice::<f64>(json).unwrap().to_bits();
    assert_eq!(bits(&to_json(&-0.0).unwrap()), (-0.0_f64).to_bits());
    // Its digits mean another float where they are read as an f64 first.
    accepted(&7.038531e-26_f32);
    accepted(&f32::MAX);
}

#[test]
fn a_some_must_hold_something() {
    refused(&Some(None::<u8>), SOME);
    refused(&Some(()), SOME);
    refused(&Some(Nothing), SOME);
    refused(&Some(PhantomData::<u8>), SOME);
    refused(&Some(New(())), SOME);
    refused(&Some(New(Some(New(None::<u8>)))), SOME);
    refused(&New(Some(Box::new(None::<u8>))), SOME);
    refused(&vec![(1, Some(Some(None::<u8>)))], SOME);
    refused(&one("a", Some(())), SOME);
    refused(&Some(Value::Null), SOME);
    refused(&Some(RawValue::from_string("null".to_owned()).unwrap()), SOME);
    refused(&Some(New(RawValue::from_string(" null ".to_owned()).unwrap())), SOME);

    accepted(&None::<Option<u8>>);
    accepted(&Some(Some(1)));
    accepted(&((), Nothing, New(()), New(None::<u8>)));
    accepted(&Some(vec![None::<u8>]));
    accepted(&Some(("null".to_owned(), None::<u8>, ())));
    accepted(&Some(one("a".to_owned(), None::<u8>)));
    accepted(&Some(Ok::<Option<u8>, ()>(None)));
    accepted(&Some("null".to_owned()));
    for text in ["\"null\"", "0", "[null]"] {
        let raw = Some(RawValue::from_string(text.to_owned()).unwrap());
        assert_eq!(to_json(&raw).unwrap(), text.as_bytes());
    }
    assert_eq!(to_json(&RawValue::NULL).unwrap(), b"null");
}

#[test]
fn as_many_levels_as_are_read() {
    accepted(&tree(127));
    refused(&tree(128), DEPTH);
    accepted(&chain(127));
    refused(&chain(128), DEPTH);
    // Far more than the stack has room for.
    let mut deep = tree(100_000);
    refused(&deep, DEPTH);
    // Nor has it for dropping them.
    while let Some(next) = deep.0.pop() {
        deep = next;
    }

    /// Levels around what is asked for.
    fn around<T: Serialize>(levels: usize, inner: T) -> Value {
        (0..levels).fold(serde_json::to_value(inner).unwrap(), |value, _| Value::from(vec![value]))
    }
    accepted(&around(127, 1));
    refused(&around(128, 1), DEPTH);

    #[derive(Clone, PartialEq, Serialize, Deserialize)]
    struct Pair(u8, u8);
    /// A value in arrays, without being turned into a `Value`.
    #[derive(PartialEq, Serialize, Deserialize)]
    #[serde(bound(deserialize = "T: DeserializeOwned"))]
    enum In<T> {
        #[serde(untagged)]
        Array(Vec<In<T>>),
        #[serde(untagged)]
        Value(T),
    }
    fn inside<T>(levels: usize, inner: T) -> In<T> {
        (0..levels).fold(In::Value(inner), |inner, _| In::Array(vec![inner]))
    }
    fn takes<T: Serialize + DeserializeOwned + PartialEq + Clone>(levels: usize, inner: T) {
        let json = to_json(&inside(127 - levels, inner.clone())).expect("these levels are read");
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok());
        assert!(serde_json::from_slice::<Value>(&json).is_ok());
        refused(&inside(128 - levels, inner), DEPTH);
    }
    takes(0, 1);
    takes(0, Shape::Unit);
    takes(0, Some(New("a".to_owned())));
    takes(1, Vec::<u8>::new());
    takes(1, Some((1, 2)));
    takes(1, BTreeMap::<u8, u8>::new());
    takes(1, Pair(1, 2));
    takes(1, Bytes(Vec::new()));
    takes(1, Shape::Null(()));
    takes(2, Shape::NoFields());
    takes(2, Shape::NoNames {});
    takes(2, Shape::Bytes(Bytes(vec![1])));
    takes(3, Shape::Struct { inner: Box::new(Shape::Bool(true)), other: None });
    takes(3, Shape::Tuple(Box::new(Shape::Bool(true)), None));
    takes(1, Flat { a: None, rest: BTreeMap::new() });

    // A reader takes raw JSON as it is, and counts nothing in it.
    let raw = RawValue::from_string(format!("{}{}", "[".repeat(1000), "]".repeat(1000))).unwrap();
    let json = to_json(&inside(127, &raw)).unwrap();
    assert_eq!(json, serde_json::to_vec(&inside(127, &raw)).unwrap());
}

#[test]
fn an_object_has_each_key_once() {
    let map = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), Some(true))).collect::<BTreeMap<_, _>>();
    accepted(&Flat { a: None, rest: map(&["", "b", "\"a\"", "a\n"]) });
    refused(&Flat { a: None, rest: map(&["a"]) }, TWICE);
    refused(&vec![Some(Flat { a: Some(true), rest: map(&["0", "a", "b"]) })], TWICE);
    #[derive(PartialEq, Serialize, Deserialize)]
    struct MapFirst {
        #[serde(flatten)]
        rest: BTreeMap<String, Option<bool>>,
        a: Option<bool>,
    }
    accepted(&MapFirst { rest: map(&["b"]), a: None });
    refused(&MapFirst { rest: map(&["a", "b"]), a: None }, TWICE);
    accepted(&Tagged::Map(map(&["b"])));
    refused(&Tagged::Map(map(&["a", "b"])), TWICE);
    refused(&Tagged::Map(map(&["0", "a"])), TWICE);
    accepted(&Tagged::Fields { b: 1 });
    // Its tag is the field's name.
    refused(&Tagged::Flat(Flat { a: None, rest: map(&[]) }), TWICE);

    #[derive(Serialize)]
    #[serde(tag = "a")]
    enum Outer {
        Struct(Fields),
        Tagged(Tagged),
        Untagged(HashMap<u8, ()>),
    }
    #[derive(Serialize)]
    struct Fields {
        b: u8,
        a: u8,
    }
    refused(&Outer::Struct(Fields { a: 1, b: 1 }), TWICE);
    refused(&Outer::Tagged(Tagged::Fields { b: 1 }), TWICE);
    refused(&Outer::Tagged(Tagged::Unit), TWICE);
    assert!(to_json(&Outer::Untagged(HashMap::from([(1, ())]))).is_ok());

    #[derive(Serialize)]
    struct Two {
        #[serde(flatten)]
        one: BTreeMap<u8, u8>,
        #[serde(flatten)]
        other: HashMap<Plain, Plain>,
    }
    #[derive(PartialEq, Eq, Hash, Serialize)]
    enum Plain {
        #[serde(rename = "zoë")]
        Zoe,
    }
    let two = |one, other| Two { one, other };
    assert!(to_json(&two(one(1, 2), HashMap::from([(Plain::Zoe, Plain::Zoe)]))).is_ok());
    refused(&(two(BTreeMap::new(), HashMap::new()), map(&["a"]), Flat { a: None, rest: map(&["a"]) }), TWICE);
}

#[test]
fn keys_are_texts_numbers_and_bools() {
    accepted(&one("a".to_owned(), 1));
    accepted(&one(i128::MIN, 1));
    accepted(&one(u128::MAX, 1));
    accepted(&one(true, 1));
    accepted(&one('"', 1));
    accepted(&one(New(Some(1)), 1));
    accepted(&one(Some("a".to_owned()), 1));
    accepted(&one(shapes::Plain::Two, 1));
    refused(&one(None::<u8>, 1), KEY);
    refused(&one((), 1), KEY);
    refused(&one((1, 2), 1), KEY);
    refused(&one(vec![1], 1), KEY);
    refused(&one(Ok::<u8, ()>(1), 1), KEY);
}

#[test]
fn an_error_quotes_nothing_and_cannot_be_swallowed() {
    struct Fails;
    impl Serialize for Fails {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(ser::Error::custom("a secret"))
        }
    }
    let error = to_json(&Fails).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Encode, "the value has no JSON form"));
    assert!(error.source().is_none());

    struct Swallows;
    impl Serialize for Swallows {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(1))?;
            let _ = map.serialize_entry("a", &f64::NAN);
            map.end()
        }
    }
    refused(&Swallows, FLOAT);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_is_accepted_comes_back(shape in shapes()) {
        let place = Keyspace::new("p", "n");
        let key = place.key("id").unwrap();
        match Json.encode(&key, &shape) {
            Ok(json) => {
                prop_assert_eq!(&json, &serde_json::to_vec(&shape).unwrap());
                prop_assert_eq!(Codec::<Shape>::decode(&Json, &key, &json).unwrap(), shape);
            }
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::Encode);
                prop_assert!(!comes_back(&shape), "refused for no reason: {}", error);
            }
        }
    }
}

//! Values of all shapes that derived types have, and whether JSON gives them back.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use proptest::collection::{btree_map, vec};
use proptest::num::{f32 as f32s, f64 as f64s};
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::Union;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sosa::serde_json::{self, Value};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Shape {
    Unit,
    Bool(bool),
    Small(i8),
    Large(u64),
    Wide(i128, u128),
    Single(f32),
    Double(f64),
    Char(char),
    Text(String),
    Bytes(Bytes),
    Null(()),
    Nothing(Nothing),
    NoFields(),
    NoNames {},
    OptBool(Option<bool>),
    OptWide(Option<u128>),
    OptDouble(Option<f64>),
    OptSingle(Option<New<f32>>),
    OptUnit(Option<()>),
    OptNothing(Option<Nothing>),
    OptOpt(Option<Option<Option<u8>>>),
    OptNew(Option<New<Option<char>>>),
    NewOpt(New<Option<New<New<()>>>>),
    OptBytes(Option<Bytes>),
    OptTuple(Option<(Option<()>, New<Option<bool>>)>),
    OptList(Option<Vec<Option<Nothing>>>),
    OptMap(Option<BTreeMap<u8, Option<f32>>>),
    OptPlain(Option<Plain>),
    OptBoxed(Option<Box<Shape>>),
    OptJson(Option<Value>),
    Results(Vec<Result<(), Option<bool>>>),
    IntKeys(BTreeMap<i64, Option<u8>>),
    WideKeys(BTreeMap<u128, ()>),
    BoolKeys(BTreeMap<bool, ()>),
    CharKeys(BTreeMap<char, ()>),
    NewKeys(BTreeMap<New<u8>, ()>),
    PlainKeys(BTreeMap<Plain, ()>),
    OptKeys(BTreeMap<Option<String>, ()>),
    FloatKeys(BTreeMap<Float, ()>),
    PairKeys(BTreeMap<(u8, bool), ()>),
    UnitKeys(BTreeMap<(), ()>),
    Tree(Tree),
    Chain(Chain),
    Flat(Flat),
    Tagged(Tagged),
    Newtype(Box<Shape>),
    Tuple(Box<Shape>, Option<bool>),
    Struct { inner: Box<Shape>, other: Option<Option<bool>> },
    Seq(Vec<Shape>),
    Map(BTreeMap<String, Shape>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Nothing;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct New<T>(pub(crate) T);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Plain {
    One,
    Two,
}

/// Arrays in arrays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tree(pub(crate) Vec<Tree>);

/// Objects in objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Chain {
    next: Option<Box<Chain>>,
}

/// A map beside fields that may have the same names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flat {
    pub(crate) a: Option<bool>,
    #[serde(flatten)]
    pub(crate) rest: BTreeMap<String, Option<bool>>,
}

/// An enum whose variants may hold something under the name of the tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "a")]
pub(crate) enum Tagged {
    Map(BTreeMap<String, Option<bool>>),
    Flat(Flat),
    Fields { b: u8 },
    Unit,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Vec<u8>, A::Error> {
                std::iter::from_fn(|| bytes.next_element().transpose()).collect()
            }
        }
        deserializer.deserialize_byte_buf(Read).map(Self)
    }
}

/// A float in an order, so that a map can have it as its key.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Float(pub(crate) f64);

impl Ord for Float {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Float {}

/// Returns whether plain `serde_json` gives the value back.
pub(crate) fn comes_back<T: Serialize + for<'de> Deserialize<'de> + PartialEq>(value: &T) -> bool {
    let text = serde_json::to_vec(value);
    text.is_ok_and(|text| serde_json::from_slice::<T>(&text).is_ok_and(|read| read == *value))
}

/// Returns arrays in each other.
pub(crate) fn tree(levels: usize) -> Tree {
    (1..levels).fold(Tree(Vec::new()), |tree, _| Tree(vec![tree]))
}

/// Returns objects in each other.
pub(crate) fn chain(levels: usize) -> Chain {
    (1..levels).fold(Chain { next: None }, |chain, _| Chain { next: Some(Box::new(chain)) })
}

fn flat() -> impl Strategy<Value = Flat> {
    (any::<Option<bool>>(), few_names()).prop_map(|(a, rest)| Flat { a, rest })
}

fn few_names() -> impl Strategy<Value = BTreeMap<String, Option<bool>>> {
    btree_map("[a-d]", any::<Option<bool>>(), 0..4)
}

fn singles() -> impl Strategy<Value = f32> {
    prop_oneof![4 => f32s::ANY, 1 => Just(f32::NAN), 1 => Just(f32::INFINITY)]
}

fn doubles() -> impl Strategy<Value = f64> {
    prop_oneof![4 => f64s::ANY, 1 => Just(f64::NAN), 1 => Just(f64::NEG_INFINITY)]
}

fn leaf() -> impl Strategy<Value = Shape> {
    use Shape::*;
    fn of<S: Strategy<Value: 'static> + 'static>(values: S, shape: fn(S::Value) -> Shape) -> BoxedStrategy<Shape> {
        values.prop_map(shape).boxed()
    }
    let nothing = || option::of(Just(self::Nothing));
    let plain = || prop_oneof![Just(Plain::One), Just(Plain::Two)];
    let bytes = || any::<Vec<u8>>().prop_map(self::Bytes);
    let json = prop_oneof![
        Just(Value::Null),
        any::<u64>().prop_map(Value::from),
        vec(any::<Option<bool>>(), 0..3).prop_map(Value::from)
    ];
    let tagged = prop_oneof![
        few_names().prop_map(self::Tagged::Map),
        flat().prop_map(self::Tagged::Flat),
        any::<u8>().prop_map(|b| self::Tagged::Fields { b }),
        Just(self::Tagged::Unit),
    ];
    Union::new([
        prop_oneof![Just(Unit), Just(Null(())), Just(Nothing(self::Nothing)), Just(NoFields()), Just(NoNames {})]
            .boxed(),
        of(any::<bool>(), Bool),
        of(any::<i8>(), Small),
        of(any::<u64>(), Large),
        of(any::<(i128, u128)>(), |(signed, unsigned)| Wide(signed, unsigned)),
        of(singles(), Single),
        of(doubles(), Double),
        of(any::<char>(), Char),
        of(any::<String>(), Text),
        of(bytes(), Bytes),
        of(any::<Option<bool>>(), OptBool),
        of(any::<Option<u128>>(), OptWide),
        of(option::of(doubles()), OptDouble),
        of(option::of(singles().prop_map(New)), OptSingle),
        of(any::<Option<()>>(), OptUnit),
        of(nothing(), OptNothing),
        of(any::<Option<Option<Option<u8>>>>(), OptOpt),
        of(option::of(any::<Option<char>>().prop_map(New)), OptNew),
        of(option::of(Just(New(New(())))).prop_map(New), NewOpt),
        of(option::of(bytes()), OptBytes),
        of(option::of((any::<Option<()>>(), any::<Option<bool>>().prop_map(New))), OptTuple),
        of(option::of(vec(nothing(), 0..3)), OptList),
        of(option::of(btree_map(any::<u8>(), option::of(singles()), 0..3)), OptMap),
        of(option::of(plain()), OptPlain),
        of(option::of(json), OptJson),
        of(vec(prop_oneof![Just(Ok(())), any::<Option<bool>>().prop_map(Err)], 0..3), Results),
        of(btree_map(any::<i64>(), any::<Option<u8>>(), 0..3), IntKeys),
        of(btree_map(any::<u128>(), Just(()), 0..3), WideKeys),
        of(btree_map(any::<bool>(), Just(()), 0..3), BoolKeys),
        of(btree_map(any::<char>(), Just(()), 0..3), CharKeys),
        of(btree_map(any::<u8>().prop_map(New), Just(()), 0..3), NewKeys),
        of(btree_map(plain(), Just(()), 0..3), PlainKeys),
        of(btree_map(any::<Option<String>>(), Just(()), 0..3), OptKeys),
        of(btree_map(doubles().prop_map(Float), Just(()), 0..3), FloatKeys),
        of(btree_map(any::<(u8, bool)>(), Just(()), 0..3), PairKeys),
        of(btree_map(Just(()), Just(()), 0..2), UnitKeys),
        of((1..140_usize).prop_map(tree), Tree),
        of((1..140_usize).prop_map(chain), Chain),
        of(flat(), Flat),
        of(tagged, Tagged),
    ])
}

/// Puts a shape into another one.
fn wrap(inner: Shape, wrapper: u8) -> Shape {
    let boxed = Box::new(inner);
    match wrapper % 6 {
        0 => Shape::Newtype(boxed),
        1 => Shape::OptBoxed(Some(boxed)),
        2 => Shape::Tuple(boxed, None),
        3 => Shape::Struct { inner: boxed, other: None },
        4 => Shape::Seq(vec![Shape::Unit, *boxed]),
        _ => Shape::Map(BTreeMap::from([("inner".to_owned(), *boxed)])),
    }
}

/// Makes shapes, small ones and some with more levels than JSON is read with.
pub(crate) fn shapes() -> impl Strategy<Value = Shape> {
    let wrappers = prop_oneof![4 => vec(any::<u8>(), 0..4), 1 => vec(any::<u8>(), 50..80)];
    (leaf(), wrappers).prop_map(|(leaf, wrappers)| wrappers.into_iter().fold(leaf, wrap))
}

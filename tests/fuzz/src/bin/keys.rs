//! Keys: two entries never share one, and each says whose it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sosa::Keyspace;

type Names = (String, String, Vec<String>, String);

fuzz_target!(|input: (Names, Names)| {
    let key = |(prefix, name, path, id): &Names| {
        let keyspace = path.iter().fold(Keyspace::new(prefix, name), |keyspace, part| keyspace.within(part));
        let key = keyspace.key(id).ok()?;
        assert_eq!(key.id(), id);
        Some(key.to_string())
    };
    let (one, other) = &input;
    let (Some(first), Some(second)) = (key(one), key(other)) else { return };
    assert_eq!(first == second, one == other, "{one:?} and {other:?}");
});

//! Store URLs: read or refused, and never shown with their password.
#![no_main]

use libfuzzer_sys::fuzz_target;

const PASSWORD: &str = "sesame7";

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // A password in the place where one can be.
    let with_password = text.replacen("://", &format!("://ada:{PASSWORD}@"), 1);
    for url in [text, &with_password] {
        let shown = match sosa_redis::from_url(url, "fuzz") {
            Ok(store) => format!("{store:?} {:?}", store.collection::<u8>("things")),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!shown.contains(PASSWORD), "the password is shown");
    }
});

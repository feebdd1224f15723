//! What the measured sessions hold.

use serde_json::{Map, Value, json};

/// What a session of a shop holds: ten keys and about 940 bytes of JSON.
pub fn contents() -> Map<String, Value> {
    let item = |sku, title, quantity, price| json!({"sku": sku, "title": title, "quantity": quantity, "price": price});
    let contents = json!({
        "user": {"id": 184_467, "name": "Ada Lovelace", "email": "ada@example.test", "roles": ["customer", "editor"],
            "address": {"street": "12 St James's Square", "city": "London", "postcode": "SW1Y 4LB", "country": "GB"}},
        "cart": [
            item("A-1001", "Notebook, squared, 96 pages", 2, 4.5),
            item("B-2040", "Fountain pen, fine nib", 1, 32.0),
            item("C-0007", "Ink, blue-black, 50 ml", 3, 8.75),
        ],
        "csrf": "q3Zk7Xn0cVbT5yLw2RmDfGh8JpUe1AsOiN4Kx6Qz9Bv",
        "theme": "dark",
        "locale": "en-GB",
        "seen": ["A-1001", "A-1002", "B-2040", "B-2041", "C-0007", "C-0019", "D-3301", "E-4410"],
        "return_to": "/products/stationery/pens-and-ink?sort=price&direction=down&page=3",
        "flash": [
            {"level": "info", "text": "Your cart was saved, and waits for you for thirty days."},
            {"level": "warning", "text": "The price of one of the things in it has changed since you put it there."},
        ],
        "logged_in_at": "2026-11-24T09:15:02.113Z",
        "views": 12,
    });
    match contents {
        Value::Object(contents) => contents,
        _ => unreachable!("it is an object"),
    }
}

/// One key of them.
pub fn tiny() -> Map<String, Value> {
    contents().into_iter().filter(|(key, _)| key == "views").collect()
}

/// All of them behind 100 KB in a hundred other keys.
pub fn large() -> Map<String, Value> {
    let others = (0..100).map(|n| (format!("note {n}"), json!("a line of a note, ".repeat(57))));
    others.chain(contents()).collect()
}

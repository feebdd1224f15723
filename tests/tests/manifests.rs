//! What the manifests promise.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Numbers of a version that may leave out the last ones.
fn version(text: &str) -> Vec<u64> {
    text.split('.').map(|number| number.parse().expect("a number")).chain([0, 0]).take(3).collect()
}

/// Whoever has the Rust that a crate names can build it: none of its normal dependencies asks for a newer one.
#[test]
fn no_dependency_asks_for_a_newer_rust() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--all-features", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let array = |value: &Value| value.as_array().expect("an array").clone();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let packages: BTreeMap<_, _> =
        array(&metadata["packages"]).into_iter().map(|package| (text(&package["id"]), package)).collect();
    let normal = |node: &Value| -> Vec<String> {
        let is_normal = |dep: &&Value| array(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        array(&node["deps"]).iter().filter(is_normal).map(|dep| text(&dep["pkg"])).collect()
    };
    let nodes: BTreeMap<_, _> =
        array(&metadata["resolve"]["nodes"]).iter().map(|node| (text(&node["id"]), normal(node))).collect();

    let (mut looked_at, mut newer) = (0, Vec::new());
    for member in array(&metadata["workspace_members"]).iter().map(text) {
        let ours = text(&packages[&member]["rust_version"]);
        let (mut seen, mut rest) = (BTreeSet::new(), vec![member.clone()]);
        while let Some(id) = rest.pop() {
            if seen.insert(id.clone()) {
                rest.extend(nodes[&id].iter().cloned());
                if let Some(theirs) = packages[&id]["rust_version"].as_str()
                    && version(theirs) > version(&ours)
                {
                    newer.push(format!("{member} promises {ours}, and {id} asks for {theirs}"));
                }
            }
        }
        looked_at += seen.len();
    }
    assert!(looked_at > 100, "hardly any dependency was looked at");
    assert_eq!(newer, [""; 0]);
}

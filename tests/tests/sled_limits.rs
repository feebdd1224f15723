//! A sled database where the disk is full, or may not be written.

use std::path::Path;
use std::process::Command;

/// Runs `sled_full` in a mount namespace of its own, after `prepare` has mounted something at the path.
fn run(prepare: &str, mode: &str, path: &Path) -> String {
    let program = env!("CARGO_BIN_EXE_sled_full");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "bash", "-c"])
        .arg(format!(r#"set -e; {prepare}; exec "$2" "$3" "$1""#))
        .arg("bash")
        .args([path.as_os_str(), program.as_ref(), mode.as_ref()])
        .output()
        .expect("unshare is there");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "it needs user namespaces: {}\n{out}{err}", output.status);
    out.into_owned()
}

#[test]
fn a_full_disk_is_told_and_nothing_acknowledged_is_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let told = run(r#"mount -t tmpfs -o size=6m none "$1""#, "fill", directory.path());
    let lines: Vec<_> = told.lines().collect();
    assert!(lines[0].starts_with("CapacityExceeded Unknown after "), "{told}");
    assert!(!lines[0].contains("after 0:"), "{told}");
    assert!(matches!(lines[1], "then CapacityExceeded" | "then Unavailable"), "{told}");
    assert_eq!(lines[2], "all there");
}

#[test]
fn a_directory_that_may_not_be_written_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let read_only = run(r#"mount -t tmpfs -o ro none "$1""#, "open", directory.path());
    assert!(read_only.starts_with("PermissionDenied: "), "{read_only}");
    // Somebody else's.
    let prepare = r#"cd "$1"; chmod 555 .; set -- "$1/data" "$2" "$3"; exec unshare --user "$2" "$3" "$1""#;
    let forbidden = run(prepare, "open", directory.path());
    assert!(forbidden.starts_with("PermissionDenied: "), "{forbidden}");
}

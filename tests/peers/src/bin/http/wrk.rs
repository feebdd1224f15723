//! wrk, which asks.

use std::path::Path;
use std::process::Command;

use crate::{CONNECTIONS, SECONDS};

/// Makes it send the cookies that lie in a file.
pub const SCRIPT: &str = include_str!("wrk.lua");

/// Lets it ask for a while, and returns the answers a second, and the time in which 99 of 100 came, in
/// milliseconds. Where one is no success, that is what wrk said.
pub fn run(script: &Path, url: &str, cookies: &Path) -> Result<(f64, f64), String> {
    let output = Command::new("wrk")
        .args(["--threads", "1", "--connections", &CONNECTIONS.to_string()])
        .args(["--duration", &format!("{SECONDS}s"), "--latency", "--script"])
        .arg(script)
        .arg(url)
        .arg(cookies)
        .output()
        .expect("wrk is missing: sudo apt-get install wrk");
    let text = String::from_utf8_lossy(&output.stdout);
    let failed = ["Non-2xx or 3xx responses", "Socket errors"].iter().any(|failure| text.contains(failure));
    parse(&text).filter(|_| output.status.success() && !failed).ok_or_else(|| format!("wrk said\n{text}"))
}

/// Finds the rate and the 99th percentile, in milliseconds, in what wrk prints.
fn parse(text: &str) -> Option<(f64, f64)> {
    let after = |label| text.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::trim);
    let rate = after("Requests/sec:")?.parse().ok()?;
    let latency = after("99%")?;
    let (value, unit) = latency.split_at(latency.find(char::is_alphabetic)?);
    let milliseconds = match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        _ => return None,
    };
    Some((rate, value.parse::<f64>().ok()? * milliseconds))
}

/// Returns the number in the first line that wrk prints, which a distribution puts behind its name.
pub fn version() -> String {
    let output = Command::new("wrk").arg("-v").output().expect("wrk is missing: sudo apt-get install wrk");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let word = text.split_whitespace().nth(1).and_then(|word| word.rsplit('/').next());
    word.and_then(|word| word.split('-').next()).unwrap_or("?").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints() {
        let text = |latency| format!("    90%  600.00us\n    99%    {latency}\nRequests/sec:  12345.67\n");
        assert_eq!(parse(&text("750.00us")), Some((12345.67, 0.75)));
        assert_eq!(parse(&text("1.25ms")), Some((12345.67, 1.25)));
        assert_eq!(parse(&text("1.50s")), Some((12345.67, 1500.0)));
        assert_eq!(parse("no figures"), None);
    }
}

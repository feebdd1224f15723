//! Tables, and the page that they are written to.

use std::fmt::{Display, Write as _};
use std::path::Path;
use std::process::Command;
use std::{fs, thread};

use crate::median;

/// A table whose rows are contenders.
pub struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    /// Makes a table with this text above the names of its rows.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), columns: Vec::new(), rows: Vec::new() }
    }

    /// Adds a column: what it says of each row, which need not say something of all.
    pub fn column(
        &mut self,
        name: impl Into<String>,
        cells: impl IntoIterator<Item = (impl Into<String>, impl Display)>,
    ) {
        for (row, cell) in cells {
            let row = row.into();
            let index = self.rows.iter().position(|(name, _)| *name == row).unwrap_or_else(|| {
                self.rows.push((row, Vec::new()));
                self.rows.len() - 1
            });
            let cells = &mut self.rows[index].1;
            cells.resize(self.columns.len(), String::new());
            cells.push(cell.to_string());
        }
        self.columns.push(name.into());
    }

    fn text(&self) -> String {
        let mut text =
            format!("| {} | {} |\n|---|{}\n", self.title, self.columns.join(" | "), "---|".repeat(self.columns.len()));
        for (name, cells) in &self.rows {
            let missing = " |".repeat(self.columns.len() - cells.len());
            writeln!(text, "| {name} | {} |{missing}", cells.join(" | ")).expect("text takes any text");
        }
        text
    }
}

/// The part of BENCHMARKS.md that one run of a benchmark writes: what is between `<!-- NAME -->` and
/// `<!-- end of NAME -->`.
pub struct Section {
    name: &'static str,
    text: String,
}

impl Section {
    /// Begins a section with what was measured on what: the packages in the versions of the lock file, and
    /// programs by what they say of themselves.
    pub fn new(name: &'static str, packages: &[&str], programs: &[&str], how: impl Display) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let date = time::OffsetDateTime::now_utc().date();
        let packages = packages.iter().map(|package| locked(package));
        let versions: Vec<_> = packages.chain(programs.iter().map(|program| version(program))).collect();
        let text = format!("*{date}, {cores} cores of {}; {}; {how}.*\n", processor(), versions.join(", "));
        println!("\n{text}");
        Self { name, text }
    }

    /// Adds a table, and prints it.
    pub fn table(&mut self, table: &Table) {
        println!("{}", table.text());
        self.text.extend(["\n", &table.text()]);
    }

    /// Puts the section in its place in BENCHMARKS.md.
    pub fn write(self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../BENCHMARKS.md");
        let page = fs::read_to_string(&path).expect("BENCHMARKS.md can be read");
        fs::write(&path, replace(&page, self.name, &self.text)).expect("BENCHMARKS.md can be written");
    }
}

fn replace(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("BENCHMARKS.md has no place for {name}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("the place for {name} has no end"));
    [before, &begin, "\n", text, "\n", &end, after].concat()
}

/// Writes a figure and how it compares: the median, and in brackets the median of the ratios with the least and
/// the greatest of them.
pub fn cell(values: &[f64], ratios: &[f64]) -> String {
    let (least, greatest) = range(ratios);
    format!("{} ({:.2}; {least:.2}–{greatest:.2})", thousands(median(values.to_vec())), median(ratios.to_vec()))
}

/// Returns the least and the greatest.
pub fn range(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), value| (least.min(*value), greatest.max(*value)))
}

/// Writes a whole number with commas.
pub fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a number of things, of which there may be one.
pub fn number_of(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", thousands(number as f64), if number == 1 { "" } else { "s" })
}

/// Returns a package with its version in this workspace's lock file. Where that has more, all of them, or that
/// which begins as what stands behind the name: `redis 1`.
fn locked(package: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let (name, wanted) = package.split_once(' ').unwrap_or((package, ""));
    let entry = format!("name = \"{name}\"\nversion = \"");
    let versions = lock.split(&entry).skip(1).filter_map(|rest| rest.split('"').next());
    let versions: Vec<_> = versions.filter(|version| version.starts_with(wanted)).collect();
    assert!(!versions.is_empty(), "no {package} is locked");
    format!("{name} {}", versions.join(" and "))
}

/// Returns what a program says of its version, in one line.
fn version(command: &str) -> String {
    let mut words = command.split(' ');
    let program = words.next().expect("a program");
    let output = Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let output = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&output);
    let number = text.split([' ', '=', '\n']).find(|word| {
        let word = word.strip_prefix('v').unwrap_or(word);
        word.starts_with(|letter: char| letter.is_ascii_digit()) && word.contains('.')
    });
    format!("{program} {}", number.unwrap_or("?").trim_start_matches('v'))
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    model.unwrap_or(std::env::consts::ARCH).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_nothing_else() {
        let page = "before\n<!-- a -->\nold\n<!-- end of a -->\nafter";
        assert_eq!(replace(page, "a", "new\n"), "before\n<!-- a -->\n\nnew\n\n<!-- end of a -->\nafter");
    }

    #[test]
    fn tables() {
        let mut table = Table::new("load");
        table.column("one", [("x", "1"), ("y", "2")]);
        table.column("two", [("y", "3")]);
        assert_eq!(table.text(), "| load | one | two |\n|---|---|---|\n| x | 1 | |\n| y | 2 | 3 |\n");
        assert_eq!(thousands(1_234_567.0), "1,234,567");
        assert_eq!(thousands(-123.4), "-123");
        assert_eq!(cell(&[10.0, 30.0, 20.0], &[0.5, 1.0, 2.0]), "20 (1.00; 0.50–2.00)");
    }
}

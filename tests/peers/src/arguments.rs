//! What a benchmark is told: `[number] [part] [--dry] [--small]`.

use std::env;

use crate::report::Section;

/// The arguments of this process.
#[derive(Clone, Copy)]
pub struct Arguments {
    /// The rounds, or the minutes, if they were given.
    pub number: Option<f64>,
    /// Whether to print only.
    pub dry: bool,
    /// Whether to try with a hundredth of the entries.
    pub small: bool,
}

impl Arguments {
    /// Reads them.
    pub fn read() -> Self {
        let mut read = Self { number: None, dry: false, small: false };
        for argument in env::args().skip(1) {
            match &*argument {
                "--dry" => read.dry = true,
                "--small" => read.small = true,
                // What is misspelled must not overwrite the page.
                option if option.starts_with('-') => panic!("{option} is no option: --dry, --small"),
                word => read.number = word.parse().ok().or(read.number),
            }
        }
        read
    }

    /// Returns whether a part is to be measured: all are, unless one was named.
    pub fn wants(&self, part: &str) -> bool {
        let mut named = env::args().skip(1).filter(|word| !word.starts_with('-') && word.parse::<f64>().is_err());
        named.next().is_none_or(|named| named == part)
    }

    /// Returns how many rounds to measure, this many unless told.
    pub fn rounds(&self, default: usize) -> usize {
        self.number.map_or(default, |number| number as usize)
    }

    /// Returns how many entries there are to be.
    pub fn entries(&self, entries: u64) -> u64 {
        if self.small { (entries / 100).max(4_000) } else { entries }
    }

    /// Writes the section, unless this is a try.
    pub fn finish(&self, section: Section) {
        if !self.dry && !self.small {
            section.write();
        }
    }
}

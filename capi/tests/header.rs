//! `include/bips.h` and `symbols.txt` are what the sources say. `cargo xtask header` writes them.

use std::path::{Path, PathBuf};

/// In the order in which the header has them.
const SOURCES: [&str; 12] = [
    "status",
    "content",
    "options",
    "fence",
    "info",
    "producer",
    "writable_frame",
    "consumer",
    "frame",
    "view",
    "tensor",
    "doctor",
];

fn capi(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn header() -> String {
    let config = cbindgen::Config::from_file(capi("cbindgen.toml")).expect("its settings");
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(capi("src").join(source).with_extension("rs"));
    }
    let mut header = Vec::new();
    builder.generate().expect("every type is known").write(&mut header);
    String::from_utf8(header).expect("made of UTF-8")
}

/// Every function of the header, a line each.
fn symbols(header: &str) -> String {
    let mut names: Vec<&str> = header
        .lines()
        .filter(|line| !line.trim_start().starts_with(['*', '/', '#']))
        .flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '('))
        .filter_map(|word| word.split_once('(').map(|(name, _)| name))
        .filter(|name| name.starts_with("bips_"))
        .collect();
    names.sort_unstable();
    names.dedup();
    names.join("\n") + "\n"
}

fn fresh(file: &str, content: &str) {
    if std::env::var_os("BIPS_WRITE_HEADER").is_some() {
        std::fs::write(capi(file), content).expect("the sources may be written");
    }
    let committed = std::fs::read_to_string(capi(file)).unwrap_or_default();
    assert!(
        committed == content,
        "{file} is not what capi/src says: run `cargo xtask header` and look at the difference"
    );
}

#[test]
fn the_header_is_fresh() {
    fresh("include/bips.h", &header());
}

/// A function that goes or changes its name breaks programs: that should be seen in a review.
#[test]
fn the_list_of_symbols_is_fresh() {
    fresh("symbols.txt", &symbols(&header()));
}

//! What was measured, as tables for people and as JSON.

use std::array;

use serde_json::{Map, Value, json};

use super::{CASES, Case, Cores, Size};
use crate::bench::timing::{Pair, Rounds};
use crate::exit::Outcome;
use crate::output::{self, Table};

pub(super) fn tables(sizes: &[Size], cores: Cores, rounds: u32) -> Outcome {
    output::line(format!(
        "one way on cores {} and {}, median of {rounds} rounds, each beside its own floor; pools of 8",
        cores.0, cores.1
    ))?;
    for (index, case) in CASES.iter().enumerate() {
        let goal = case.goal.map_or(String::new(), |goal| format!(" (goal ≤ {goal:.1})"));
        output::line(format!("\n{}", case.title))?;
        let mut table =
            Table::new(["PAYLOAD", "FLOOR", "HAND-OVER", "RATIO", "90 % OF ROUNDS", "P50", "P99"]);
        for size in sizes {
            let measured = &size.cases[index];
            let (pair, spread) = (measured.rounds.pair(), measured.rounds.spread());
            table.row([
                output::bytes(size.bytes),
                output::nanoseconds(pair.floor),
                output::nanoseconds(pair.cost),
                format!("{:.2}{goal}", pair.ratio),
                format!("{:.2} to {:.2}", spread.0, spread.1),
                output::nanoseconds(measured.p50),
                output::nanoseconds(measured.p99),
            ]);
        }
        table.print()?;
    }
    output::line("\nP50 and P99 are of single round trips, halved, less the cost of the clock.")?;
    summary(sizes)
}

/// What a goal is judged by: each payload's ratio for each way of handing over, and how much they differ.
fn summary(sizes: &[Size]) -> Outcome {
    let mut table = Table::default();
    let mut row = |name: String, figures: [String; CASES.len()]| {
        let [ahead, pausing, on_path, blocking] = figures;
        table.row([name, ahead, on_path, pausing, blocking]);
    };
    row("PAYLOAD".into(), CASES.each_ref().map(|case| case.column.into()));
    for size in sizes {
        row(output::bytes(size.bytes), array::from_fn(|case| format!("{:.2}", size.pair(case).ratio)));
    }
    row(
        "goal, each".into(),
        CASES.each_ref().map(|case| case.goal.map_or("-".into(), |goal| format!("≤ {goal:.1}"))),
    );
    row("flatness".into(), array::from_fn(|case| format!("{:.2}", flatness(span(sizes, case)))));
    output::line("\nRATIOS TO THE FLOOR")?;
    table.print()?;
    output::line("flatness: the largest of these ratios to the smallest")
}

impl Size {
    fn pair(&self, case: usize) -> Pair {
        self.cases[case].rounds.pair()
    }
}

/// The smallest and the largest ratio of one case.
fn span(sizes: &[Size], case: usize) -> (f64, f64) {
    let ratios = || sizes.iter().map(|size| size.pair(case).ratio);
    (ratios().fold(f64::NAN, f64::min), ratios().fold(f64::NAN, f64::max))
}

/// The largest ratio to the smallest: 1 where the payload doesn't matter. Of ratios, not of times: the machine may
/// change its pace from one payload to the next, and the floor beside each shows it.
fn flatness((smallest, largest): (f64, f64)) -> f64 {
    largest / smallest
}

pub(super) fn json(sizes: &[Size], cores: Cores, rounds: u32) -> Outcome {
    let mut all = Map::new();
    all.insert("bench".into(), json!("latency"));
    all.insert("cores".into(), json!([cores.0, cores.1]));
    all.insert("rounds".into(), json!(rounds));
    for (index, case) in CASES.iter().enumerate() {
        // Together: the rounds of all payloads. The goal is for each of them, so for the worst.
        let mut together = Rounds::default();
        sizes.iter().for_each(|size| together.extend(&size.cases[index].rounds));
        let span = span(sizes, index);
        let mut figures = costs(&together.pair());
        figures.push(("worst_ratio_to_floor", json!(span.1)));
        figures.push(("flatness", json!(flatness(span))));
        figures.extend(case.goal.map(|goal| ("goal_ratio", json!(goal))));
        case.insert(&mut all, figures);
    }
    let rows = sizes.iter().map(|size| {
        let mut row = Map::new();
        row.insert("bytes".into(), json!(size.bytes));
        for (case, measured) in CASES.iter().zip(&size.cases) {
            let mut figures = costs(&measured.rounds.pair());
            let spread = measured.rounds.spread();
            figures.push(("ratio_p5_p95", json!([spread.0, spread.1])));
            figures.push(("p50_ns", json!(measured.p50)));
            figures.push(("p99_ns", json!(measured.p99)));
            case.insert(&mut row, figures);
        }
        Value::Object(row)
    });
    all.insert("sizes".into(), rows.collect());
    output::json(&Value::Object(all))
}

type Figures = Vec<(&'static str, Value)>;

fn costs(pair: &Pair) -> Figures {
    vec![
        ("floor_ns", json!(pair.floor)),
        ("handover_ns", json!(pair.cost)),
        ("ratio_to_floor", json!(pair.ratio)),
    ]
}

impl Case {
    fn insert(&self, into: &mut Map<String, Value>, figures: Figures) {
        let prefix = if self.nested { "" } else { self.key };
        let figures = figures.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value));
        if self.nested {
            into.insert(self.key.into(), figures.collect());
        } else {
            into.extend(figures);
        }
    }
}

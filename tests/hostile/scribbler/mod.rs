//! Processes that write whatever they like over all that a consumer can write to, while honest ones, in processes of
//! their own, check every frame.
//!
//! `BIPS_SCRIBBLES=2000000 cargo xtask test hostile` is a long run; `BIPS_SEED` repeats the choices of one.

mod honest;
mod hostile;

use crate::common::Scratch;
use crate::common::process::{Role, Stage, play_by};
use hostile::Attacks;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) const ROLES: [Role; 4] = [
    ("publishes under attack", honest::publish),
    ("checks all", honest::receive_all),
    ("checks newest", honest::receive_newest),
    ("scribbles", hostile::scribble),
];

const SEED: &str = "BIPS_SEED";
const SCRIBBLES: &str = "BIPS_SCRIBBLES";
/// Of a run that nobody asked to be longer.
const FEW: u64 = 200_000;
const HOSTILE: u64 = 3;
/// Each hostile seat may take `MAX_HELD` away for good; the honest need some too.
const SLOTS: u32 = 16;
const MAX_HELD: u32 = 2;
/// So long may a consumer stall where it is then put out: the honest don't, even on a machine with too much to do.
const STALL: Duration = Duration::from_secs(1);
/// How long a thread that watches over a seat stays when the consumer has moved it away in its sleep.
const GUARD: Duration = Duration::from_secs(60);
/// However fast the scribbling is done, the stream must have flowed meanwhile.
const FRAMES: u64 = 2_000;

/// What they write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Plain,
    /// So many small pages that consumers say in their seats that they live.
    Watched,
    /// Puts out who stalls, reliable ones too.
    Expelling,
}

const TARGETS: [Target; 3] = [Target::Plain, Target::Watched, Target::Expelling];

impl Target {
    /// What this child was told.
    fn of(stage: &Stage) -> Self {
        TARGETS[(stage.number & 0xff) as usize]
    }

    fn frame_bytes(self) -> u64 {
        if self == Self::Watched { 600 << 10 } else { 16 << 10 }
    }
}

fn given(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}; give it a whole number")))
}

#[test]
#[ignore = "for cargo xtask test hostile"]
fn scribblers_hurt_nobody() {
    scribble_on(Target::Plain);
}

#[test]
#[ignore = "for cargo xtask test hostile"]
fn scribblers_on_a_watched_pool_hurt_nobody() {
    scribble_on(Target::Watched);
}

#[test]
#[ignore = "for cargo xtask test hostile"]
fn scribblers_that_are_put_out_hurt_nobody() {
    scribble_on(Target::Expelling);
}

fn scribble_on(target: Target) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = given(SEED).unwrap_or_else(|| now.subsec_nanos().into());
    let scribbles = given(SCRIBBLES).unwrap_or(FEW);
    println!(
        "\nscribbler: {target:?}, {scribbles} scribbles of {HOSTILE} processes; {SEED}={seed} repeats the choices"
    );
    let scratch = Scratch::new();
    let start = |role, index: u64| {
        let number = index << 8 | target as u64;
        let mut program = Command::new(std::env::current_exe().expect("a test program has a path"));
        program.env(SEED, seed.to_string()).env(SCRIBBLES, scribbles.to_string());
        play_by(program, role, scratch.path(), number)
    };
    let mut producer = start("publishes under attack", 0);
    producer.expect("ready");
    let honest = ["checks all", "checks newest"].map(|role| {
        let mut consumer = start(role, 0);
        consumer.expect("ready");
        consumer
    });
    producer.tell("begin");
    producer.expect("publishing");
    let begin = Instant::now();
    let mut total = Attacks::default();
    for mut hostile in (0..HOSTILE).map(|index| start("scribbles", index)).collect::<Vec<_>>() {
        total.add(&Attacks::of(&mut hostile));
        hostile.finish();
    }
    let took = begin.elapsed();
    producer.tell("end");
    loop {
        match producer.hear().as_str() {
            "all are gone" => break,
            threads => println!(
                "  {threads} threads watch; one that was moved away in its sleep stays for {GUARD:?}"
            ),
        }
    }
    let mut numbers = || producer.hear().parse::<u64>().expect("a number");
    let (published, longest, evicted, stalled, vigils) =
        (numbers(), numbers(), numbers(), numbers(), numbers());
    let mut belongings = || [numbers(), numbers(), numbers()];
    let (before, after) = (belongings(), belongings());
    producer.finish();
    let received = honest.map(|mut consumer| {
        let received = consumer.hear().parse::<u64>().expect("a number");
        consumer.finish();
        received
    });
    println!(
        "scribbler: {} scribbles, {} futex calls, {} seats taken, {} expulsions, {:.1} s",
        total.scribbles,
        total.calls,
        total.joins,
        total.expulsions,
        took.as_secs_f64()
    );
    println!(
        "scribbler: {published} frames published, {} and {} received whole, {evicted} evictions, longest acquire {} ms",
        received[0],
        received[1],
        longest / 1000
    );
    println!(
        "scribbler: {stalled} put out for a stall, {vigils} threads watching at most; the producer's descriptors, \
         mappings and threads: {before:?}, afterwards {after:?}; {SEED}={seed}"
    );
    assert!(total.scribbles >= scribbles && published >= FRAMES);
    assert_eq!(received[0], published, "a reliable consumer gets every frame");
    assert!(received[1] > 0 && received[1] <= published);
    assert!(total.expulsions > 0, "nothing they wrote was noticed");
    assert!(stalled > 0 || target != Target::Expelling, "nobody was put out for a stall");
    assert_eq!(after, before, "the producer keeps something of those who are gone");
}

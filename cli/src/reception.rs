//! Receiving with a time limit, and with an ear for Ctrl-C.

use bips::{Consumer, ConsumerBuilder, Ending, Frame, Policy, ReceiveError, Wait};

use crate::args::{Patience, Place};
use crate::exit::{Failure, Outcome};
use crate::interrupt::{Interrupt, SLICE};
use crate::output;

pub(crate) enum Next {
    Frame(Frame),
    /// The stream ended, and every frame published has been received.
    Ended(Ending),
    Interrupted,
}

/// How a stream ended, for JSON.
pub(crate) fn word(ending: Ending) -> &'static str {
    match ending {
        Ending::Closed => "closed",
        Ending::Expelled => "expelled",
        _ => "died",
    }
}

/// How a stream ended, for people; what follows may say when.
pub(crate) fn said(name: &str, ending: Ending) -> String {
    match ending {
        Ending::Closed => format!("{name} ended"),
        Ending::Expelled => format!("the producer of {name} put this consumer out, which held it up,"),
        _ => format!("the producer of {name} died"),
    }
}

/// A line for an end that isn't the producer's own wish.
pub(crate) fn tell(name: &str, ending: Option<Ending>, frames: u64) -> Outcome {
    match ending {
        None | Some(Ending::Closed) => Ok(()),
        Some(ending) => output::line(format!("{} after {frames} frames", said(name, ending))),
    }
}

/// How to join a stream, where it was asked for.
pub(crate) fn joining(place: &Place, name: &str, policy: Policy, wait: Wait) -> ConsumerBuilder {
    let mut builder = Consumer::builder(name).registry(bips_backends::registry()).policy(policy).wait(wait);
    if let Some(directory) = place.path() {
        builder = builder.directory(directory);
    }
    builder
}

/// Joins, unless a signal comes first.
pub(crate) fn join(joining: ConsumerBuilder, interrupt: &Interrupt) -> Outcome<Consumer> {
    let flag = interrupt.clone();
    joining.interrupt(move || flag.requested()).connect().map_err(|error| match interrupt.requested() {
        true => Failure::failed("ended by a signal before the stream was joined"),
        false => error.into(),
    })
}

/// The next frame, waited for at most `wait`; `idle` is called now and then meanwhile, with how the stream ended if it
/// did and the next producer is waited for.
pub(crate) fn next(
    consumer: &mut Consumer,
    wait: Wait,
    interrupt: &Interrupt,
    mut idle: impl FnMut(&Consumer, Option<Ending>) -> Outcome,
) -> Outcome<Next> {
    let first = match wait {
        Wait::For(time) => Wait::For(time.min(SLICE)),
        Wait::Forever => Wait::For(SLICE),
        other => other,
    };
    let mut patience = None;
    let mut slice = first;
    loop {
        if interrupt.requested() {
            return Ok(Next::Interrupted);
        }
        match consumer.receive(slice) {
            Ok(frame) => return Ok(Next::Frame(frame)),
            Err(ReceiveError::Closed) => return Ok(Next::Ended(consumer.ending().unwrap_or(Ending::Closed))),
            Err(ReceiveError::Timeout) => {
                let ended = consumer.ending();
                idle(consumer, ended)?;
                // The clock is read only when there was nothing: a frame in time costs no look at it.
                let patience = patience.get_or_insert_with(|| match (wait, first) {
                    (Wait::For(all), Wait::For(gone)) => Patience::new(Wait::For(all - gone)),
                    _ => Patience::new(wait),
                });
                match patience.slice(SLICE) {
                    Some(next) => slice = next,
                    None => return Err(too_late(consumer.name(), ended, wait)),
                }
            }
            Err(error) => return Err(consumer.explain(error).into()),
        }
    }
}

fn too_late(name: &str, ended: Option<Ending>, wait: Wait) -> Failure {
    let limit = limit(wait);
    Failure::timed_out(match ended {
        None => format!(
            "no frame of {name} came in {limit}; look whether its producer is at work with `bips info {name}`, or wait \
             longer with --wait"
        ),
        Some(ending) => format!(
            "{} and in {limit} nothing came to go on with; start the next producer of {name}, or wait longer with --wait",
            said(name, ending)
        ),
    })
}

fn limit(wait: Wait) -> String {
    match wait {
        Wait::For(time) => format!("{} s", time.as_secs_f64()),
        _ => "no time at all".into(),
    }
}

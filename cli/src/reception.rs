//! Receiving with a time limit, and with an ear for Ctrl-C.

use bips::{Consumer, Frame, Policy, ReceiveError, Wait};

use crate::args::{Patience, Place};
use crate::exit::{Failure, Outcome};
use crate::interrupt::{Interrupt, SLICE};

pub(crate) enum Next {
    Frame(Frame),
    /// The producer ended and every frame it published has been received.
    Closed,
    Interrupted,
}

/// Joins a stream. Ctrl-C needs no care here: nothing is held yet that could stay behind.
pub(crate) fn connect(place: &Place, name: &str, policy: Policy, wait: Wait) -> Outcome<Consumer> {
    let mut builder = Consumer::builder(name).registry(bips_backends::registry()).policy(policy).wait(wait);
    if let Some(directory) = place.path() {
        builder = builder.directory(directory);
    }
    Ok(builder.connect()?)
}

/// The next frame, waited for at most `wait`; `idle` is called now and then meanwhile.
pub(crate) fn next(
    consumer: &mut Consumer,
    wait: Wait,
    interrupt: &Interrupt,
    mut idle: impl FnMut(),
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
            Err(ReceiveError::Closed) => return Ok(Next::Closed),
            Err(ReceiveError::Timeout) => {
                idle();
                // The clock is read only when there was nothing: a frame in time costs no look at it.
                let patience = patience.get_or_insert_with(|| match (wait, first) {
                    (Wait::For(all), Wait::For(gone)) => Patience::new(Wait::For(all - gone)),
                    _ => Patience::new(wait),
                });
                match patience.slice(SLICE) {
                    Some(next) => slice = next,
                    None => {
                        return Err(Failure::timed_out(format!(
                            "no frame of {} came in {}; look whether its producer is at work with `bips info {0}`, or \
                             wait longer with --wait",
                            consumer.name(),
                            said(wait)
                        )));
                    }
                }
            }
            Err(error) => return Err(consumer.explain(error).into()),
        }
    }
}

fn said(wait: Wait) -> String {
    match wait {
        Wait::For(time) => format!("{} s", time.as_secs_f64()),
        _ => "no time at all".into(),
    }
}

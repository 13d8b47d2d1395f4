//! Why there is no free slot, in words: who has them, and what helps against just that.

use super::OnStall;
use super::inner::{Inner, consumers};
use crate::session::ConsumerInfo;
use crate::sys::is_stopped;
use crate::{MAX_SLOTS, Policy};

impl Inner {
    /// Why there is no free slot, and what to do.
    pub(super) fn explain_full(&self) -> String {
        let state = self.lock();
        let own = state.publisher.own_holds().count_ones();
        let mut consumers = consumers(&state);
        drop(state); // asking the system about them takes its time
        consumers.retain(|consumer| consumer.held > 0 || consumer.unread > 0);
        let stopped: Vec<_> = consumers.iter().filter(|consumer| is_stopped(consumer.pid)).collect();

        let mut holders = Vec::new();
        if own > 0 {
            holders.push(format!("this producer itself holds {own}"));
        }
        for consumer in &consumers {
            let since = consumer.held_for.max(consumer.unread_for).as_secs_f64();
            let out = if consumer.expelled { ", put out but not gone" } else { "" };
            let stopped = if stopped.contains(&consumer) { ", and is stopped" } else { "" };
            holders.push(format!(
                "{} holds {} and has {} unread ({}{out}), the oldest published {since:.1} s ago{stopped}",
                consumer.who(),
                consumer.held,
                consumer.unread,
                consumer.policy
            ));
        }
        if self.history > 0 {
            holders.push(format!("{} are kept as history", self.history));
        }
        // Whoever asked for one slot by its index may have asked for the only one that is taken.
        let taken = match self.free().map_or(0, u64::count_ones) {
            free if free == 0 || holders.is_empty() => {
                format!("all {} slots of {}", self.pool.len(), self.name)
            }
            free => format!("{} of {} slots of {}", self.pool.len() - free, self.pool.len(), self.name),
        };
        let holders = if holders.is_empty() { "freed just now".into() } else { holders.join(", ") };
        format!("{taken} are taken: {holders}; {}", self.what_helps(own, &consumers, &stopped))
    }

    /// What helps against what there is, the nearest first.
    fn what_helps(&self, own: u32, consumers: &[ConsumerInfo], stopped: &[&ConsumerInfo]) -> String {
        let mut steps = Vec::new();
        if own > 0 {
            steps.push("publish or give back the slots that were acquired".into());
        }
        for consumer in stopped {
            steps.push(format!("let {} go on (`kill -CONT {}`) or end it", consumer.who(), consumer.pid));
        }
        for gone in consumers.iter().filter(|consumer| consumer.expelled && !stopped.contains(consumer)) {
            steps.push(format!("end {}: what it holds comes back with its end", gone.who()));
        }
        let seated = || consumers.iter().filter(|consumer| !consumer.expelled);
        if seated().any(|consumer| consumer.held > 0) {
            steps.push("release frames sooner".into());
        }
        let unread = seated().any(|consumer| consumer.unread > 0 && consumer.policy == Policy::Reliable);
        if unread {
            steps.push("let consumers use keep-last".into());
        }
        if seated().any(|consumer| consumer.held > 0) || unread {
            steps.push(match self.on_stall {
                OnStall::Wait => "put out those that stall with `on_stall`".into(),
                stall => format!("wait longer: on_stall={stall} puts out those that stall so long"),
            });
        }
        if self.pool.len() < MAX_SLOTS && own < self.pool.len() {
            steps.push("raise `slots`".into());
        }
        match steps.pop() {
            None => "try again".into(),
            Some(last) if steps.is_empty() => last,
            Some(last) => format!("{}, or {last}", steps.join(", ")),
        }
    }
}

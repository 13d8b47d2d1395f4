//! Frames cross from container to container, in each pair of languages.

use crate::common::{self, SOON, receive};
use crate::container::{Container, Guest, Language};
use crate::roles::{BATCH, Place};
use crate::site::Site;
use bips::ReceiveError;

pub(crate) fn from_rust_to_rust(site: &Site) {
    cross(site, Language::Rust, Language::Rust);
}

pub(crate) fn from_rust_to_python(site: &Site) {
    cross(site, Language::Rust, Language::Python);
}

pub(crate) fn from_python_to_rust(site: &Site) {
    cross(site, Language::Python, Language::Rust);
}

/// One consumer is there before the producer: its mount is read-only, so it can only wait.
fn cross(site: &Site, from: Language, to: Language) {
    let consumer = || site.start(Container::CONSUMER.speaking(to), "consumes", 0);
    let first = consumer();
    let mut producer = site.start(Container::PRODUCER.speaking(from), "produces", 2);
    producer.tell("directory");
    producer.expect("ready");
    let second = consumer();
    Place::assert_apart(&[&first.place, &producer.place, &second.place], true);
    let mut consumers = [first, second];
    producer.tell("publish");
    producer.expect("published");
    for consumer in &mut consumers {
        consumer.expect("received");
    }
    end(producer, consumers);
}

fn end(mut producer: Guest, consumers: [Guest; 2]) {
    producer.tell("end");
    for mut consumer in consumers {
        consumer.expect(&BATCH.to_string());
        consumer.finish();
    }
    producer.finish();
}

/// What the producer publishes when it is told to, outside of all containers.
pub(crate) fn receive_batch(producer: &mut Guest, consumer: &mut bips::Consumer) {
    producer.tell("publish");
    for number in 0..BATCH {
        assert_eq!(receive(consumer).sequence(), number);
    }
    producer.expect("published");
}

/// The host reaches into the same directory as well.
pub(crate) fn out_of_a_container(site: &Site) {
    let mut producer = site.start(Container::PRODUCER, "produces", 1);
    producer.tell("directory");
    producer.expect("ready");
    let mut consumer = common::consumer(&site.shared, "a/cam").connect().unwrap();
    receive_batch(&mut producer, &mut consumer);
    producer.tell("end");
    assert_eq!(consumer.receive(SOON).unwrap_err(), ReceiveError::Closed);
    producer.finish();
}

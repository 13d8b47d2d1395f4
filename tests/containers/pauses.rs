//! A container is paused: it is not dead, and nobody may take it for that.

use crate::common::{self, assert_says};
use crate::container::Container;
use crate::roles::BATCH;
use crate::site::Site;
use bips::ErrorKind;

pub(crate) fn a_paused_consumer_is_seated_and_goes_on(site: &Site) {
    let mut producer = site.start(Container::PRODUCER, "produces", 1);
    producer.tell("directory");
    producer.expect("ready");
    let mut consumer = site.start(Container::CONSUMER, "consumes", 0);
    producer.tell("publish");
    producer.expect("published");
    consumer.expect("received");
    consumer.pause();
    producer.tell("publish two");
    producer.expect("published");
    let info = bips::query("a/cam", Some(&site.shared)).unwrap();
    let [paused] = &info.consumers[..] else { panic!("{:?}", info.consumers) };
    assert_eq!((paused.received, paused.unread), (BATCH, 2));
    // No identity across user and pid namespaces, and none is made up.
    assert_eq!((paused.uid, paused.pid), (65534, 0));
    consumer.unpause();
    producer.tell("end");
    consumer.expect(&(BATCH + 2).to_string());
    consumer.finish();
    producer.finish();
}

pub(crate) fn a_paused_producer_cannot_be_joined(site: &Site) {
    let mut producer = site.start(Container::PRODUCER, "produces", 0);
    producer.tell("directory");
    producer.expect("ready");
    producer.pause();
    let error = common::consumer(&site.shared, "a/cam").connect().unwrap_err();
    assert_says(&error, ErrorKind::Timeout, &["is it stopped", "paused container"]);
    producer.unpause();
    drop(common::consumer(&site.shared, "a/cam").wait(common::SOON).connect().unwrap());
    producer.tell("end");
    producer.finish();
}

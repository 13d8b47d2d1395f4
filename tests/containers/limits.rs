//! Containers with little memory.

use crate::common;
use crate::container::Container;
use crate::roles::LARGE;
use crate::site::Site;
use crate::streams::receive_batch;

const LIMIT: u32 = 64;

pub(crate) fn a_pool_larger_than_the_limit_is_refused_in_words(site: &Site) {
    let container = Container::PRODUCER.limited_to(LIMIT);
    let mut producer = site.start(container, "wants too much", u64::from(LIMIT));
    println!("{}", producer.hear());
    // Neither it nor a child of its was killed, and it goes on with less.
    assert_eq!(producer.state(), "running");
    producer.expect("ready");
    let mut consumer = common::consumer(&site.shared, "a/cam").connect().unwrap();
    receive_batch(&mut producer, &mut consumer);
    producer.tell("end");
    producer.finish();
}

/// It reads four times what it may use.
pub(crate) fn a_consumer_does_not_pay_for_the_pool(site: &Site) {
    let limit = LARGE >> 20;
    let mut producer = site.start(Container::PRODUCER, "produces much", 0);
    producer.expect("ready");
    let mut consumer = site.start(Container::CONSUMER.limited_to(limit as u32), "reads much", 0);
    producer.expect("published");
    let charged: u64 = consumer.hear().parse().unwrap();
    // Its seat and what bips asks it to share, if any.
    assert!(charged <= 64 << 10, "{charged} bytes of shared memory are charged to the consumer");
    assert_eq!(consumer.state(), "running");
    consumer.tell("end");
    consumer.finish();
    producer.tell("end");
    producer.finish();
}

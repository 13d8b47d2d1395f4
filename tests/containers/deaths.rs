//! A container is killed.

use crate::container::Container;
use crate::roles::BATCH;
use crate::site::Site;

/// Also where a reliable consumer was: while its seat stood, the producer would have to wait for it.
pub(crate) fn a_killed_consumer_costs_the_others_nothing(site: &Site) {
    let mut producer = site.start(Container::PRODUCER, "produces", 2);
    producer.tell("directory");
    producer.expect("ready");
    let mut killed = site.start(Container::CONSUMER, "consumes", 0);
    let mut survivor = site.start(Container::CONSUMER, "consumes", 0);
    producer.tell("publish");
    producer.expect("published");
    killed.expect("received");
    survivor.expect("received");
    killed.kill();
    producer.tell("publish");
    producer.expect("published");
    // Now the producer's: what it published is received, then the end is seen.
    producer.kill();
    survivor.expect(&(2 * BATCH).to_string());
    survivor.finish();
}

/// The next container of the same user takes the name over; the consumer is the same, and stays where it is.
pub(crate) fn a_killed_producer_is_followed_by_the_next(site: &Site) {
    let mut consumer = site.start(Container::CONSUMER, "goes on", 0);
    for last in [false, true] {
        let mut producer = site.start(Container::PRODUCER, "produces", 1);
        producer.tell("directory");
        producer.expect("ready");
        producer.tell("publish");
        producer.expect("published");
        consumer.expect("received");
        if last {
            producer.tell("forget the consumer");
            producer.expect("published");
            producer.tell("end");
            producer.finish();
        } else {
            producer.kill();
            let left = std::fs::read_dir(site.shared.join("a")).unwrap().count();
            assert!(left > 0, "it was killed before it could remove its files");
        }
    }
    consumer.finish();
}

//! Many ports on one runtime.

use messageport::aio::AsyncPort;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::tools::ledger::{assert_descriptors, descriptors};
use crate::tools::pair_of;
use crate::{on_runtimes, soon};

on_runtimes! {
    two_thousand_pairs_share_a_runtime,
}

const PAIRS: u32 = 2000;

async fn two_thousand_pairs_share_a_runtime() {
    let (_, limit) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit of descriptors");
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit).expect("the limit can be raised");
    // A lower limit makes the test smaller.
    let pairs = PAIRS.min((limit / 4) as u32);
    let before = descriptors();
    let mut ours = Vec::new();
    let mut tasks = Vec::new();
    for _ in 0..pairs {
        let (a, b) = pair_of(4096);
        let mut b = AsyncPort::new(b).expect("a registration");
        ours.push(AsyncPort::new(a).expect("a registration"));
        tasks.push(tokio::spawn(async move {
            let mut count = 0;
            while let Ok(message) = b.recv().await {
                b.post_message_wait(&message.data, []).await.expect("room");
                count += 1;
            }
            count
        }));
    }
    for round in 0..3_u32 {
        for (number, port) in ours.iter_mut().enumerate() {
            port.post_message(&(number as u32 + round).to_ne_bytes(), []).expect("room");
        }
        for (number, port) in ours.iter_mut().enumerate() {
            let answer = soon(port.recv()).await.expect("an answer");
            assert_eq!(answer.data, (number as u32 + round).to_ne_bytes());
        }
    }
    drop(ours);
    for task in tasks {
        assert_eq!(soon(task).await.expect("no panic"), 3);
    }
    // The runtime goes on, and keeps nothing of these ports.
    assert_descriptors(before, "without these ports");
}

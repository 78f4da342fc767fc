//! Smoke.
use messageport::*;
use std::time::{Duration, Instant};
#[test]
fn basics() {
    let MessageChannel { port1, port2 } = MessageChannel::new().unwrap();
    for i in 0..100000u32 {
        port1.post_message(&vec![1u8; (i % 3000) as usize], []).unwrap();
        let m = port2.recv().unwrap();
        assert_eq!(m.data.len(), (i % 3000) as usize);
    }
    let c2 = MessageChannel::new().unwrap();
    c2.port1.post_message(b"queued", []).unwrap();
    let b = TransferBuffer::new(5000).unwrap();
    b.write_at(4990, b"0123456789").unwrap();
    port1.post_message(b"x", [c2.port2.into(), b.into()]).unwrap();
    let m = port2.recv().unwrap();
    assert_eq!(m.data, b"x");
    assert_eq!(m.ports[0].recv().unwrap().data, b"queued");
    let mut t = [0; 3];
    m.buffers[0].read_at(4997, &mut t).unwrap();
    assert_eq!(&t, b"789");
    drop(m);
    assert!(matches!(c2.port1.recv(), Err(RecvError::Ended(CloseReason::Closed))));
    let t = Instant::now();
    assert!(matches!(port1.recv_timeout(Duration::from_millis(100)), Err(RecvTimeoutError::TimedOut)));
    println!("{:?}", t.elapsed());
    std::thread::scope(|s| {
        s.spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            port2.post_message(b"late", []).unwrap();
            assert!(port2.recv().is_err());
        });
        assert_eq!(port1.recv().unwrap().data, b"late");
        drop(port1);
    });
}
#[test]
fn perf() {
    let MessageChannel { port1, port2 } = MessageChannel::new().unwrap();
    port1.set_spin(Duration::from_secs(1));
    port2.set_spin(Duration::from_secs(1));
    let n = 1_000_000;
    let h = std::thread::spawn(move || {
        let mut m = Message::new();
        for _ in 0..n {
            port2.recv_into(&mut m).unwrap();
            port2.post_message(&m.data, []).unwrap();
        }
    });
    let mut m = Message::new();
    let d = [7u8; 64];
    let t = Instant::now();
    for _ in 0..n {
        port1.post_message(&d, []).unwrap();
        port1.recv_into(&mut m).unwrap();
    }
    println!("rtt {:?}", t.elapsed() / n);
    h.join().unwrap();
    let MessageChannel { port1, port2 } = MessageChannel::new().unwrap();
    let h = std::thread::spawn(move || {
        let mut m = Message::new();
        for _ in 0..n * 10 {
            port2.recv_into(&mut m).unwrap();
        }
    });
    let t = Instant::now();
    for _ in 0..n * 10 {
        port1.post_message_wait(&d, [], None).unwrap();
    }
    h.join().unwrap();
    println!("stream {:?}", t.elapsed() / (n * 10));
}

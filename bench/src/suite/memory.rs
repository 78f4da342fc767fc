//! `memory`: the memory and CPU time of idle pairs.

use std::process::Stdio;
use std::time::Duration;

use messageport::{Message, MessageChannel};

use crate::bench::{Bench, Metric, Setting};
use crate::error::{Error, Result};
use crate::figure::Figure;
use crate::system::{machine, role};

pub(super) fn bench() -> Bench {
    let mut bench = Bench::new("memory", "memory and CPU time of idle pairs", Metric::Rate, &[]);
    bench.measure = Some(measure);
    bench
}

fn measure(setting: &Setting) -> Result<Vec<Figure>> {
    let (pairs, milliseconds) = if setting.quick { (200, 300) } else { (1000, 3000) };
    let mut command = role::command("idle")?;
    command.args([pairs, milliseconds, 0].map(|number: u64| number.to_string()));
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(Error::of("cannot start the process with idle pairs"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [new, used, cpu] = numbers[..] else {
        return Err(Error::failed("the process with idle pairs did not print its figures"));
    };
    let figure = |call: &str| Figure {
        bench: "memory".to_owned(),
        what: "messageport".to_owned(),
        call: call.to_owned(),
        wait: "block".to_owned(),
        samples: Some(pairs),
        ..Figure::default()
    };
    Ok(vec![
        Figure { resident_bytes: Some(new as u64), ..figure("new pair") },
        Figure { resident_bytes: Some(used as u64), ..figure("pair after a message each way") },
        Figure { cpu: Some(cpu), samples: None, ..figure("blocked in recv") },
    ])
}

/// Runs the process with idle pairs, which holds both ports of each. Prints the resident memory per pair in bytes when
/// new and after use, and the share of a CPU that the process uses while a thread is blocked in `recv`.
pub(crate) fn idle(arguments: &[u64; 3]) -> Result<()> {
    let [pairs, milliseconds, _] = *arguments;
    let failed = Error::of("cannot create a channel");
    machine::raise_descriptor_limit()?;
    let make = || MessageChannel::new().map_err(&failed);
    let mut channels = Vec::with_capacity(pairs as usize);
    // The first pair also allocates what all pairs share, so it is not counted.
    let first = make()?;
    use_once(&first)?;
    let before = machine::resident_memory()?;
    for _ in 0..pairs {
        channels.push(make()?);
    }
    let new = machine::resident_memory()?;
    channels.iter().try_for_each(use_once)?;
    let used = machine::resident_memory()?;

    let MessageChannel { port1, port2 } = first;
    let blocked = std::thread::spawn(move || port2.recv().is_err());
    // The first sleeps of a waiting thread are short; measure after them.
    std::thread::sleep(Duration::from_millis(100));
    let cpu = machine::cpu_time();
    std::thread::sleep(Duration::from_millis(milliseconds));
    let share = (machine::cpu_time() - cpu) as f64 / (milliseconds as f64 * 1e6);
    port1.close();
    if !blocked.join().unwrap_or(false) {
        return Err(Error::failed("the blocked thread did not notice that its peer closed"));
    }
    let per_pair = |memory: u64| memory.saturating_sub(before) / pairs;
    println!("{} {} {share}", per_pair(new), per_pair(used));
    Ok(())
}

/// Sends a message in each direction.
fn use_once(channel: &MessageChannel) -> Result<()> {
    let mut message = Message::new();
    for (from, to) in [(&channel.port1, &channel.port2), (&channel.port2, &channel.port1)] {
        from.post_message(&[7; 64], []).map_err(Error::of("cannot post"))?;
        to.recv_into(&mut message).map_err(Error::of("cannot receive"))?;
    }
    Ok(())
}

//! Video for another process: `frames [COUNT]` draws frames of 1920 x 1080 pixels into recycled buffers and transfers
//! them to a player. Each pixel is written once and read once, without copies in between.

use std::process::Command;
use std::time::{Duration, Instant};

use messageport::{ChannelOptions, MessageChannel, MessagePort, parent_port, spawn_with_port};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// Width of a frame in pixels.
const WIDTH: usize = 1920;
/// Height of a frame in pixels.
const HEIGHT: usize = 1080;
/// Size of a frame in bytes.
const FRAME: usize = WIDTH * HEIGHT * 4;
/// Number of frames that may be in transit or on display while the next one is drawn.
const AHEAD: u32 = 2;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Ok(port) = parent_port() {
        return play(&port);
    }
    let count: u32 = std::env::args().nth(1).map_or(Ok(600), |count| count.parse())?;
    let options = ChannelOptions::new().cached_buffers(AHEAD as usize + 1);
    let MessageChannel { port1: port, port2 } = options.create()?;
    let mut player = spawn_with_port(&mut Command::new(std::env::current_exe()?), port2)?;

    let start = Instant::now();
    for number in 0..count {
        if number > AHEAD {
            port.recv()?; // the player has shown a frame and released its buffer
        }
        let frame = port.buffer(FRAME)?;
        let mut row = [0_u32; WIDTH];
        for y in 0..HEIGHT {
            row.fill(color(number, y));
            frame.write_values(y * WIDTH * 4, &row)?;
        }
        port.post_message(&number.to_ne_bytes(), [frame.into()])?;
    }
    port.post_message(b"the end", [])?;
    let used = loop {
        let message = port.recv()?;
        if let Ok(nanoseconds) = message.data.try_into() {
            break Duration::from_nanos(u64::from_ne_bytes(nanoseconds));
        }
    };
    let time = start.elapsed();
    player.wait()?;
    println!("{count} frames of {} KiB: {:.0} a second", FRAME >> 10, f64::from(count) / time.as_secs_f64());
    for (task, used) in [("drawing", cpu_time()?), ("playing", used)] {
        let share = used.as_secs_f64() / time.as_secs_f64();
        let each = used.checked_div(count).unwrap_or_default();
        println!("{task}: {:.0} % of a CPU, {} us a frame", share * 100.0, each.as_micros());
    }
    Ok(())
}

/// Receives frames and checks every pixel.
fn play(port: &MessagePort) -> Result<(), Box<dyn std::error::Error>> {
    let mut row = [0_u32; WIDTH];
    loop {
        let message = port.recv()?;
        let [frame] = &message.buffers[..] else { break };
        let number = u32::from_ne_bytes(message.data[..].try_into()?);
        for y in 0..HEIGHT {
            frame.read_values(y * WIDTH * 4, &mut row)?;
            if row.iter().any(|pixel| *pixel != color(number, y)) {
                return Err(format!("frame {number} is torn at line {y}").into());
            }
        }
        drop(message); // releases the buffer
        port.post_message(b"shown", [])?;
    }
    port.post_message(&(cpu_time()?.as_nanos() as u64).to_ne_bytes(), [])?;
    Ok(())
}

fn color(number: u32, y: usize) -> u32 {
    number.wrapping_mul(0x0001_0203) ^ y as u32
}

/// Returns the CPU time of this process.
fn cpu_time() -> Result<Duration, nix::errno::Errno> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let duration = |time: TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}

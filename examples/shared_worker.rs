//! A shared worker: one loop accepts its pages, serves them, and shows a counter while they come and go.

use std::cell::Cell;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use messageport::{EventLoop, Listener, connect};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PAGES: u32 = 3;

fn main() -> Result<()> {
    match std::env::args().nth(1) {
        Some(worker) => page(&worker),
        None => worker(),
    }
}

fn worker() -> Result<()> {
    let events = EventLoop::new()?;
    let listener = Listener::bind(&format!("shared-worker-{}", std::process::id()))?;
    let name = listener.path().display().to_string();
    let (total, pages) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));

    // self.onconnect = event => { const port = event.ports[0]; ... }
    let (sum, gone) = (Rc::clone(&total), Rc::clone(&pages));
    events.add_listener(listener, move |events, page| {
        let Ok(port) = events.add(page.port) else { return };
        let (sum, gone) = (Rc::clone(&sum), Rc::clone(&gone));
        port.set_onmessage(move |port, event| {
            sum.set(sum.get() + u64::from(event.data[0]));
            let _ = port.post_message(&sum.get().to_ne_bytes(), []); // fails if the page has left
        });
        port.set_onclose(move |port, _| {
            gone.set(gone.get() + 1);
            if gone.get() == PAGES {
                port.event_loop().expect("the loop is running").stop();
            }
        });
    })?;
    let shown = Rc::clone(&total);
    events.set_interval(Duration::from_secs(1), move |_| eprintln!("worker: {} so far", shown.get()));

    let this = std::env::current_exe()?;
    let mut children =
        (0..PAGES).map(|_| Command::new(&this).arg(&name).spawn()).collect::<std::io::Result<Vec<_>>>()?;
    events.run()?;
    for child in &mut children {
        assert!(child.wait()?.success());
    }
    println!("worker: {} pages posted numbers with the sum {}", pages.get(), total.get());
    Ok(())
}

fn page(worker: &str) -> Result<()> {
    let port = connect(worker, b"")?; // new SharedWorker(...).port
    for number in 1..=10 {
        port.post_message(&[number], [])?;
    }
    let answers = (&port).into_iter().take(10).count();
    println!("page: {answers} answers");
    Ok(())
}

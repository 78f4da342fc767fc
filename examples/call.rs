//! Calls across two processes: typed requests and answers, several calls at a time, and immediate errors when the
//! server dies.

use std::collections::BTreeMap;
use std::time::Duration;

use messageport::{AnswerError, CallError, MessageChannel, TypedClient, TypedServer, parent_port, spawn_with_port};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
enum Request {
    Put { key: String, value: f64 },
    Get(String),
    Crash,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Ok(port) = parent_port() {
        let mut table = BTreeMap::new();
        TypedServer::<Request, Option<f64>>::new(port).serve(|request| match request {
            Request::Put { key, value } => table.insert(key, value),
            Request::Get(key) => table.get(&key).copied(),
            Request::Crash => std::process::abort(),
        })?;
        return Ok(());
    }
    let MessageChannel { port1, port2 } = MessageChannel::new()?;
    let mut child = spawn_with_port(&mut std::process::Command::new(std::env::current_exe()?), port2)?;
    let store = TypedClient::<Request, Option<f64>>::new(port1);

    store.call(Request::Put { key: "pi".into(), value: 3.0 })?;
    let old = store.call(Request::Put { key: "pi".into(), value: 3.125 })?;
    println!("pi was {old:?}");
    let [pi, e] = ["pi", "e"].map(|key| store.start(Request::Get(key.into())));
    println!("e is {:?}", e?.wait()?); // in any order
    println!("pi is {:?}", pi?.wait()?);

    match store.call_timeout(Request::Crash, Duration::from_secs(10)) {
        Err(CallError::NoAnswer(AnswerError::Failed(error))) => println!("no answer: {error:#}"),
        other => println!("unexpected: {other:?}"),
    }
    child.wait()?;
    Ok(())
}

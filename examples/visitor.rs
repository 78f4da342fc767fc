//! The second of two programs that meet by name: a client of `greeter`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or("greeter".into());
    let port = messageport::connect(&name, b"")?;
    port.post_data("visitor")?;
    println!("{}", String::from_utf8(port.recv()?.data)?);
    Ok(())
}

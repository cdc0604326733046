//! Compiles `proto/` with protox, a protoc written in Rust, so that a build needs no protoc on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/inference.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_transport(false)
        // Payload fields become slices of the received message instead of copies.
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}

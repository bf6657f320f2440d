//! The program `fake-model`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

#[test]
fn it_answers_as_long_as_the_process_it_is_for() {
    let mut other = Command::new("sleep").arg("600").spawn().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_fake-model"))
        .args(["--while", &other.id().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(program.stdout.take().unwrap());
    let mut url = String::new();
    said.read_line(&mut url).unwrap();
    let address = url.trim().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /v1/models HTTP/1.1\r\n\r\n").unwrap();
    let mut listed = String::new();
    stream.read_to_string(&mut listed).unwrap();
    assert!(listed.contains("scripted-stand-in"), "{listed}");
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(program.wait().unwrap().success());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn it_says_how_it_is_called() {
    for words in [&[][..], &["--while"], &["--while", "x"], &["--until", "1"]] {
        let ended = Command::new(env!("CARGO_BIN_EXE_fake-model")).args(words).output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{words:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).starts_with("usage: "), "{words:?}");
    }
}

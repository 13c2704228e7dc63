//! What a process tells on its admin port.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Fallible;
use crate::processes::Process;

/// Where the admin server of a process listens, as its log says.
pub fn address(process: &Process) -> Fallible<String> {
    let log = process.log();
    let line = log.lines().find(|line| line.contains("admin server listening")).ok_or("no admin server")?;
    let address = line.split("address=").nth(1).ok_or("no address")?;
    Ok(address.split_whitespace().next().unwrap_or_default().to_owned())
}

/// The status and the body of a page of the admin server at HOST:PORT.
pub async fn page(address: &str, path: &str) -> Fallible<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no end of the headers")?;
    let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// The sum of a metric over all its labels; none if it is not there.
pub fn sum(metrics: &str, name: &str) -> Option<f64> {
    let mut values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = if rest.starts_with('{') { rest.rsplit_once("} ")?.1 } else { rest.strip_prefix(' ')? };
        value.split(' ').next()?.parse::<f64>().ok()
    });
    let first = values.next()?;
    Some(first + values.sum::<f64>())
}

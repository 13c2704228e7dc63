//! Servers of object storage, as processes of their own on loopback, ended when they are dropped.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Fallible;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Of the servers' only account.
const KEY: &str = "storage-tests";
/// Base64, as Azure wants it.
const SECRET: &str = "c3RvcmFnZS10ZXN0cw==";
/// The bucket that every server has.
pub const BUCKET: &str = "models";

/// Puts a container by the shared-key scheme of Azure, and prints the status.
const MAKE_CONTAINER: &str = r#"
const [address, account, key, container] = process.argv.slice(1);
const [host, port] = address.split(":");
const headers = {"x-ms-date": new Date().toUTCString(), "x-ms-version": "2021-12-02"};
const named = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`).join("");
const signed = "PUT" + "\n".repeat(12) + named + `/${account}/${account}/${container}\nrestype:container`;
const mac = require("crypto").createHmac("sha256", Buffer.from(key, "base64")).update(signed, "utf8").digest("base64");
headers["Authorization"] = `SharedKey ${account}:${mac}`;
headers["Content-Length"] = "0";
const path = `/${account}/${container}?restype=container`;
require("http").request({host, port, path, method: "PUT", headers}, (answer) => console.log(answer.statusCode)).end();
"#;

/// A server with a bucket, and the variables by which clients come to it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
    /// The bucket's URL.
    pub url: String,
    /// For clients.
    pub variables: Vec<(&'static str, String)>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// S3: versitygw. Buckets are folders, objects files.
    pub fn s3() -> Fallible<Self> {
        let (folder, address) = place()?;
        fs::create_dir_all(folder.path().join("data").join(BUCKET))?;
        fs::create_dir(folder.path().join("accounts"))?;
        let mut command = Command::new(program("REVERIE_TEST_VERSITYGW")?);
        command.args(["--access", KEY, "--secret", SECRET, "--port", &address.to_string()]);
        command.arg("--iam-dir").arg(folder.path().join("accounts"));
        command.arg("posix").arg(folder.path().join("data"));
        let variables = vec![
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://{address}")),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ];
        Self::start(command, folder, address, format!("s3://{BUCKET}"), variables)
    }

    /// Google Cloud Storage: fake-gcs-server.
    pub fn google() -> Fallible<Self> {
        let (folder, address) = place()?;
        fs::create_dir_all(folder.path().join("data").join(BUCKET))?;
        let account = folder.path().join("account.json");
        let told = serde_json::json!({
            "gcs_base_url": format!("http://{address}"), "disable_oauth": true,
            "client_email": "", "private_key": "", "private_key_id": "",
        });
        fs::write(&account, told.to_string())?;
        let mut command = Command::new(program("REVERIE_TEST_FAKE_GCS_SERVER")?);
        let port = address.port().to_string();
        command.args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port, "-backend", "filesystem"]);
        command.args(["-external-url", &format!("http://{address}"), "-public-host", &address.to_string()]);
        command.arg("-filesystem-root").arg(folder.path().join("data"));
        let variables = vec![
            ("GOOGLE_SERVICE_ACCOUNT", account.display().to_string()),
            ("GOOGLE_ALLOW_HTTP", "true".to_owned()),
        ];
        Self::start(command, folder, address, format!("gs://{BUCKET}"), variables)
    }

    /// Azure: Azurite, without its container, which [`Self::azure`] makes.
    pub fn azure() -> Fallible<Self> {
        let (folder, address) = place()?;
        let mut command = Command::new(program("REVERIE_TEST_AZURITE")?);
        let port = address.port().to_string();
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &port, "--skipApiVersionCheck", "--silent"]);
        command.args(["--disableTelemetry", "--location"]).arg(folder.path());
        command.env("AZURITE_ACCOUNTS", format!("storagetests:{SECRET}"));
        let variables = vec![
            ("AZURE_STORAGE_ACCOUNT_NAME", "storagetests".to_owned()),
            ("AZURE_STORAGE_ACCOUNT_KEY", SECRET.to_owned()),
            ("AZURE_STORAGE_ENDPOINT", format!("http://{address}/storagetests")),
            ("AZURE_ALLOW_HTTP", "true".to_owned()),
        ];
        Self::start(command, folder, address, format!("az://{BUCKET}"), variables)
    }

    fn start(
        mut command: Command,
        folder: TempDir,
        address: SocketAddr,
        url: String,
        variables: Vec<(&'static str, String)>,
    ) -> Fallible<Self> {
        let log = fs::File::create(folder.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut server = Self { child: command.spawn()?, folder, address, url, variables };
        let begun = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            let ended = server.child.try_wait()?;
            if ended.is_some() || begun.elapsed() > PATIENCE {
                return Err(format!("{command:?} does not listen ({ended:?}): {}", server.log()?).into());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Uploads an object by the JSON API of Google Cloud Storage, which fake-gcs-server takes; clients of ours speak the XML API.
    pub fn upload(&self, path: &str, bytes: &[u8]) -> Fallible<()> {
        use std::io::Read as _;

        let mut connection = std::net::TcpStream::connect(self.address)?;
        let name = path.replace('/', "%2F");
        let (host, length) = (self.address, bytes.len());
        write!(
            connection,
            "POST /upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name} HTTP/1.1\r\nhost: {host}\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n"
        )?;
        connection.write_all(bytes)?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer.into()) }
    }

    /// Where versitygw keeps an object.
    pub fn object(&self, path: &str) -> PathBuf {
        self.folder.path().join("data").join(BUCKET).join(path)
    }

    /// What it said so far. versitygw writes a line for each request.
    pub fn log(&self) -> Fallible<String> {
        Ok(fs::read_to_string(self.folder.path().join("log"))?)
    }

    /// The folder in which it keeps objects.
    pub fn data(&self) -> &Path {
        self.folder.path()
    }

    /// Makes the container in Azurite, which has no program for that: a request that is signed with the account's key.
    pub fn make_container(&self) -> Fallible<()> {
        let mut command = Command::new("node");
        command.args(["-e", MAKE_CONTAINER, &self.address.to_string(), "storagetests", SECRET, BUCKET]);
        let made = command.output()?;
        let told =
            String::from_utf8_lossy(&made.stdout).into_owned() + &String::from_utf8_lossy(&made.stderr);
        if told.trim() == "201" { Ok(()) } else { Err(told.into()) }
    }

    /// Makes a user of versitygw who owns nothing.
    pub fn add_user(&self, access: &str, secret: &str) -> Fallible<()> {
        let mut command = Command::new(program("REVERIE_TEST_VERSITYGW")?);
        command.args(["admin", "--access", KEY, "--secret", SECRET, "--endpoint-url"]);
        command.arg(format!("http://{}", self.address));
        let made = command.args(["create-user", "-a", access, "-s", secret, "-r", "user"]).output()?;
        let told = String::from_utf8_lossy(&made.stderr).into_owned();
        if made.status.success() { Ok(()) } else { Err(told.into()) }
    }
}

/// Serves the files of a folder by HTTP, as any web server does, until the process ends.
pub fn web(folder: &Path) -> Fallible<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (address, folder) = (listener.local_addr()?, folder.to_owned());
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let folder = folder.clone();
            std::thread::spawn(move || answer(connection, &folder));
        }
    });
    Ok(address)
}

fn answer(mut connection: std::net::TcpStream, folder: &Path) -> std::io::Result<()> {
    use std::io::BufRead as _;

    let mut lines = std::io::BufReader::new(connection.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    match fs::read(folder.join(path)) {
        Ok(bytes) => {
            write!(
                connection,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                bytes.len()
            )?;
            connection.write_all(&bytes)
        }
        Err(_) => {
            write!(connection, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        }
    }
}

/// A way to `server` that lets through no more than `bytes` of each connection's answers, and then nothing more.
pub fn stalling(server: SocketAddr, bytes: u64) -> Fallible<SocketAddr> {
    use std::io::Read as _;
    use std::net::TcpStream;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(upstream) = TcpStream::connect(server) else { continue };
            let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), upstream.try_clone()) else {
                continue;
            };
            std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            std::thread::spawn(move || {
                let mut client = client;
                let _ = std::io::copy(&mut upstream.take(bytes), &mut client);
                // Held open, as by a server that hangs.
                std::thread::park();
            });
        }
    });
    Ok(address)
}

/// A folder, and a port that is free now.
fn place() -> Fallible<(TempDir, SocketAddr)> {
    Ok((tempfile::tempdir()?, TcpListener::bind("127.0.0.1:0")?.local_addr()?))
}

fn program(variable: &str) -> Fallible<PathBuf> {
    let path = std::env::var_os(variable);
    Ok(path.ok_or_else(|| format!("{variable} is not set: run `cargo xtask storage`"))?.into())
}

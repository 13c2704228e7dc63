//! Answers as servers give them, through the client that reads them.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::path::Path as StorePath;
use object_store::{ClientOptions, ObjectStoreExt as _, RetryConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// What reading an object means if a server answers so. An answer that ends before its time is one whose length says more.
async fn explained(answer: String) -> StorageError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await;
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let read = read(&endpoint).await;
    serving.abort();
    explain(Some(Kind::S3), "s3://bucket/bundle.toml".to_owned(), read.unwrap_err())
}

async fn read(endpoint: &str) -> object_store::Result<bytes::Bytes> {
    crate::location::install_tls();
    let retry =
        RetryConfig { max_retries: 1, retry_timeout: Duration::from_secs(2), ..RetryConfig::default() };
    let store = AmazonS3Builder::new()
        .with_bucket_name("bucket")
        .with_endpoint(endpoint)
        .with_access_key_id("key")
        .with_secret_access_key("secret")
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(retry)
        .build()?;
    Arc::new(store).get(&StorePath::from("bundle.toml")).await?.bytes().await
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// As S3 writes them.
fn s3(status: &str, code: &str, more: &str) -> String {
    let declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
    answer(
        status,
        &format!("{declaration}\n<Error><Code>{code}</Code>{more}<RequestId>1</RequestId></Error>"),
    )
}

#[tokio::test]
async fn what_s3_answers_is_told_apart() {
    let message = |text: &str| format!("<Message>{text}</Message>");
    let malformed = message(
        "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'",
    ) + "<Region>eu-west-1</Region>";
    let moved =
        message("The bucket you are attempting to access must be addressed using the specified endpoint.");
    let skewed = message("The difference between the request time and the current time is too large.");
    let unknown = message("The AWS Access Key Id you provided does not exist in our records.");
    let denied = message("User: someone is not authorized to perform: s3:GetObject");
    for (answer, told) in [
        (
            s3("404 Not Found", "NoSuchBucket", &message("The specified bucket does not exist")),
            "no such bucket",
        ),
        (s3("404 Not Found", "NoSuchKey", &message("The specified key does not exist.")), "does not exist"),
        (s3("400 Bad Request", "AuthorizationHeaderMalformed", &malformed), "another region, eu-west-1;"),
        (s3("301 Moved Permanently", "PermanentRedirect", &moved), "another region;"),
        (s3("403 Forbidden", "RequestTimeTooSkewed", &skewed), "set the clock"),
        (s3("403 Forbidden", "InvalidAccessKeyId", &unknown), "does not exist in our records"),
        (s3("403 Forbidden", "SignatureDoesNotMatch", ""), "AWS_SECRET_ACCESS_KEY"),
        (s3("403 Forbidden", "AccessDenied", &denied), "no permission (AccessDenied: User: someone"),
        (s3("503 Service Unavailable", "SlowDown", &message("Please reduce your request rate.")), "SlowDown"),
    ] {
        let error = explained(answer).await.to_string();
        assert!(error.contains("s3://bucket/bundle.toml") && error.contains(told), "not {told:?}: {error}");
    }
}

#[tokio::test]
async fn a_file_that_ends_before_its_end_is_truncated() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\nlast-modified: Fri, 27 Nov 2026 12:00:00 GMT\r\n\
                  etag: \"1\"\r\nconnection: close\r\n\r\nhalf of it";
    let error = explained(answer.to_owned()).await;
    assert!(matches!(error, StorageError::Truncated { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = read(&format!("http://{free}")).await.unwrap_err();
    let error = explain(Some(Kind::S3), "s3://bucket/x".to_owned(), error);
    assert!(matches!(&error, StorageError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

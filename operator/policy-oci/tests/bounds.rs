//! No registry can make us read more than we asked for, and those that want a token get asked for one.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use muster_policy_oci::{Credentials, Options, Reference, Registry, RegistryError, layout, read};
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the buffers between two sockets of one machine may hold.
const UNDERWAY: usize = 32 << 20;

/// How a request is answered.
enum Reply {
    /// With bytes that never end.
    Endless(u16),
    /// With a length, and then nothing.
    Claim(u64),
    /// With this body.
    Body(Vec<u8>),
    /// With a status, and a challenge.
    Challenge(String),
    NotFound,
}

/// A server on loopback that answers by path and `Authorization`.
struct Server {
    registry: String,
    sent: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn new(answer: impl Fn(&str, &str, &str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { registry: listener.local_addr().unwrap().to_string(), sent: Arc::default(), asked: Arc::default() };
        let (registry, sent, asked) = (server.registry.clone(), server.sent.clone(), server.asked.clone());
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (registry, sent, asked, answer) = (registry.clone(), sent.clone(), asked.clone(), answer.clone());
                tokio::spawn(async move {
                    let (path, authorization) = head(&mut stream).await;
                    asked.lock().unwrap().push(path.clone());
                    reply(&mut stream, answer(&registry, &path, &authorization), &sent).await;
                });
            }
        });
        server
    }

    fn reader(&self, credentials: &Credentials) -> Registry {
        let options =
            Options { plain_http: vec![self.registry.clone()], max_component_bytes: 1000, attempts: 1, ..Options::default() };
        Registry::new(options, credentials).unwrap()
    }

    fn reference(&self) -> Reference {
        format!("{}/racks@{}", self.registry, digest()).parse().unwrap()
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    fn asked(&self, begins: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|path| path.starts_with(begins)).count()
    }
}

/// Path and `Authorization` of a request.
async fn head(stream: &mut TcpStream) -> (String, String) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 1024]);
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = stream.read(&mut buffer).await.unwrap();
        bytes.extend_from_slice(&buffer[..read]);
    }
    let text = String::from_utf8(bytes).unwrap();
    let authorization = text.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or_default();
    (text.split(' ').nth(1).unwrap().to_owned(), authorization.to_owned())
}

async fn reply(stream: &mut TcpStream, reply: Reply, sent: &AtomicUsize) {
    let head = |status: u16, header: &str| format!("HTTP/1.1 {status} Said\r\nconnection: close\r\n{header}\r\n\r\n");
    let (head, body) = match reply {
        Reply::Endless(status) => {
            stream.write_all(head(status, "transfer-encoding: chunked").as_bytes()).await.unwrap();
            let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
            while stream.write_all(&chunk).await.is_ok() {
                sent.fetch_add(0x10000, Ordering::Relaxed);
            }
            return;
        }
        Reply::Claim(length) => (head(200, &format!("content-length: {length}")), Vec::new()),
        Reply::Body(body) => (head(200, &format!("content-length: {}", body.len())), body),
        Reply::Challenge(challenge) => (head(401, &format!("content-length: 0\r\nwww-authenticate: {challenge}")), Vec::new()),
        Reply::NotFound => (head(404, "content-length: 0"), Vec::new()),
    };
    let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
}

fn manifest() -> Vec<u8> {
    layout::write(b"a component", &std::collections::BTreeMap::new()).0
}

fn digest() -> String {
    muster_policy_oci::digest(&manifest())
}

fn limit(error: &RegistryError) -> usize {
    let RegistryError::TooLarge { limit, .. } = error else { panic!("{error}") };
    assert!(!error.is_transient());
    *limit
}

#[rstest]
#[case(|| Reply::Endless(200))]
#[case(|| Reply::Claim(1 << 40))]
#[tokio::test]
async fn a_manifest_is_read_up_to_its_limit(#[case] reply: fn() -> Reply) {
    let server = Server::new(move |_, _, _| reply()).await;
    let reference = server.reference();
    let error = read::artifact(&server.reader(&Credentials::Anonymous), &reference).await.unwrap_err();
    assert_eq!(limit(&error), 4 << 20);
    assert_eq!(error.to_string(), format!("the manifest {reference} has more than 4194304 bytes"));
    assert!(server.sent() < (4 << 20) + UNDERWAY, "{}", server.sent());
}

#[tokio::test]
async fn a_list_of_referrers_is_read_up_to_its_limit() {
    let server = Server::new(|_, path, _| if path.contains("/referrers/") { Reply::Endless(200) } else { Reply::NotFound }).await;
    let error = read::signatures(&server.reader(&Credentials::Anonymous), &server.reference(), &digest()).await.unwrap_err();
    assert_eq!(limit(&error), 4 << 20);
    assert_eq!(error.to_string(), format!("the list of what refers to {} has more than 4194304 bytes", server.reference()));
    assert!(server.sent() < (4 << 20) + UNDERWAY, "{}", server.sent());
}

#[rstest]
#[case::of_referrers_by_tag("")]
#[case::of_signatures(".sig")]
#[tokio::test]
async fn a_list_under_a_tag_is_read_up_to_its_limit(#[case] ending: &'static str) {
    let tag = format!("/v2/racks/manifests/{}{ending}", digest().replace(':', "-"));
    let server = Server::new(move |_, path, _| if path == tag { Reply::Endless(200) } else { Reply::NotFound }).await;
    let error = read::signatures(&server.reader(&Credentials::Anonymous), &server.reference(), &digest()).await.unwrap_err();
    assert_eq!(limit(&error), 4 << 20);
    assert!(server.sent() < (4 << 20) + UNDERWAY, "{}", server.sent());
}

#[tokio::test]
async fn a_component_is_read_up_to_its_limit() {
    let answer =
        |_: &str, path: &str, _: &str| if path.contains("/blobs/") { Reply::Endless(200) } else { Reply::Body(manifest()) };
    let server = Server::new(answer).await;
    let error = server.reader(&Credentials::Anonymous).pull(&server.reference()).await.unwrap_err();
    assert_eq!(error.to_string(), "the component has more than 1000 bytes");
    assert!(server.sent() < UNDERWAY, "{}", server.sent());
}

#[tokio::test]
async fn a_token_is_read_up_to_its_limit() {
    let answer = |registry: &str, path: &str, _: &str| {
        if path.starts_with("/token") {
            return Reply::Endless(200);
        }
        Reply::Challenge(format!("Bearer realm=\"http://{registry}/token\",service=\"tests\""))
    };
    let server = Server::new(answer).await;
    let error = read::artifact(&server.reader(&Credentials::Anonymous), &server.reference()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("the token of {} has more than 262144 bytes", server.registry));
    assert!(server.sent() < UNDERWAY, "{}", server.sent());
}

#[tokio::test]
async fn a_refusal_that_never_ends_is_a_refusal() {
    let server = Server::new(|_, _, _| Reply::Endless(500)).await;
    let error = read::artifact(&server.reader(&Credentials::Anonymous), &server.reference()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{} can't be used now: HTTP 500", server.registry));
    assert!(error.is_transient());
    assert!(server.sent() < UNDERWAY, "{}", server.sent());
}

#[tokio::test]
async fn a_token_is_asked_for_once_with_the_password_and_then_used() {
    let answer = |registry: &str, path: &str, authorization: &str| match (path, authorization) {
        // `puller:secret` in base64.
        ("/token?scope=repository%3Aracks%3Apull&service=tests", "Basic cHVsbGVyOnNlY3JldA==") => {
            Reply::Body(br#"{"access_token":"granted"}"#.to_vec())
        }
        (path, "Bearer granted") if path.contains("/manifests/") => Reply::Body(manifest()),
        (_, "Bearer granted") => Reply::Body(b"a component".to_vec()),
        _ => Reply::Challenge(format!("Bearer realm=\"http://{registry}/token\",service=\"tests\"")),
    };
    let server = Server::new(answer).await;
    let credentials = Credentials::Basic { username: "puller".to_owned(), password: "secret".to_owned() };
    let pulled = server.reader(&credentials).pull(&server.reference()).await.unwrap();
    assert_eq!(pulled.component, b"a component");
    assert_eq!((server.asked("/token"), server.asked("/v2/")), (1, 3));
    // Nobody else gets one.
    let error = server.reader(&Credentials::Anonymous).pull(&server.reference()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
}

#[tokio::test]
async fn bytes_that_were_changed_underway_are_no_trouble_of_the_registrys_but_others() {
    let answer = |_: &str, path: &str, _: &str| {
        if path.contains("/blobs/") { Reply::Body(b"a compomemt".to_vec()) } else { Reply::Body(manifest()) }
    };
    let server = Server::new(answer).await;
    let error = server.reader(&Credentials::Anonymous).pull(&server.reference()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }) && !error.is_transient(), "{error}");
}

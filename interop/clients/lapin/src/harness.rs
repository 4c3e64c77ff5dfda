//! Where the broker is, the control line, and the JSON line for each scenario. Knows no client library.

use std::{
    env,
    error::Error,
    fmt::{Debug, Display},
    future::Future,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    time::Duration,
};

pub type Outcome = Result<String, Box<dyn Error>>;
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn of_environment(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

pub fn prefix(name: &str) -> String {
    format!("{}-{name}", of_environment("AMQP_PREFIX"))
}

pub fn same<T: PartialEq + Debug>(actual: T, expected: T) -> Result<(), Box<dyn Error>> {
    if actual == expected {
        return Ok(());
    }
    Err(format!("{actual:.300?} instead of {expected:.300?}").into())
}

pub async fn control(request: &str) -> Outcome {
    let request = request.to_owned();
    tokio::task::spawn_blocking(move || ask(&request).map_err(|error| error.to_string())).await?.map_err(Into::into)
}

fn ask(request: &str) -> Outcome {
    let mut line = TcpStream::connect(format!("127.0.0.1:{}", of_environment("AMQP_CONTROL")))?;
    writeln!(line, "{request}")?;
    let mut answer = String::new();
    BufReader::new(line).read_line(&mut answer)?;
    match answer.trim().strip_prefix("ok") {
        Some(rest) => Ok(rest.trim().to_owned()),
        None => Err(format!("{request}: {answer}").into()),
    }
}

/// What a future comes to, which must not take for ever.
pub async fn soon<T>(what: impl Display, future: impl Future<Output = T>) -> Result<T, Box<dyn Error>> {
    tokio::time::timeout(PATIENCE, future).await.map_err(|_| format!("not within {PATIENCE:?}: {what}").into())
}

pub async fn rest() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

pub fn report(scenario: &str, outcome: Outcome) {
    let (outcome, detail) = match outcome {
        Ok(detail) => ("ok", detail),
        Err(error) => ("failed", error.to_string().chars().take(400).collect()),
    };
    println!("{}", serde_json::json!({"scenario": scenario, "outcome": outcome, "detail": detail}));
}

//! lapin in the common scenarios.

mod harness;

use futures_lite::StreamExt;
use harness::{control, of_environment, prefix, report, rest, same, soon, Outcome};
use lapin::{
    message::Delivery,
    options::*,
    protocol::basic::AMQPProperties,
    tcp::OwnedTLSConfig,
    types::{AMQPValue, DecimalValue, FieldTable},
    Channel, Connection, ConnectionProperties, Consumer, ErrorKind, Event, ExchangeKind,
};
use std::{collections::BTreeMap, collections::VecDeque, error::Error, fs, time::Duration};

type Step<T = ()> = Result<T, Box<dyn Error>>;
const PERSISTENT: u8 = 2;

fn address(port: &str, more: &str) -> String {
    format!("amqp://guest:guest@{}:{port}/%2f{more}", of_environment("AMQP_HOST"))
}

async fn connect() -> Step<Connection> {
    Ok(Connection::connect(&address(&of_environment("AMQP_PORT"), ""), ConnectionProperties::default()).await?)
}

fn table(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in pairs {
        table.insert((*key).into(), value.clone());
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

async fn exclusive(channel: &Channel, arguments: FieldTable) -> Step<String> {
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    Ok(channel.queue_declare("".into(), options, arguments).await?.name().to_string())
}

async fn send(channel: &Channel, queue: &str, body: &[u8], properties: AMQPProperties) -> Step {
    channel.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), body, properties).await?;
    Ok(())
}

async fn consume(channel: &Channel, queue: &str, no_ack: bool) -> Step<Consumer> {
    let options = BasicConsumeOptions { no_ack, ..Default::default() };
    Ok(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?)
}

async fn next(consumer: &mut Consumer) -> Step<Delivery> {
    Ok(soon("a delivery", consumer.next()).await?.ok_or("the consumer was cancelled")??)
}

/// The next messages of a consumer that needs no acknowledgements.
async fn take(channel: &Channel, queue: &str, count: usize) -> Step<Vec<Delivery>> {
    let mut consumer = consume(channel, queue, true).await?;
    let mut found = Vec::new();
    while found.len() < count {
        found.push(next(&mut consumer).await?);
    }
    channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
    Ok(found)
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.data).into_owned()
}

async fn bodies(channel: &Channel, queue: &str, count: usize) -> Step<Vec<String>> {
    Ok(take(channel, queue, count).await?.iter().map(body).collect())
}

async fn ready(channel: &Channel, queue: &str) -> Step<u32> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    Ok(channel.queue_declare(queue.into(), options, FieldTable::default()).await?.message_count())
}

async fn until_ready(channel: &Channel, queue: &str, count: u32) -> Step {
    soon(format!("{count} messages"), async {
        while ready(channel, queue).await? != count {
            rest().await;
        }
        Ok(())
    })
    .await?
}

fn plain() -> AMQPProperties {
    AMQPProperties::default()
}

async fn close(connection: Connection) -> Outcome {
    connection.close(200, "".into()).await?;
    Ok(String::new())
}

async fn hello() -> Outcome {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let queue = exclusive(&channel, FieldTable::default()).await?;
    send(&channel, &queue, b"Hello World!", plain()).await?;
    same(bodies(&channel, &queue, 1).await?, vec!["Hello World!".to_owned()])?;
    close(connection).await
}

async fn work_queues() -> Outcome {
    let connection = connect().await?;
    let (first, second) = (connection.create_channel().await?, connection.create_channel().await?);
    let queue = exclusive(&first, FieldTable::default()).await?;
    first.basic_qos(1, BasicQosOptions::default()).await?;
    second.basic_qos(1, BasicQosOptions::default()).await?;
    let mut of_first = consume(&first, &queue, false).await?;
    let mut of_second = consume(&second, &queue, false).await?;
    for task in ["one", "two"] {
        send(&second, &queue, task.as_bytes(), plain().with_delivery_mode(PERSISTENT)).await?;
    }
    let (one, two) = (next(&mut of_first).await?, next(&mut of_second).await?);
    same((body(&one), body(&two)), ("one".into(), "two".into()))?;
    first.close(200, "".into()).await?;
    two.ack(BasicAckOptions::default()).await?;
    let again = next(&mut of_second).await?;
    same((body(&again), again.redelivered), ("one".into(), true))?;
    again.ack(BasicAckOptions::default()).await?;
    close(connection).await
}

async fn routed(kind: ExchangeKind, bindings: &[&[&str]], keys: &[&str], expected: &[&[&str]]) -> Outcome {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let exchange = prefix(&format!("{kind:?}"));
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    channel.exchange_declare(exchange.as_str().into(), kind, options, FieldTable::default()).await?;
    let mut queues = Vec::new();
    for patterns in bindings {
        let queue = exclusive(&channel, FieldTable::default()).await?;
        for pattern in *patterns {
            let (to, from) = (queue.as_str().into(), exchange.as_str().into());
            channel.queue_bind(to, from, (*pattern).into(), QueueBindOptions::default(), FieldTable::default()).await?;
        }
        queues.push(queue);
    }
    for key in keys {
        let (to, options) = (exchange.as_str().into(), BasicPublishOptions::default());
        channel.basic_publish(to, (*key).into(), options, key.as_bytes(), plain()).await?;
    }
    for (queue, expected) in queues.iter().zip(expected) {
        let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        same(bodies(&channel, queue, expected.len()).await?, expected)?;
        same(ready(&channel, queue).await?, 0)?;
    }
    close(connection).await
}

async fn publish_subscribe() -> Outcome {
    routed(ExchangeKind::Fanout, &[&[""], &[""]], &["news"], &[&["news"], &["news"]]).await
}

async fn routing() -> Outcome {
    let bindings: &[&[&str]] = &[&["error"], &["info", "warning", "error"]];
    let keys = ["info", "error", "debug", "warning"];
    routed(ExchangeKind::Direct, bindings, &keys, &[&["error"], &["info", "error", "warning"]]).await
}

async fn topics() -> Outcome {
    let keys = ["kern.critical", "cron.info", "cron.critical", "kern.a.b"];
    let expected: &[&[&str]] = &[&["kern.critical"], &["kern.critical", "cron.critical"], &keys];
    routed(ExchangeKind::Topic, &[&["kern.*"], &["*.critical"], &["#"]], &keys, expected).await
}

fn fibonacci(n: u32) -> u32 {
    if n < 2 {
        n
    } else {
        fibonacci(n - 1) + fibonacci(n - 2)
    }
}

async fn serve(server: Channel, mut requests: Consumer) {
    while let Some(Ok(request)) = requests.next().await {
        let asked = &request.properties;
        let (Some(to), Some(id)) = (asked.reply_to(), asked.correlation_id()) else { return };
        let answer = fibonacci(body(&request).parse().unwrap_or(0)).to_string();
        let properties = plain().with_correlation_id(id.clone());
        let sent = send(&server, to.as_str(), answer.as_bytes(), properties).await.is_ok();
        if !sent || request.ack(BasicAckOptions::default()).await.is_err() {
            return;
        }
    }
}

async fn rpc() -> Outcome {
    let connection = connect().await?;
    let (server, client) = (connection.create_channel().await?, connection.create_channel().await?);
    let queue = exclusive(&server, FieldTable::default()).await?;
    let requests = consume(&server, &queue, false).await?;
    tokio::spawn(serve(server, requests));
    for reply_to in [exclusive(&client, FieldTable::default()).await?, "amq.rabbitmq.reply-to".into()] {
        let mut answers = consume(&client, &reply_to, true).await?;
        for n in ["5", "10"] {
            let asked = plain().with_reply_to(reply_to.as_str().into()).with_correlation_id(n.into());
            send(&client, &queue, n.as_bytes(), asked).await?;
        }
        let mut found = BTreeMap::new();
        while found.len() < 2 {
            let answer = next(&mut answers).await?;
            found.insert(answer.properties.correlation_id().as_ref().map(ToString::to_string), body(&answer));
        }
        let expected = [("5", "5"), ("10", "55")].map(|(id, fib)| (Some(id.to_owned()), fib.to_owned()));
        same(found, BTreeMap::from(expected))?;
    }
    close(connection).await
}

async fn publish(channel: &Channel, queue: &str, body: &[u8]) -> Step<lapin::PublisherConfirm> {
    let properties = plain().with_delivery_mode(PERSISTENT);
    Ok(channel.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), body, properties).await?)
}

async fn confirms() -> Outcome {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let queue = exclusive(&channel, FieldTable::default()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    for _ in 0..20 {
        same(publish(&channel, &queue, b"single").await?.await?.is_ack(), true)?;
    }
    for _ in 0..50 {
        publish(&channel, &queue, b"batch").await?;
    }
    same(channel.wait_for_confirms().await?.len(), 0)?;
    let mut waiting = Vec::new();
    for _ in 0..50 {
        waiting.push(tokio::spawn(publish(&channel, &queue, b"async").await?));
    }
    for confirm in waiting {
        same(confirm.await??.is_ack(), true)?;
    }
    same(ready(&channel, &queue).await?, 120)?;
    close(connection).await
}

async fn confirm_window() -> Outcome {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let queue = prefix("window");
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let (mut open, mut acked, mut most) = (VecDeque::new(), 0, 0);
    for _ in 0..1000 {
        if open.len() == 100 {
            let oldest: lapin::PublisherConfirm = open.pop_front().ok_or("empty")?;
            acked += u32::from(oldest.await?.is_ack());
        }
        open.push_back(publish(&channel, &queue, &[0; 100]).await?);
        most = most.max(open.len());
    }
    for confirm in open {
        acked += u32::from(confirm.await?.is_ack());
    }
    same((acked, ready(&channel, &queue).await?), (1000, 1000))?;
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    close(connection).await?;
    Ok(format!("at most {most} unconfirmed"))
}

async fn mandatory() -> Outcome {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let queue = exclusive(&channel, FieldTable::default()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let routed = channel.basic_publish("".into(), queue.as_str().into(), options, b"routed", plain()).await?.await?;
    same(routed.take_message().is_none(), true)?;
    let (nowhere, named) = (prefix("nowhere"), plain().with_message_id("m1".into()));
    let lost = channel.basic_publish("".into(), nowhere.as_str().into(), options, b"lost", named).await?.await?;
    same(lost.is_ack(), true)?;
    let back = lost.take_message().ok_or("its confirm came without the message")?;
    same((back.reply_code, back.reply_text.as_str()), (312, "NO_ROUTE"))?;
    let id = back.delivery.properties.message_id().as_ref().map(ToString::to_string);
    same((body(&back.delivery), id), ("lost".into(), Some("m1".into())))?;
    close(connection).await
}

async fn prefetch() -> Outcome {
    let connection = connect().await?;
    let (channel, look) = (connection.create_channel().await?, connection.create_channel().await?);
    let queue = exclusive(&channel, FieldTable::default()).await?;
    for number in 0..10 {
        send(&look, &queue, number.to_string().as_bytes(), plain()).await?;
    }
    until_ready(&look, &queue, 10).await?;
    channel.basic_qos(3, BasicQosOptions::default()).await?;
    let mut consumer = consume(&channel, &queue, false).await?;
    for held in [3, 6, 9, 10] {
        let mut last = next(&mut consumer).await?;
        for _ in 1..(if held == 10 { 1 } else { 3 }) {
            last = next(&mut consumer).await?;
        }
        same(ready(&look, &queue).await?, 10 - held)?;
        last.ack(BasicAckOptions { multiple: true }).await?;
    }
    channel.close(200, "".into()).await?;
    same(ready(&look, &queue).await?, 0)?;
    close(connection).await
}

async fn get_one(channel: &Channel, queue: &str) -> Step<Delivery> {
    soon("a message", async {
        loop {
            if let Some(found) = channel.basic_get(queue.into(), BasicGetOptions::default()).await? {
                return Ok(found.delivery);
            }
            rest().await;
        }
    })
    .await?
}

/// The newest entry of x-death: reason, queue, count.
fn death(delivery: &Delivery) -> Step<(AMQPValue, AMQPValue, AMQPValue)> {
    let headers = delivery.properties.headers().as_ref().ok_or("no headers")?;
    let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else { return Err("no x-death".into()) };
    let Some(AMQPValue::FieldTable(newest)) = deaths.as_slice().first() else { return Err("no death".into()) };
    let field = |name: &str| newest.inner().get(name).cloned().unwrap_or(AMQPValue::Void);
    Ok((field("reason"), field("queue"), field("count")))
}

fn dead_lettered_to(grave: &str) -> Vec<(&'static str, AMQPValue)> {
    vec![("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(grave))]
}

async fn dead_letter() -> Outcome {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let grave = exclusive(&channel, FieldTable::default()).await?;
    let queue = exclusive(&channel, table(&dead_lettered_to(&grave))).await?;
    for number in ["0", "1"] {
        send(&channel, &queue, number.as_bytes(), plain()).await?;
    }
    get_one(&channel, &queue).await?.nack(BasicNackOptions { requeue: true, ..Default::default() }).await?;
    let again = get_one(&channel, &queue).await?;
    same((again.redelivered, body(&again)), (true, "0".into()))?;
    let second = get_one(&channel, &queue).await?;
    second.nack(BasicNackOptions { multiple: true, requeue: false }).await?;
    for dead in take(&channel, &grave, 2).await? {
        same(death(&dead)?, (text("rejected"), text(&queue), AMQPValue::LongLongInt(1)))?;
    }
    close(connection).await
}

async fn priorities() -> Outcome {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let queue = exclusive(&channel, table(&[("x-max-priority", AMQPValue::LongInt(10))])).await?;
    for priority in [1, 5, 9, 3] {
        send(&channel, &queue, priority.to_string().as_bytes(), plain().with_priority(priority)).await?;
    }
    until_ready(&channel, &queue, 4).await?;
    same(bodies(&channel, &queue, 4).await?, ["9", "5", "3", "1"].map(String::from).to_vec())?;
    close(connection).await
}

async fn ttl() -> Outcome {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let grave = exclusive(&channel, FieldTable::default()).await?;
    let mut arguments = dead_lettered_to(&grave);
    let by_message = exclusive(&channel, table(&arguments)).await?;
    arguments.push(("x-message-ttl", AMQPValue::LongInt(40)));
    let by_queue = exclusive(&channel, table(&arguments)).await?;
    send(&channel, &by_message, b"message", plain().with_expiration("40".into())).await?;
    send(&channel, &by_queue, b"queue", plain()).await?;
    let mut found = Vec::new();
    for expired in take(&channel, &grave, 2).await? {
        same(death(&expired)?.0, text("expired"))?;
        found.push(body(&expired));
    }
    found.sort();
    same(found, vec!["message".to_owned(), "queue".to_owned()])?;
    send(&channel, &by_message, b"stays", plain()).await?;
    same(bodies(&channel, &by_message, 1).await?, vec!["stays".to_owned()])?;
    close(connection).await
}

async fn large_and_empty() -> Outcome {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let queue = exclusive(&channel, FieldTable::default()).await?;
    let large: Vec<u8> = (0..8 * 1024 * 1024).map(|at: u32| at.to_le_bytes()[0]).collect();
    send(&channel, &queue, &large, plain()).await?;
    send(&channel, &queue, b"", plain()).await?;
    let received = take(&channel, &queue, 2).await?;
    same((received[0].data == large, received[1].data.len()), (true, 0))?;
    close(connection).await
}

fn values() -> FieldTable {
    let one = AMQPValue::LongInt(1);
    let nested = AMQPValue::FieldTable(table(&[("nested", AMQPValue::FieldTable(table(&[("deep", one.clone())])))]));
    let array = vec![one, text("two"), AMQPValue::FieldArray(vec![AMQPValue::LongInt(3)].into()), nested.clone()];
    table(&[
        ("bool", AMQPValue::Boolean(true)),
        ("i8", AMQPValue::ShortShortInt(-100)),
        ("u8", AMQPValue::ShortShortUInt(200)),
        ("i16", AMQPValue::ShortInt(-30000)),
        ("u16", AMQPValue::ShortUInt(60000)),
        ("i32", AMQPValue::LongInt(i32::MIN)),
        ("u32", AMQPValue::LongUInt(u32::MAX)),
        ("i64", AMQPValue::LongLongInt(1 << 62)),
        ("float", AMQPValue::Float(1.5)),
        ("double", AMQPValue::Double(2.5)),
        ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 1234 })),
        ("string", text("text é")),
        ("bytes", AMQPValue::ByteArray(vec![0, 255].into())),
        ("timestamp", AMQPValue::Timestamp(1_700_000_000)),
        ("table", nested),
        ("array", AMQPValue::FieldArray(array.into())),
        ("void", AMQPValue::Void),
    ])
}

async fn table_values() -> Outcome {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let queue = exclusive(&channel, FieldTable::default()).await?;
    send(&channel, &queue, b"", plain().with_headers(values())).await?;
    let received = take(&channel, &queue, 1).await?;
    same(received[0].properties.headers().clone(), Some(values()))?;
    close(connection).await?;
    Ok("every type, unsigned ones included".into())
}

async fn headers_to_the_byte() -> Outcome {
    let relay = control("relay").await?;
    let connection = Connection::connect(&address(&relay, ""), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let queue = exclusive(&channel, FieldTable::default()).await?;
    let all = plain()
        .with_content_type("text/plain".into())
        .with_content_encoding("utf-8".into())
        .with_headers(values())
        .with_delivery_mode(PERSISTENT)
        .with_priority(3)
        .with_correlation_id("correlation".into())
        .with_reply_to("reply".into())
        .with_expiration("60000".into())
        .with_message_id("id".into())
        .with_timestamp(1_700_000_000)
        .with_type("kind".into())
        .with_user_id("guest".into())
        .with_app_id("app".into());
    send(&channel, &queue, b"body", all).await?;
    take(&channel, &queue, 1).await?;
    let compared = control(&format!("headers {relay}")).await?;
    close(connection).await?;
    Ok(format!("{compared} header"))
}

async fn consumer_cancel() -> Outcome {
    let connection = connect().await?;
    let (channel, other) = (connection.create_channel().await?, connection.create_channel().await?);
    let queue = exclusive(&channel, FieldTable::default()).await?;
    let mut consumer = consume(&channel, &queue, false).await?;
    other.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    same(soon("the end of the consumer", consumer.next()).await?.is_none(), true)?;
    close(connection).await
}

async fn blocked() -> Outcome {
    let connection = connect().await?;
    let mut events = connection.events_listener();
    let channel = connection.create_channel().await?;
    let queue = exclusive(&channel, FieldTable::default()).await?;
    control("alarm on").await?;
    send(&channel, &queue, b"x", plain()).await?;
    let reason = soon("connection.blocked", async {
        loop {
            match events.next().await {
                Some(Event::ConnectionBlocked(reason)) => return Some(reason),
                Some(_) => {}
                None => return None,
            }
        }
    });
    let reason = reason.await?.ok_or("the connection ended")?;
    control("alarm off").await?;
    let over = soon("connection.unblocked", events.next()).await?;
    same(matches!(over, Some(Event::ConnectionUnblocked)), true)?;
    close(connection).await?;
    Ok(reason)
}

async fn recovery() -> Outcome {
    let name = prefix("recovery");
    let name = name.as_str();
    let properties = ConnectionProperties::default().enable_auto_recover();
    let connection = Connection::connect(&address(&of_environment("AMQP_PORT"), ""), properties).await?;
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(name.into(), ExchangeKind::Direct, durable, FieldTable::default()).await?;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.into(), durable, FieldTable::default()).await?;
    let bind = QueueBindOptions::default();
    channel.queue_bind(name.into(), name.into(), "key".into(), bind, FieldTable::default()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    publish_by_key(&channel, name, "before").await?;
    let mut consumer = consume(&channel, name, false).await?;
    same(body(&next(&mut consumer).await?), "before".to_owned())?; // and not acknowledged
    control("restart").await?;
    // Whoever publishes learns of the loss first, and then waits for the library to have everything back.
    while let Err(error) = publish_by_key(&channel, name, "after").await {
        let Ok(error) = error.downcast::<lapin::Error>() else { return Err("another error".into()) };
        soon("the recovery", channel.wait_for_recovery(*error)).await??;
    }
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("after") {
        match soon("a delivery", consumer.next()).await? {
            Some(Ok(delivery)) => {
                seen.push(body(&delivery));
                delivery.ack(BasicAckOptions::default()).await?;
            }
            Some(Err(error)) => soon("the recovery", channel.wait_for_recovery(error)).await??,
            None => return Err("the consumer ended".into()),
        }
    }
    same(seen, vec!["before".to_owned(), "after".to_owned()])?;
    channel.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
    channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await?;
    close(connection).await?;
    Ok("by the library: connection, topology and consumer".into())
}

async fn publish_by_key(channel: &Channel, exchange: &str, body: &str) -> Step {
    let properties = plain().with_delivery_mode(PERSISTENT);
    let options = BasicPublishOptions::default();
    let confirm = channel.basic_publish(exchange.into(), "key".into(), options, body.as_bytes(), properties).await?;
    same(confirm.await?.is_ack(), true)
}

async fn heartbeats() -> Outcome {
    let relay = control("relay").await?;
    let properties = ConnectionProperties::default();
    let connection = Connection::connect(&address(&relay, "?heartbeat=1"), properties).await?;
    let mut events = connection.events_listener();
    tokio::time::sleep(Duration::from_millis(3500)).await;
    same(connection.status().connected(), true)?;
    control(&format!("freeze {relay}")).await?;
    let reason = soon("the loss of the connection", async {
        loop {
            match events.next().await {
                Some(Event::Error(error)) => return error.to_string(),
                Some(_) => {}
                None => return "the events ended".to_owned(),
            }
        }
    });
    let reason = reason.await?;
    same(connection.status().connected(), false)?;
    control(&format!("dropped {relay}")).await?;
    Ok(reason)
}

async fn over_tls(authority: &str) -> lapin::Result<Connection> {
    let address = format!("amqps://guest:guest@127.0.0.1:{}/%2f", of_environment("AMQP_TLS_PORT"));
    let pem = fs::read_to_string(of_environment(authority)).unwrap_or_default();
    let trust = OwnedTLSConfig { identity: None, cert_chain: Some(pem) };
    let runtime = lapin::runtime::default_runtime()?;
    Connection::connect_with_config(&address, ConnectionProperties::default(), trust, runtime).await
}

async fn tls() -> Outcome {
    let connection = over_tls("AMQP_CA").await?;
    let channel = connection.create_channel().await?;
    let queue = exclusive(&channel, FieldTable::default()).await?;
    send(&channel, &queue, b"secret", plain()).await?;
    same(bodies(&channel, &queue, 1).await?, vec!["secret".to_owned()])?;
    close(connection).await?;
    match over_tls("AMQP_OTHER_CA").await {
        Ok(_) => Err("a broker of an unknown authority was trusted".into()),
        Err(error) => Ok(error.to_string()),
    }
}

fn code<T>(result: lapin::Result<T>) -> Step<u16> {
    match result {
        Ok(_) => Err("it was not refused".into()),
        Err(error) => match error.kind() {
            ErrorKind::ProtocolError(refused) => Ok(refused.get_id()),
            _ => Err(error.into()),
        },
    }
}

async fn errors() -> Outcome {
    let (connection, other) = (connect().await?, connect().await?);
    let queue = prefix("errors");
    let queue = queue.as_str();
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let deleted = QueueDeclareOptions { auto_delete: true, ..exclusive };
    let (declarer, none) = (connection.create_channel().await?, FieldTable::default);
    declarer.queue_declare(queue.into(), exclusive, none()).await?;
    let missing = prefix("missing");
    let channel = connection.create_channel().await?;
    same(code(channel.queue_declare(missing.as_str().into(), passive, none()).await)?, 404)?;
    let channel = connection.create_channel().await?;
    same(code(channel.queue_declare(queue.into(), deleted, none()).await)?, 406)?;
    let channel = connection.create_channel().await?;
    let mut consumer = consume(&channel, queue, false).await?;
    channel.basic_ack(42, BasicAckOptions::default()).await?;
    let told = soon("the error of the channel", consumer.next()).await?;
    same(code(told.ok_or("the consumer just ended")?)?, 406)?;
    let channel = other.create_channel().await?;
    same(code(channel.queue_declare(queue.into(), passive, none()).await)?, 405)?;
    let port = of_environment("AMQP_PORT");
    for (address, expected) in [
        (format!("amqp://guest:wrong@127.0.0.1:{port}/%2f"), 403),
        (format!("amqp://guest:guest@127.0.0.1:{port}/missing"), 530),
    ] {
        same(code(Connection::connect(&address, ConnectionProperties::default()).await)?, expected)?;
    }
    close(other).await?;
    close(connection).await?;
    Ok("ErrorKind::ProtocolError".into())
}

async fn play(name: &str) -> Outcome {
    match name {
        "tutorial-1-hello" => hello().await,
        "tutorial-2-work-queues" => work_queues().await,
        "tutorial-3-publish-subscribe" => publish_subscribe().await,
        "tutorial-4-routing" => routing().await,
        "tutorial-5-topics" => topics().await,
        "tutorial-6-rpc" => rpc().await,
        "tutorial-7-confirms" => confirms().await,
        "confirm-window" => confirm_window().await,
        "mandatory-return" => mandatory().await,
        "prefetch-multiple-ack" => prefetch().await,
        "nack-dead-letter" => dead_letter().await,
        "priorities" => priorities().await,
        "ttl" => ttl().await,
        "large-and-empty" => large_and_empty().await,
        "table-values" => table_values().await,
        "headers-to-the-byte" => headers_to_the_byte().await,
        "consumer-cancel" => consumer_cancel().await,
        "connection-blocked" => blocked().await,
        "recovery" => recovery().await,
        "heartbeats" => heartbeats().await,
        "tls" => tls().await,
        "errors" => errors().await,
        _ => Err("the program does not know this scenario".into()),
    }
}

#[tokio::main]
async fn main() {
    for name in std::env::args().skip(1) {
        report(&name, play(&name).await);
    }
}

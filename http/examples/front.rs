//! What the front end costs by itself, to be measured with a load generator such as wrk:
//!
//! ```text
//! cargo run --release -p lictor-http --example front        # serves one made-up entry on port 8580
//! cargo run --release -p lictor-http --example front bare   # serves a constant by warp alone, for comparison
//! wrk -t1 -c64 -d5 http://127.0.0.1:8580/v1/kv/zip
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lictor_core::api::kv::{self, Entry};
use lictor_core::api::{Call, Read, ReadMeta, Reply, Request, Response};
use lictor_core::id::Index;
use lictor_http::{Hooks, Options, Server, listen};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = ([127, 0, 0, 1], 8580);
    if std::env::args().any(|arg| arg == "bare") {
        let constant = warp::Filter::map(warp::any(), || "[{\"LockIndex\":0,\"Key\":\"zip\",\"Flags\":0}]");
        warp::serve(constant).run(address).await;
        return Ok(());
    }
    let entry = Arc::new(Entry {
        key: Bytes::from_static(b"zip"),
        value: Bytes::from_static(b"test"),
        flags: 0,
        create_index: Index(4),
        modify_index: Index(4),
        lock_index: 0,
        session: None,
    });
    let call = move |call: Call| {
        let entry = entry.clone();
        async move { Ok(answer(&call, entry)) as Reply }
    };
    let server = Server::start(vec![listen(address.into())?], &Options::default(), Hooks::default(), call);
    tokio::signal::ctrl_c().await?;
    server.shutdown(Duration::ZERO).await;
    Ok(())
}

fn answer(call: &Call, entry: Arc<Entry>) -> Response {
    match call.request {
        Request::Kv(kv::Request::Put { .. }) => Response::Done(true),
        _ => {
            let meta = ReadMeta { index: Index(4), known_leader: true, last_contact: Duration::ZERO };
            Response::KvEntries(Read { meta, value: vec![entry] })
        }
    }
}

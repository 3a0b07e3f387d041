//! What an operator reads of an agent's life.

use lictor_core::io::{Notice, PoolNews, ServerNews, SnapshotNews};
use lictor_core::raft::{News, StepDown};
use lictor_core::recovery::PEERS;
use lictor_core::time::{Duration, Instant};

/// At most one line about dropped messages in this time: a stranger must not fill the log.
const DROPPED_EVERY: Duration = Duration::from_secs(10);

/// Turns notices into log lines.
#[derive(Debug, Default)]
pub(crate) struct NoticeLog {
    next_dropped: Instant,
    unsaid: u64,
}

impl NoticeLog {
    /// Logs one notice, in words.
    pub(crate) fn log(&mut self, now: Instant, notice: &Notice) {
        match notice {
            Notice::Raft(news) => log_news(news),
            Notice::Snapshot(news) => log_snapshot(news),
            Notice::Local(news) if news.is_trouble() => tracing::warn!("{news}"),
            Notice::Local(news) => tracing::info!("{news}"),
            Notice::Exec(news) if news.is_trouble() => tracing::warn!("agent: {news}"),
            Notice::Exec(news) => tracing::info!("agent: {news}"),
            Notice::Pool(news) => log_pool(news),
            Notice::Left => tracing::info!("agent: left the pool for good: the agent stops"),
            Notice::Servers(news @ ServerNews::Founded { .. }) => tracing::info!("{news}"),
            Notice::Servers(news) => tracing::warn!("{news}"),
            Notice::OrderObeyed => {
                tracing::warn!("{PEERS}: the members that it names are committed and in force; the file is removed");
            }
            Notice::Dropped { from, reason } => {
                if let Some(unsaid) = self.may_say_dropped(now) {
                    let from = from.map_or_else(|| "an unknown sender".to_owned(), |from| from.to_string());
                    tracing::warn!("dropped a message from {from}: {reason} ({unsaid} more since the last such line)");
                }
            }
            Notice::DiskFull => tracing::error!(
                "no space left on the disk that holds the raft log: writes are refused until some is freed, reads go on"
            ),
            Notice::DiskHasRoom { after } => {
                tracing::info!("the disk has room for the raft log again after {after:.1?}: writes are accepted");
            }
        }
    }

    /// Whether a line about a dropped message is due, and how many were passed over in silence before it.
    fn may_say_dropped(&mut self, now: Instant) -> Option<u64> {
        if now < self.next_dropped {
            self.unsaid += 1;
            return None;
        }
        self.next_dropped = now + DROPPED_EVERY;
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// Who leads is what an operator asks first.
fn log_news(news: &News) {
    match news {
        News::BecameLeader { term } => tracing::info!("this server was elected leader for term {term}"),
        News::SteppedDown { term, reason } => {
            let why = match reason {
                StepDown::HigherTerm => "another server began a later term",
                StepDown::LostQuorum => "it could not reach a quorum of servers",
                StepDown::Removed => "it no longer takes part in raft",
            };
            tracing::warn!("this server stepped down as leader of term {term}: {why}");
        }
        News::LeaderChanged { leader: Some(leader), term } => {
            tracing::info!("the leader of term {term} is server {leader}");
        }
        News::LeaderChanged { leader: None, term } => {
            tracing::info!("there is no known leader in term {term}");
        }
        News::Campaigning { term } => {
            tracing::info!("no leader was heard from: this server asks for votes for term {term}");
        }
    }
}

/// Who comes and goes.
fn log_pool(news: &PoolNews) {
    let line = pool_line(news);
    match news {
        PoolNews::NameLost { .. } | PoolNews::GaveUp { .. } => tracing::error!("{line}"),
        PoolNews::Conflict { .. }
        | PoolNews::Refuted
        | PoolNews::Stranger { .. }
        | PoolNews::RetryFailed { .. }
        | PoolNews::RejoinFailed { .. }
        | PoolNews::Unreadable { .. } => tracing::warn!("{line}"),
        PoolNews::Joined { .. }
        | PoolNews::Updated { .. }
        | PoolNews::Failed { .. }
        | PoolNews::Left { .. }
        | PoolNews::Reaped { .. }
        | PoolNews::RetrySucceeded { .. }
        | PoolNews::Rejoined { .. } => tracing::info!("{line}"),
    }
}

/// The line about a member, or about joining, that people and tools look for in Consul's log; of all else, the news' own
/// words.
fn pool_line(news: &PoolNews) -> String {
    match news {
        PoolNews::Joined { name, address } => format!("serf: EventMemberJoin: {name} {}", address.ip()),
        PoolNews::Updated { name, .. } => format!("serf: EventMemberUpdate: {name}"),
        PoolNews::Failed { name, address } => format!("serf: EventMemberFailed: {name} {}", address.ip()),
        PoolNews::Left { name, address } => format!("serf: EventMemberLeave: {name} {}", address.ip()),
        PoolNews::Reaped { name } => format!("serf: EventMemberReap: {name}"),
        PoolNews::RetrySucceeded { contacted } => {
            format!("agent: Join completed. Synced with {contacted} initial agents")
        }
        PoolNews::RetryFailed { reason, again_in, .. } => {
            format!("agent: Join failed: {reason}, retrying in {again_in:.1?}")
        }
        PoolNews::GaveUp { .. } | PoolNews::NameLost { .. } => format!("agent: {news}"),
        PoolNews::Rejoined { .. } | PoolNews::RejoinFailed { .. } | PoolNews::Unreadable { .. } => {
            format!("serf: {news}")
        }
        PoolNews::Conflict { .. } | PoolNews::Refuted | PoolNews::Stranger { .. } => format!("memberlist: {news}"),
    }
}

/// Snapshots explain what the disk and the network are busy with.
fn log_snapshot(news: &SnapshotNews) {
    match news {
        SnapshotNews::Cut { position, bytes } => {
            let (index, size) = (position.index, mebibytes(*bytes));
            tracing::info!("a snapshot of the log up to index {index} is on the disk ({size})");
        }
        SnapshotNews::Sending { to, position } => tracing::info!(
            "server {to} lacks more than the log in memory holds: it is sent a snapshot up to index {}",
            position.index
        ),
        SnapshotNews::Installed { from, position, bytes } => {
            let (index, size) = (position.index, mebibytes(*bytes));
            tracing::info!("installed a snapshot up to index {index} from server {from} ({size})");
        }
        SnapshotNews::Refused { from, reason } => tracing::error!(
            "cannot use the snapshot that server {from} sends: {reason}. If the servers run different versions, make \
             them the same"
        ),
        SnapshotNews::NoRoom => tracing::error!(
            "no space left on the disk for a snapshot: it is tried again, and the raft log grows meanwhile"
        ),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_and_go_in_the_words_that_tools_look_for() {
        let (name, address) = ("web-1".to_owned(), "10.1.0.7:8301".parse().unwrap());
        let joined = PoolNews::Joined { name: name.clone(), address };
        assert_eq!(pool_line(&joined), "serf: EventMemberJoin: web-1 10.1.0.7");
        let failed = PoolNews::Failed { name, address };
        assert_eq!(pool_line(&failed), "serf: EventMemberFailed: web-1 10.1.0.7");
        let gave_up = PoolNews::GaveUp { attempts: 3, reason: "nobody answers".to_owned() };
        assert_eq!(pool_line(&gave_up), format!("agent: {gave_up}"));
    }

    #[test]
    fn dropped_messages_are_summed_up_and_not_each_told() {
        let mut log = NoticeLog::default();
        let start = Instant::from_millis(5);
        assert_eq!(log.may_say_dropped(start), Some(0));
        assert_eq!(log.may_say_dropped(start + Duration::from_secs(1)), None);
        assert_eq!(log.may_say_dropped(start + Duration::from_secs(9)), None);
        assert_eq!(log.may_say_dropped(start + DROPPED_EVERY), Some(2));
        assert_eq!(log.may_say_dropped(start + DROPPED_EVERY), None);
    }
}

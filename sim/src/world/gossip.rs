//! Packets of gossip between hosts: datagrams, and what goes over a stream of its own.

use std::net::SocketAddr;

use lictor_core::io::Input;

use super::{Event, Packet, World};
use crate::host::host_at;

impl World {
    /// A packet leaves a host. Over a stream it arrives undamaged and once, or the sender hears that it could not.
    pub(super) fn send_packet(&mut self, from: usize, to: SocketAddr, packet: Packet) {
        self.note(20, from as u64);
        self.trace.bytes(&packet.bytes);
        let Packet { is_stream, bytes } = packet;
        self.stats.packets += 1;
        let target = host_at(to).filter(|host| self.hosts.get(*host).is_some_and(|host| host.gossip_address() == to));
        let is_there = target.is_some_and(|to| self.hosts[to].agent.is_some() && self.net.is_open(from, to));
        let Some(target) = target.filter(|_| is_there || !is_stream) else {
            if is_stream {
                let life = self.hosts[from].life;
                let after = self.net.round_trip();
                self.after(after, Event::Unreachable { host: from, life, to });
            }
            self.stats.packets_lost += 1;
            return;
        };
        let fate = self.net.send(self.now, from, target, bytes.len());
        let bytes = if fate.damaged && !is_stream { self.net.damage(&bytes) } else { bytes };
        if fate.arrivals[0].is_none() {
            self.stats.packets_lost += 1;
        }
        let copies = if is_stream { 1 } else { 2 };
        for at in fate.arrivals.into_iter().take(copies).flatten() {
            self.at(at, Event::Gossip { from, to: target, packet: Packet { is_stream, bytes: bytes.clone() } });
        }
    }

    pub(super) fn on_packet(&mut self, from: usize, to: usize, packet: Packet) {
        if self.hosts[to].agent.is_none() || !self.net.is_open(from, to) {
            self.stats.packets_lost += 1;
            return;
        }
        self.note(21, (from * self.hosts.len() + to) as u64);
        let Packet { is_stream, bytes } = packet;
        let from = self.hosts[from].gossip_address();
        self.feed(to, if is_stream { Input::Stream { from, bytes } } else { Input::Datagram { from, bytes } });
    }

    pub(super) fn on_unreachable(&mut self, host: usize, life: u64, to: SocketAddr) {
        if self.hosts[host].life == life && self.hosts[host].agent.is_some() {
            self.note(22, host as u64);
            let reason = "nobody is there".to_owned();
            self.feed(host, Input::Unreachable { to, reason });
        }
    }
}

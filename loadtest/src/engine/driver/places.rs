//! Where connections are: opened in time, listed while they have room, more of them when they are needed, given up when they are lost.

use std::io;

use super::super::connection::Connection;
use super::super::protocol::{Failure, Protocol};
use super::{Engine, Place, REOPEN_PAUSE};

impl<P: Protocol, F: Fn() -> P> Engine<'_, P, F> {
    /// Opens the connections whose time has come.
    pub(super) fn open_due(&mut self, now: u64) -> io::Result<()> {
        if now < self.opening_due || now >= self.end {
            return Ok(());
        }
        for index in 0..self.places.len() {
            if matches!(self.places[index], Place::Due(at) if at <= now) {
                self.open(index, now)?;
            }
        }
        let dues = self.places.iter().filter_map(|place| if let Place::Due(at) = place { Some(*at) } else { None });
        self.opening_due = dues.min().unwrap_or(u64::MAX);
        Ok(())
    }

    /// Opens one connection. The first is awaited, so that a server that is not there is told at once.
    pub(super) fn open(&mut self, index: usize, now: u64) -> io::Result<()> {
        let (address, client) = (self.plan.address, (self.client)());
        let first = self.opened == 0;
        match if first { Connection::open(address, client) } else { Connection::begin(address, client) } {
            Ok(connection) => {
                self.poller.add(connection.descriptor(), index)?;
                self.places[index] = Place::Open(connection);
                self.opened += 1;
                self.resume(index, now);
            }
            Err(error) if first => return Err(error),
            Err(_) => {
                self.tally.trouble(Failure::Connect, self.first_mark.is_none());
                self.grow_after = now + REOPEN_PAUSE;
                self.leave(index, now + REOPEN_PAUSE);
            }
        }
        Ok(())
    }

    pub(super) fn place_with_room(&mut self) -> Option<usize> {
        while let Some(index) = self.free.pop_front() {
            self.listed[index] = false;
            if matches!(&self.places[index], Place::Open(connection) if connection.protocol.room() > 0) {
                return Some(index);
            }
        }
        None
    }

    /// Puts a place where the open loop finds it, if it has room.
    pub(super) fn list(&mut self, index: usize) {
        let has_room = matches!(&self.places[index], Place::Open(connection) if connection.protocol.room() > 0);
        if has_room && !self.listed[index] {
            self.listed[index] = true;
            self.free.push_back(index);
        }
    }

    /// Begins a connection beyond those that are held open, if the bound allows one.
    pub(super) fn grow(&mut self, now: u64) -> Option<usize> {
        let most = self.plan.open.as_ref()?.connections_max;
        if now < self.grow_after {
            return None;
        }
        let index = match self.vacant.pop() {
            Some(index) => index,
            None if self.places.len() < most => {
                self.places.push(Place::Vacant);
                self.listed.push(false);
                self.places.len() - 1
            }
            None => return None,
        };
        // Only the first connection's error is not counted in the tally, and that one is open by now.
        self.open(index, now).ok()?;
        self.place_with_room()
    }

    /// Drops a place's connection. Those that the plan holds open come back at `at`, others when they are needed.
    pub(super) fn leave(&mut self, index: usize, at: u64) {
        if index < self.plan.connections.max(1) {
            self.places[index] = Place::Due(at);
            self.opening_due = self.opening_due.min(at);
        } else {
            self.places[index] = Place::Vacant;
            self.vacant.push(index);
        }
    }
}

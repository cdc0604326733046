//! Integration tests, by behaviour: a server in this process, or the real program, and clients on sockets.

mod support;

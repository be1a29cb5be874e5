// Package mirror is the stream from relay to tap: what passed on each
// connection, in the order in which the relay read it. docs/mirror.md draws it.
//
// Its rule: the relay never waits for the tap. [Writer] puts events into a
// queue of fixed size and returns; what does not fit is dropped, and with it
// the rest of that connection, which is then blind: relayed, counted, and said
// once. A connection is never resumed after a gap, since HPACK's state
// (RFC 7541 §2.2) would be gone.
//
// Raw bytes, secrets among them, are in this stream. It runs over a socket pair
// that only the two processes hold, or over a socket in a directory that only
// root may enter.
package mirror

import "time"

// Version of the stream's format. Reader and writer must agree on it: they are
// of one binary but for an upgrade's short while.
const Version = 3

// Dir is a direction of bytes on a relayed connection.
type Dir uint8

const (
	// FromClient runs to the server: requests.
	FromClient Dir = 0
	// FromServer runs to the client: responses.
	FromServer Dir = 1
)

// String names the side that sent the bytes.
func (d Dir) String() string {
	if d == FromServer {
		return "server"
	}
	return "client"
}

// Kind says what an Event is.
type Kind uint8

const (
	// KindHello is the first event of every stream: who mirrors, and what.
	KindHello Kind = 1 + iota
	// KindServing: the path is bound, clients are accepted from here on. It comes
	// again after each Away.
	KindServing
	// KindOpen: a client was accepted.
	KindOpen
	// KindChunk: bytes passed in one direction.
	KindChunk
	// KindEnd: one direction ended (half-close); none of its bytes follow.
	KindEnd
	// KindBlind: bytes of this connection did not fit the queue. None of its
	// chunks follow. Repeated about every second while the count grows.
	KindBlind
	// KindClose: the connection is over.
	KindClose
	// KindDetached: no more clients are accepted; those that remain are
	// relayed to their end.
	KindDetached
	// KindMissed sums up connections that came and went while the queue had no
	// room even to name them.
	KindMissed
	// KindAway: the path leads elsewhere, or to nobody, since its server
	// restarts; the relay waits for it.
	KindAway
	// KindOld is of a connection that was open before this tap came: none of its
	// chunks follow, for HPACK's state is gone. It is closed as others are.
	KindOld
	// KindOver is the last event: the tap has left, or another reads from now on.
	KindOver
	kindEnd // not a kind: one past the last
)

// Event is one message of the stream. Which fields are set, its Kind says.
type Event struct {
	Kind Kind
	Conn uint64    // connection, from 1, never reused by its relay; 0 where none is meant
	At   time.Time // when the relay saw it, by the machine's monotonic clock; Wall adds the day

	Dir  Dir    // Chunk, End
	Data []byte // Chunk: the reader's own, valid until the next event

	Hello  Hello  // Hello
	Peers  Peers  // Open, Old
	Totals Totals // Blind, Close, Missed
	// Text is why: Close (empty: it ended in the ordinary way), Serving (what
	// the upstream answered to a probe; empty: it answers), Away.
	Text string
	// Count is the number of connections: that outlive a Detached; that were
	// Missed.
	Count uint32
}

// Refused begins the Text of a Close whose client never had an upstream.
const Refused = "upstream: "

// Hello introduces a relay.
type Hello struct {
	Version  uint16
	PID      uint32
	Listen   string // the path that clients dial
	Upstream string
}

// Peers are the processes at the two ends of a connection, where the kernel
// tells: zero and empty where not. Server is who made the upstream's listener.
type Peers struct {
	ClientPID, ServerPID uint32
	ClientExe, ServerExe string
}

// Totals count a connection's bytes so far.
type Totals struct {
	FromClient, FromServer uint64 // relayed
	Dropped                uint64 // relayed, but not mirrored
}

package mirror

import (
	"encoding/binary"
	"fmt"
	"io"
)

// What a tap says to its relay: two bytes of Seat once, and any number of asks.
// Closing its side for writing after that is leaving, and so is its death.

// Seat is what a tap that connects comes for.
type Seat byte

const (
	// Read: it reads from now on, and whoever did so until now no longer does.
	Read Seat = 'r'
	// StandBy: it reads once nobody else does.
	StandBy Seat = 's'
	// HandOver: it is no tap, but a relay that takes the place of this one. What
	// the two say then is theirs; they may be of different versions.
	HandOver Seat = 'h'
)

// Ready tells the relay that the tap reads, so that it may serve its path.
func Ready(relay io.Writer, s Seat) error {
	_, err := relay.Write([]byte{Version, byte(s)})
	return err
}

// AwaitReady waits for the tap's Ready.
func AwaitReady(tap io.Reader) (Seat, error) {
	var b [2]byte
	if _, err := io.ReadFull(tap, b[:]); err != nil {
		return 0, fmt.Errorf("wait for the tap: %w", err)
	}
	switch s := Seat(b[1]); {
	case s == HandOver:
		return s, nil
	case b[0] != Version:
		return 0, fmt.Errorf("%w: the tap answers with version %d, this relay has %d", ErrFormat, b[0], Version)
	case s != Read && s != StandBy:
		return 0, fmt.Errorf("%w: the tap asks for seat %q", ErrFormat, b[1])
	default:
		return s, nil
	}
}

// askRedial is followed by the connection's number, a u64.
const askRedial = 'd'

// AskRedial asks the relay to have a connection's client dial anew, so that the
// connection that follows can be decoded. The relay decides whether it does.
func AskRedial(relay io.Writer, conn uint64) error {
	_, err := relay.Write(binary.BigEndian.AppendUint64([]byte{askRedial}, conn))
	return err
}

// HearAsks calls redial for each connection that the tap asks for, until the tap
// leaves or says what it can't.
func HearAsks(tap io.Reader, redial func(conn uint64)) {
	var b [9]byte
	for {
		if _, err := io.ReadFull(tap, b[:]); err != nil || b[0] != askRedial {
			return
		}
		redial(binary.BigEndian.Uint64(b[1:]))
	}
}

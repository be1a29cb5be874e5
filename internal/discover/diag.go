package discover

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// sock is a stream socket as the kernel tells of it: one that listens, or that
// is connected.
type sock struct {
	ino uint32
	// cookie is the kernel's own number for it, which no other socket has until
	// the next boot.
	cookie  uint64
	listens bool
	// bound is the file that the socket was bound to, zero if to none. One that
	// accept(2) returned has that of its listener, wherever it was renamed to.
	bound boundFile
	peer  uint32 // inode number of the socket at the other end; 0: there is none any more
	// waiting are, of a listener, the inode numbers of the sockets that are
	// connected to it and not yet accepted: 0 for those closed again.
	waiting []uint32
}

// diagnose lists the sockets of a network namespace: of ours if ns is nil.
type diagnose func(ns *os.File) ([]sock, error)

// What x/sys/unix lacks of linux/unix_diag.h and of TCP's states.
const (
	established, listen = 1, 10

	showVFS, showPeer, showIcons = 2, 4, 8

	attrVFS, attrPeer, attrIcons = 1, 2, 3

	requestSize = 24 // struct unix_diag_req
	messageSize = 16 // struct unix_diag_msg
)

// unixDiag asks by netlink. That needs no rights in our own namespace, and
// CAP_SYS_ADMIN in another. It can be refused: by a seccomp filter, or by a
// kernel without unix_diag.
func unixDiag(ns *os.File) ([]sock, error) {
	cfg := netlink.Config{MessageBufferSize: 32 << 10} // the kernel fills no more at once
	if ns != nil {
		cfg.NetNS = int(ns.Fd())
	}
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, &cfg)
	if err != nil {
		return nil, fmt.Errorf("ask the kernel for its Unix sockets: %w", err)
	}
	defer conn.Close()
	req := make([]byte, requestSize) // family, protocol, padding, states, inode, show, cookie
	req[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(req[4:], 1<<established|1<<listen)
	binary.NativeEndian.PutUint32(req[12:], showVFS|showPeer|showIcons)
	msgs, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.SOCK_DIAG_BY_FAMILY, Flags: netlink.Request | netlink.Dump},
		Data:   req,
	})
	if err != nil {
		return nil, fmt.Errorf("ask the kernel for its Unix sockets: %w", err)
	}
	var all []sock
	for _, m := range msgs {
		if s, ok := decode(m.Data); ok {
			all = append(all, s)
		}
	}
	return all, nil
}

// decode reads family, type, state, padding, inode, cookie, and attributes.
func decode(b []byte) (s sock, ok bool) {
	if len(b) < messageSize || b[0] != unix.AF_UNIX || b[1] != unix.SOCK_STREAM {
		return sock{}, false
	}
	s.listens, s.ino = b[2] == listen, binary.NativeEndian.Uint32(b[4:])
	s.cookie = uint64(binary.NativeEndian.Uint32(b[8:])) | uint64(binary.NativeEndian.Uint32(b[12:]))<<32
	attrs, err := netlink.NewAttributeDecoder(b[messageSize:])
	if err != nil {
		return sock{}, false
	}
	for attrs.Next() {
		switch v := attrs.Bytes(); {
		case attrs.Type() == attrVFS && len(v) == 8:
			s.bound = boundFile{ino: binary.NativeEndian.Uint32(v), dev: binary.NativeEndian.Uint32(v[4:])}
		case attrs.Type() == attrPeer && len(v) == 4:
			s.peer = binary.NativeEndian.Uint32(v)
		case attrs.Type() == attrIcons:
			for ; len(v) >= 4; v = v[4:] {
				s.waiting = append(s.waiting, binary.NativeEndian.Uint32(v))
			}
		}
	}
	return s, attrs.Err() == nil
}

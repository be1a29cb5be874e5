package takeover

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ledger is a file of the connections that were sent off since the machine was
// started: one that still carries old calls is not told again by a later session.
type ledger struct {
	mu   sync.Mutex
	file *os.File
	sent map[uint64]bool // by cookie
}

// maxLedger is a size at which a ledger is begun anew: some 600 connections. To
// be told twice would hurt none: the second GOAWAY has the same number.
const maxLedger = 64 << 10

func openLedger(path string) (*ledger, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("write down who is sent off: %w", err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("write down who is sent off: %w", err)
	}
	l := &ledger{file: f, sent: map[uint64]bool{}}
	if st, err := f.Stat(); err == nil && st.Size() > maxLedger {
		_ = f.Truncate(0)
	}
	all, err := os.ReadFile(path)
	if err != nil {
		l.close()
		return nil, fmt.Errorf("read who was sent off: %w", err)
	}
	for line := range strings.Lines(string(all)) {
		cookie, _, _ := strings.Cut(line, " ")
		if n, err := strconv.ParseUint(cookie, 10, 64); err == nil {
			l.sent[n] = true
		}
	}
	return l, nil
}

func (l *ledger) close() { _ = l.file.Close() }

func (l *ledger) has(cookie uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent[cookie]
}

// add is for after the fact. An error means that a later session may do it again.
func (l *ledger) add(cookie uint64, server int, path string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent[cookie] = true
	_, err := fmt.Fprintf(l.file, "%d %s server %d on %q\n", cookie, time.Now().UTC().Format(time.RFC3339), server, path)
	if err != nil {
		return fmt.Errorf("it is sent off, which can't be written down: %w", err)
	}
	return nil
}

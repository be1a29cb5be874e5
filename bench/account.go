package main

import (
	"fmt"
	"regexp"
	"strconv"
)

// account is grpc-tap's last line: what it saw and what it could not.
type account struct {
	Made       int64 // calls, by the client's count
	Calls      int64 // recorded
	NotPrinted int64 // of them, those that found the printer's queue full
	NotSpans   int64 // of them, those that became no span
	Spans      int64 // exported
	Received   int64 // of them, by the collector's count
	Blind      int64 // connections
}

// counts find the numbers in the last line; one that is not there is 0.
var counts = []struct {
	what *regexp.Regexp
	into func(*account) *int64
}{
	{regexp.MustCompile(`(\d+) records? not taken by stdout`), func(a *account) *int64 { return &a.NotPrinted }},
	{regexp.MustCompile(`(\d+) records? not taken by the exporter`), func(a *account) *int64 { return &a.NotSpans }},
	{regexp.MustCompile(`(\d+) spans? exported`), func(a *account) *int64 { return &a.Spans }},
	{regexp.MustCompile(`(\d+) dropped \(\w+\)`), func(a *account) *int64 { return &a.NotSpans }},
	{regexp.MustCompile(`(\d+) blind`), func(a *account) *int64 { return &a.Blind }},
}

var lastLine = regexp.MustCompile(`(?m)^grpc-tap: (\d+) calls? on \d+ connections?.*$`)

func readAccount(said string) (account, error) {
	line := lastLine.FindStringSubmatch(said)
	if line == nil {
		return account{}, fmt.Errorf("grpc-tap gave no account of itself: %s", said)
	}
	var a account
	a.Calls, _ = strconv.ParseInt(line[1], 10, 64)
	for _, c := range counts {
		for _, m := range c.what.FindAllStringSubmatch(line[0], -1) {
			n, _ := strconv.ParseInt(m[1], 10, 64)
			*c.into(&a) += n
		}
	}
	return a, nil
}

// enough is the share of the calls that must be recorded, and printed.
const enough = 0.99

// counted says why a run does not count, if it does not.
func (a account) counted() error {
	recorded := min(a.Calls, a.Made) - a.NotPrinted
	switch {
	case a.Blind > 0:
		return fmt.Errorf("the run does not count: grpc-tap was blind on connections: %d", a.Blind)
	case float64(recorded) < enough*float64(a.Made):
		return fmt.Errorf("the run does not count: of %d calls grpc-tap recorded %d, and %d of these found no room at the printer", a.Made, a.Calls, a.NotPrinted)
	}
	return nil
}

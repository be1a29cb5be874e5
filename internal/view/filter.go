// Package view holds what the ways of showing calls share: which are shown.
package view

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// Filter is the shorthand flags that choose among calls; a call is shown when
// it passes all that are set. The zero Filter passes every call.
type Filter struct {
	Errors     bool          // --errors: not OK, or lost
	SlowerThan time.Duration // --slower-than: took longer than this
	Pod        string        // --pod [NS/]NAME; without NS, in any namespace
	Method     string        // --method GLOB, against Method and Service/Method, in any case
}

// Validate says what is wrong with a flag's value, and what would be right.
func (f Filter) Validate() error {
	if f.SlowerThan < 0 {
		return fmt.Errorf("--slower-than %s: want a duration above zero, as in --slower-than 1s", f.SlowerThan)
	}
	if f.Pod != "" {
		for part := range strings.SplitSeq(f.Pod, "/") {
			if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || strings.Count(f.Pod, "/") > 1 {
				return fmt.Errorf("--pod %q: want [NAMESPACE/]NAME in full, as in --pod shop/web-0", f.Pod)
			}
		}
	}
	if _, err := path.Match(f.Method, ""); err != nil {
		return fmt.Errorf("--method %q: not a glob (%w): want one as in --method 'Node*Volume'", f.Method, err)
	}
	return nil
}

// Match says whether r is shown.
func (f Filter) Match(r *call.Record) bool {
	return (!f.Errors || r.Failed()) &&
		(f.SlowerThan == 0 || r.Duration() > f.SlowerThan) &&
		(f.Pod == "" || f.matchPod(r.Pod)) &&
		(f.Method == "" || f.matchMethod(r))
}

func (f Filter) matchPod(p call.Pod) bool {
	if ns, name, ok := strings.Cut(f.Pod, "/"); ok {
		return p.Namespace == ns && p.Name == name
	}
	return p.Name == f.Pod
}

// matchMethod tries the method alone, with its service in full, and with its
// service as a line shows it: Echo/Say.
func (f Filter) matchMethod(r *call.Record) bool {
	glob := strings.ToLower(f.Method)
	method, service := strings.ToLower(r.Method), strings.ToLower(r.Service)
	short := service[strings.LastIndexByte(service, '.')+1:]
	for _, name := range []string{method, service + "/" + method, short + "/" + method} {
		if ok, _ := path.Match(glob, name); ok {
			return true
		}
	}
	return false
}

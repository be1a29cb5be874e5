package csidriver

import (
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The keys of a volume's context that have its mounts fail so many times before one
// works: as they do whose directory is not there yet.
const (
	keyFailStage   = "failStage"
	keyFailPublish = "failPublish"
)

// fault makes a source one that cannot be mounted, as often as the volume's context
// says under key.
func (d *Driver) fault(s source, id, key string, context map[string]string) (source, error) {
	if context[key] == "" {
		return s, nil
	}
	times, err := strconv.Atoi(context[key])
	if err != nil {
		return s, status.Errorf(codes.InvalidArgument, "%s is no number: %q", key, context[key])
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.faults[key+id] < times {
		d.faults[key+id]++
		s.from += ".not-there-yet"
	}
	return s, nil
}

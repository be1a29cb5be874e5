package schema

import (
	"errors"
	"fmt"
	"os"
)

// maxDescriptorSet is more than the APIs of everything that runs on a node, in
// bytes: what is larger is some other file.
const maxDescriptorSet = 64 << 20

// howToMake ends every error about a descriptor set.
const howToMake = "make one with protoc --include_imports --descriptor_set_out=FILE, or buf build -o FILE"

// WithDescriptorSet reads a file of descriptors (a FileDescriptorSet), which
// names the fields of services that we don't know. No table lists them, so that
// under Safe none of their values shows.
func WithDescriptorSet(path string) (*APIs, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxDescriptorSet {
		err = fmt.Errorf("%d bytes are too many", info.Size())
	}
	if err != nil {
		return nil, fmt.Errorf("descriptor set %s: %w", path, plainError(err))
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("descriptor set %s: %w", path, plainError(err))
	}
	files, err := readSet(raw)
	if err != nil {
		return nil, fmt.Errorf("descriptor set %s: %w; %s", path, err, howToMake)
	}
	a := &APIs{added: map[string]*compiled{}}
	c := compile(files, api{})
	for _, m := range c.order {
		a.added[m.Service] = c
	}
	if len(a.added) == 0 {
		return nil, fmt.Errorf("descriptor set %s: no service is in it; %s", path, howToMake)
	}
	return a, nil
}

// plainError is an error without the path, which is told already.
func plainError(err error) error {
	if at, ok := errors.AsType[*os.PathError](err); ok {
		return at.Err
	}
	return err
}

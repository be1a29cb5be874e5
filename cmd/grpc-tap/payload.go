package main

import (
	"fmt"
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
	"github.com/grpc-tap/grpc-tap/internal/tap"
)

// payloadFlags say how much is told of what passes, on every way out alike.
type payloadFlags struct {
	level       string
	bytes       int
	messages    string
	descriptors string // a file

	policy schema.Policy
	apis   *schema.APIs
}

// What --payload-bytes may be: room for a few names, and what an attribute of a
// span may reasonably hold.
const (
	leastPayload = 64
	mostPayload  = 1 << 20
)

func (p *payloadFlags) add(f *pflag.FlagSet) {
	f.StringVar(&p.level, "payload", "safe", "what to tell of requests and responses: none, safe (known harmless fields; all else\nby name, type and length) or full (all but what the APIs mark as secret)")
	f.IntVar(&p.bytes, "payload-bytes", 2048, "tell at most so many `BYTES` of a request or a response")
	f.StringVar(&p.messages, "messages", "scrubbed", "what to tell of free text, such as an error's: scrubbed (without credentials) or none")
	f.StringVar(&p.descriptors, "descriptor-set", "", "name the fields of other services by this `FILE` (protoc --include_imports --descriptor_set_out)")
}

func (p *payloadFlags) check() (err error) {
	if p.policy.Payload, err = schema.ParseLevel(p.level); err != nil {
		return fmt.Errorf("--payload %s: there is no such level; give one of none, safe, full", p.level)
	}
	switch p.messages {
	case "scrubbed":
	case "none":
		p.policy.NoMessages = true
	default:
		return fmt.Errorf("--messages %s: give one of scrubbed, none", p.messages)
	}
	if p.bytes < leastPayload || p.bytes > mostPayload {
		return fmt.Errorf("--payload-bytes %d: give %d to %d; for no payloads at all, --payload none", p.bytes, leastPayload, mostPayload)
	}
	return nil
}

// open reads the descriptor set, if there is one.
func (p *payloadFlags) open(log *slog.Logger) (err error) {
	if p.policy.Payload == schema.Full {
		log.Warn("payloads are told in full: what is printed and exported may hold secrets, such as environment variables and commands")
	}
	if p.descriptors != "" {
		p.apis, err = schema.WithDescriptorSet(p.descriptors)
	}
	return err
}

// tell adds to a tap's configuration what may be told.
func (p *payloadFlags) tell(c tap.Config) tap.Config {
	c.PayloadBytes, c.Policy, c.APIs = p.bytes, p.policy, p.apis
	return c
}

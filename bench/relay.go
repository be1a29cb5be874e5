package main

import (
	"context"
	"io"
	"net"
)

// leastRelay is the least that a Go relay can be: accept, dial, and two copies with the 32 KiB buffer that grpc-go flushes at
// once. It says nothing, and keeps nothing.
func leastRelay(ctx context.Context, listen, upstream string) error {
	lis, err := net.Listen("unix", listen)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = lis.Close() })
	for {
		client, err := lis.Accept()
		if err != nil {
			return nil
		}
		go func() {
			defer client.Close()
			server, err := net.Dial("unix", upstream)
			if err != nil {
				return
			}
			defer server.Close()
			go pass(server, client)
			pass(client, server)
		}()
	}
}

// pass copies until either side is over. The structs hide ReadFrom and WriteTo, which would bring a buffer of their own.
func pass(from, to net.Conn) {
	_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 32<<10))
	_ = to.Close()
}

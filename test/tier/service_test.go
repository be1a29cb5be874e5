package tier

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// Service is a ClusterIP as kube-proxy makes one: each connection goes to one of the
// endpoints, by chance, and stays there.
type Service struct {
	Address string

	mu        sync.Mutex
	endpoints []string
	open      map[string]int // endpoint → connections
}

// NewService listens; it ends with the test.
func NewService(t testing.TB) *Service {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &Service{Address: l.Addr().String(), open: map[string]int{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.carry(c)
		}
	}()
	return s
}

// Leads says where new connections go.
func (s *Service) Leads(to ...*Collector) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints = nil
	for _, c := range to {
		s.endpoints = append(s.endpoints, c.Address)
	}
}

// Open are the connections to each collector.
func (s *Service) Open(of ...*Collector) (n []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range of {
		n = append(n, s.open[c.Address])
	}
	return n
}

func (s *Service) carry(client net.Conn) {
	defer client.Close()
	s.mu.Lock()
	endpoint := s.endpoints[rand.IntN(len(s.endpoints))]
	s.open[endpoint]++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.open[endpoint]--
		s.mu.Unlock()
	}()
	server, err := net.Dial("tcp", endpoint)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, server)
}

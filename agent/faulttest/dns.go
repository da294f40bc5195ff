package faulttest

import (
	"net"
	"slices"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver/apiservertest"
)

// NameServer is the agent's name server: the API server's names are 127.0.0.1, and there are
// no others.
type NameServer struct {
	t       *testing.T
	network *network

	mu   sync.Mutex
	conn net.PacketConn
}

// Set makes the server answer, or be away.
func (s *NameServer) Set(up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	if !up {
		return
	}
	var err error
	s.network.do(func() { s.conn, err = (&net.ListenConfig{}).ListenPacket(s.t.Context(), "udp", "127.0.0.1:53") })
	if err != nil {
		s.t.Errorf("listen inside: %v", err)
		return
	}
	go serveNames(s.conn)
}

func serveNames(conn net.PacketConn) {
	packet := make([]byte, 1500)
	for {
		count, from, err := conn.ReadFrom(packet)
		if err != nil {
			return
		}
		var query dnsmessage.Message
		if query.Unpack(packet[:count]) != nil || len(query.Questions) != 1 {
			continue
		}
		question := query.Questions[0]
		answer := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: query.ID, Response: true, RecursionAvailable: true, RecursionDesired: true},
			Questions: query.Questions,
		}
		switch {
		case !slices.Contains([]string{apiservertest.Host + ".", apiservertest.AmazonHost + "."}, question.Name.String()):
			answer.RCode = dnsmessage.RCodeNameError
		case question.Type == dnsmessage.TypeA:
			answer.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 1},
				Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			}}
		}
		if packed, err := answer.Pack(); err == nil {
			_, _ = conn.WriteTo(packed, from)
		}
	}
}

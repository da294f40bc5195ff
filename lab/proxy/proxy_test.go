package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"
)

type names map[string]string

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if a, ok := n[host]; ok {
		return []netip.Addr{netip.MustParseAddr(a)}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// serve is a proxy that leads to 127.0.5.0/24 only.
func serve(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(Proxy{
		Allowed:  netip.MustParsePrefix("127.0.5.0/24").Contains,
		Resolver: names{"inside.lab": "127.0.5.1", "outside.lab": "127.0.0.1"},
		Logger:   zaptest.NewLogger(t),
	})
	t.Cleanup(s.Close)
	return s
}

func TestAnHTTPSClientReachesTheLabByName(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.5.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inside := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, "got "+string(body))
	}))
	inside.Listener = listener
	inside.StartTLS()
	t.Cleanup(inside.Close)
	proxy, _ := url.Parse(serve(t).URL)
	transport := inside.Client().Transport.(*http.Transport).Clone()
	transport.Proxy = http.ProxyURL(proxy)
	transport.TLSClientConfig.ServerName = "example.com" // httptest's certificate
	client := &http.Client{Transport: transport}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	response, err := client.Post("https://inside.lab:"+port, "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); string(body) != "got hello" {
		t.Errorf("got %q", body)
	}
}

func TestTheEndOfOneDirectionLeavesTheOtherOpen(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.5.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		all, _ := io.ReadAll(conn) // until the client has said all
		_, _ = conn.Write([]byte("you said " + string(all)))
	}()
	proxy := serve(t)
	conn, err := net.Dial("tcp", proxy.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The first words travel with the request, before the proxy has answered.
	if _, err := io.WriteString(conn, "CONNECT "+listener.Addr().String()+" HTTP/1.1\r\nHost: x\r\n\r\nearly "); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", response, err)
	}
	defer response.Body.Close()
	if _, err := io.WriteString(conn, "late"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(reader); string(answer) != "you said early late" {
		t.Errorf("got %q, %v", answer, err)
	}
}

func TestNothingElseIsReached(t *testing.T) {
	proxy := serve(t)
	for _, c := range []struct {
		name, request string
		status        int
	}{
		{"a loopback service", "CONNECT 127.0.0.1:2379 HTTP/1.1\r\nHost: x\r\n\r\n", 403},
		{"a name for one", "CONNECT outside.lab:443 HTTP/1.1\r\nHost: x\r\n\r\n", 403},
		{"the metadata service", "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n", 403},
		{"a mapped address", "CONNECT [::ffff:127.0.0.1]:80 HTTP/1.1\r\nHost: x\r\n\r\n", 403},
		{"a name of the world", "CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n", 502},
		{"a closed port", "CONNECT 127.0.5.9:1 HTTP/1.1\r\nHost: x\r\n\r\n", 502},
		{"no port", "CONNECT inside.lab HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"plain HTTP", "GET http://inside.lab/ HTTP/1.1\r\nHost: inside.lab\r\n\r\n", 405},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", proxy.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, c.request); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if body, _ := io.ReadAll(response.Body); response.StatusCode != c.status {
				t.Errorf("%s: %s", response.Status, body)
			}
		})
	}
}

package operator

import (
	"net/url"
	"testing"
)

func TestTheProxyIsTheGivenOneOrTheEnvironments(t *testing.T) {
	inEnvironment := func(*url.URL) (*url.URL, error) { return url.Parse("http://127.0.0.1:8080") }
	none := func(*url.URL) (*url.URL, error) { return nil, nil }
	tests := []struct {
		given       string
		environment func(*url.URL) (*url.URL, error)
		want        string
		wrong       bool
	}{
		{"", none, "", false},
		{"", inEnvironment, "http://127.0.0.1:8080", false},
		{"socks5://127.0.0.1:1080", inEnvironment, "socks5://127.0.0.1:1080", false},
		{"127.0.0.1:1080", inEnvironment, "", true},
		{"ftp://proxy", inEnvironment, "", true},
	}
	for _, tt := range tests {
		got, err := proxyFor("https://10.0.0.10:6443", tt.given, tt.environment)
		if got != tt.want || (err != nil) != tt.wrong {
			t.Errorf("%q: got %q, %v", tt.given, got, err)
		}
	}
}

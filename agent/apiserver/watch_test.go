package apiserver

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAWatchThatEndsSaysWhy(t *testing.T) {
	const node = `{"type":"ADDED","object":{"kind":"Node","metadata":{"name":"a"}}}` + "\n"
	for name, test := range map[string]struct {
		answer string
		want   error  // nil: any
		says   string // of the error
	}{
		"at its end":         {node, errWatchEnded, ""},
		"amid an event":      {node + node[:20], errWatchEnded, ""},
		"with the Node":      {node + strings.Replace(node, "ADDED", "DELETED", 1), errDeleted, ""},
		"by an error":        {`{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}`, nil, "watch Node a: too old"},
		"by a lost right":    {`{"type":"ERROR","object":{"kind":"Status","code":401,"message":"Unauthorized"}}`, ErrUnauthorized, ""},
		"by what is no JSON": {"<html>", nil, "read the watch: invalid character"},
		"by another object":  {`{"type":"ADDED","object":[]}`, nil, "read the watch: json: cannot unmarshal"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got := r.URL.RequestURI(); got != "/api/v1/nodes?fieldSelector=metadata.name%3Da&watch=true" {
					t.Errorf("asked for %s", got)
				}
				_, _ = io.WriteString(w, test.answer)
			}))
			defer server.Close()
			client, err := New(Config{
				Endpoint: server.URL, CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
				Token: func(context.Context) (string, error) { return "x", nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.AwaitNode(t.Context(), "a", func(*Node) (bool, error) { return false, nil })
			if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

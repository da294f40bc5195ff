package apiserver

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestARefusalIsToldInTheWordsOfWhoeverAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		method string
		code   int
		body   string
		want   StatusError
	}{
		"the API server": {http.MethodGet, 403, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"nodes \"b\" is forbidden","reason":"Forbidden","code":403}`,
			StatusError{Code: 403, Reason: "Forbidden", Message: `nodes "b" is forbidden`}},
		"the API server, without a word": {http.MethodGet, 500, `{"kind":"Status"}`, StatusError{Code: 500, Message: "unknown"}},
		"readyz":                         {http.MethodGet, 500, "[+]ping ok\n[-]etcd failed\n", StatusError{Code: 500, Message: `the server answered 500 Internal Server Error: "[+]ping ok [-]etcd failed"`}},
		"a load balancer":                {http.MethodGet, 503, "", StatusError{Code: 503, Message: "the server answered 503 Service Unavailable"}},
		"another object":                 {http.MethodGet, 502, `{"kind":"Node"}`, StatusError{Code: 502, Message: `the server answered 502 Bad Gateway: "{\"kind\":\"Node\"}"`}},
		"a conflict of names":            {http.MethodPost, 409, "", StatusError{Code: 409, Reason: alreadyExists, Message: "the server answered 409 Conflict"}},
		"a conflict of changes":          {http.MethodPatch, 409, "", StatusError{Code: 409, Reason: conflict, Message: "the server answered 409 Conflict"}},
		"too long":                       {http.MethodGet, 500, strings.Repeat("x", 1<<20), StatusError{Code: 500, Message: `the server answered 500 Internal Server Error: "` + strings.Repeat("x", longestAnswer) + `"`}},
	} {
		got := refused(&http.Request{Method: test.method}, &http.Response{StatusCode: test.code, Status: fmt.Sprint(test.code, " ", http.StatusText(test.code))}, []byte(test.body))
		if got.Code != test.want.Code || got.Reason != test.want.Reason || got.Message != test.want.Message {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestOnlyAnAnswerThatSaysSoIsUnauthorized(t *testing.T) {
	if err := explain(&StatusError{Code: 401, Message: "Unauthorized"}); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
	if err := explain(&StatusError{Code: 403}); errors.Is(err, ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
}

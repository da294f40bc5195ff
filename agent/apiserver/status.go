package apiserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// StatusError is an answer of the API server that is no success.
type StatusError struct {
	Code    int    // of HTTP
	Reason  string // as "AlreadyExists"; empty: it gave none
	Message string

	causes []string
}

func (e *StatusError) Error() string { return e.Message }

// The reasons that the agent decides on, of those that share a code.
const (
	alreadyExists = "AlreadyExists"
	conflict      = "Conflict"
)

// status is a Status (meta/v1).
type status struct {
	Kind    string `json:"kind"`
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Details struct {
		Causes []struct {
			Message string `json:"message"`
		} `json:"causes"`
	} `json:"details"`
}

func (s status) err() *StatusError {
	e := &StatusError{Code: s.Code, Reason: s.Reason, Message: s.Message}
	if e.Message == "" {
		e.Message = "unknown"
	}
	for _, cause := range s.Details.Causes {
		e.causes = append(e.causes, cause.Message)
	}
	return e
}

// longestAnswer bounds what is told of an answer that is not of the API server's making.
const longestAnswer = 2048

// refused makes an error of an answer: the API server's own Status, or what else stands between.
func refused(request *http.Request, response *http.Response, body []byte) *StatusError {
	var said status
	if err := json.Unmarshal(body, &said); err == nil && said.Kind == "Status" {
		said.Code = response.StatusCode
		return said.err()
	}
	text := strings.Join(strings.Fields(string(body[:min(len(body), longestAnswer)])), " ")
	e := &StatusError{Code: response.StatusCode, Message: "the server answered " + response.Status}
	if text != "" {
		e.Message += fmt.Sprintf(": %q", text)
	}
	if e.Code == http.StatusConflict {
		e.Reason = conflict
		if request.Method == http.MethodPost {
			e.Reason = alreadyExists
		}
	}
	return e
}

// refusal returns the answer that err is of, nil when it is of none.
func refusal(err error) *StatusError {
	var status *StatusError
	if errors.As(err, &status) {
		return status
	}
	return nil
}

// ErrUnauthorized means that the API server does not take the caller for who it says it is.
var ErrUnauthorized = errors.New("the API server does not accept who is calling")

// explain marks what a caller decides on and drops a URL that says nothing new.
func explain(err error) error {
	if status := refusal(err); status != nil && status.Code == http.StatusUnauthorized {
		return fmt.Errorf("%w: %w", ErrUnauthorized, err)
	}
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	return err
}

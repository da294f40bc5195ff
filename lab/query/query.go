// Package query is the lab's AWS endpoint: one HTTPS address where several services of
// the query protocol answer at "/", as a custom endpoint URL makes clients call them. It
// verifies every request's signature before a service sees it; what a service gets was
// signed by the caller that it is told of.
package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
)

// Call is a verified request.
type Call struct {
	ID     string // of the request
	Action string
	Params url.Values // Action and Version included; each name has one value
	Caller sigv4.Credential
}

// Error is an answer that says no.
type Error struct {
	Status  int
	Code    string
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Service is one AWS service.
type Service interface {
	// Name is the service's name in a signature's credential scope.
	Name() string
	// Knows tells whether the action is the service's, for requests that do not say whom
	// they are for.
	Knows(action string) bool
	// Do carries the call out. The response is for Write.
	Do(ctx context.Context, call Call) (response any, err error)
	// Write sends a response, or an error, in the service's own wire format. An err that
	// is neither *Error nor *sigv4.Error is the service's own fault and stays untold.
	Write(w http.ResponseWriter, r *http.Request, id string, response any, err error)
}

// Endpoint routes requests to services. The first service also answers what is nobody's.
type Endpoint struct {
	Services []Service
	Keys     sigv4.Keys
	Region   string
	Now      func() time.Time
	Logger   *zap.Logger
}

// ServeHTTP implements http.Handler.
func (e Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := uuid.NewString()
	w.Header().Set("X-Amzn-Requestid", id)
	service, call, err := e.accept(r, id)
	if err != nil {
		e.log(call, err)
		service.Write(w, r, id, nil, err)
		return
	}
	response, err := service.Do(r.Context(), call)
	e.log(call, err)
	service.Write(w, r, id, response, err)
}

// accept finds the service and verifies the request. It always returns a service, which
// formats the refusal.
func (e Endpoint) accept(r *http.Request, id string) (Service, Call, error) {
	call := Call{ID: id}
	scope, scoped := scopeService(r)
	index := slices.IndexFunc(e.Services, func(s Service) bool { return s.Name() == scope })
	if scoped && index < 0 {
		return e.Services[0], call, &Error{http.StatusNotFound, "InvalidAction", fmt.Sprintf("The lab does not answer for the service %q.", scope)}
	}
	if !scoped {
		// Not signed, so it goes no further; it only says who is to refuse it.
		action := r.URL.Query().Get("Action")
		index = max(0, slices.IndexFunc(e.Services, func(s Service) bool { return s.Knows(action) }))
	}
	service := e.Services[index]
	verifier := sigv4.Verifier{Keys: e.Keys, Region: e.Region, Service: service.Name(), Now: e.Now}
	caller, err := verifier.Verify(r)
	if err != nil {
		return service, call, err
	}
	call.Caller = caller
	if call.Params, err = parameters(r); err != nil {
		return service, call, err
	}
	call.Action = call.Params.Get("Action")
	if call.Action == "" {
		return service, call, &Error{http.StatusBadRequest, "MissingAction", "The request is missing an action or a required parameter."}
	}
	return service, call, nil
}

// parameters are the query's and the form's, each given once.
func parameters(r *http.Request) (url.Values, error) {
	if r.URL.Path != "/" {
		return nil, &Error{http.StatusNotFound, "InvalidAction", "There is nothing at " + r.URL.Path + "."}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return nil, &Error{http.StatusMethodNotAllowed, "UnsupportedProtocol", "The method is neither GET nor POST."}
	}
	if err := r.ParseForm(); err != nil {
		return nil, &Error{http.StatusBadRequest, "MalformedQueryString", "The query string contains a syntax error."}
	}
	for name, values := range r.Form {
		if len(values) > 1 {
			return nil, &Error{http.StatusBadRequest, "InvalidQueryParameter", fmt.Sprintf("The parameter %s is given more than once.", name)}
		}
	}
	return r.Form, nil
}

// scopeService is the service that the signature was made for, before it is believed.
func scopeService(r *http.Request) (string, bool) {
	credential := r.URL.Query().Get("X-Amz-Credential")
	if credential == "" {
		_, rest, ok := strings.Cut(r.Header.Get("Authorization"), "Credential=")
		if !ok {
			return "", false
		}
		credential, _, _ = strings.Cut(rest, ",")
	}
	parts := strings.Split(credential, "/")
	if len(parts) != 5 {
		return "", false
	}
	return parts[3], true
}

func (e Endpoint) log(call Call, err error) {
	fields := []zap.Field{zap.String("request", call.ID), zap.String("action", call.Action), zap.String("caller", call.Caller.ARN)}
	var told *Error
	var refused *sigv4.Error
	switch {
	case err == nil:
		e.Logger.Debug("answered", fields...)
	case errors.As(err, &told) || errors.As(err, &refused):
		e.Logger.Info("refused", append(fields, zap.Error(err))...)
	default:
		e.Logger.Error("failed", append(fields, zap.Error(err))...)
	}
}

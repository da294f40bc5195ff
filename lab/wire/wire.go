// Package wire is the lab's AWS endpoint: one HTTPS address where several services answer,
// as a custom endpoint URL makes clients call them. The scope of a request's signature
// decides which service it is for, and in which region. Every signature is verified before
// a service sees the request; what a service gets was signed by the caller that it is told
// of.
package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/lab/fault"
)

// Call is a verified request.
type Call struct {
	ID     string // of the request
	Region string
	Action string
	Params url.Values // of the query protocol, Action and Version included: each name has one value
	Caller sigv4.Credential

	// What follows is set for a Protocol's calls. Body is gone when Do returns; a Streamer has
	// the request's instead.
	Request *http.Request
	Body    []byte
	Sum     [32]byte // SHA-256 of Body
}

// ByRole tells whether the caller is the role of an instance.
func (c Call) ByRole() bool { return strings.Contains(c.Caller.ARN, ":assumed-role/") }

// Error is an answer that says no.
type Error struct {
	Status  int
	Code    string
	Message string
	Reason  string // of services that give one
}

func (e *Error) Error() string {
	if e.Reason != "" {
		return e.Code + ": " + e.Reason + ": " + e.Message
	}
	return e.Code + ": " + e.Message
}

// What a service is given to say in its own words when a fault befalls a call.
var (
	ErrThrottled = errors.New("throttled on demand")
	ErrDenied    = errors.New("denied on demand")
	ErrExhausted = errors.New("quota used up on demand")
	errFailed    = errors.New("failed on demand")
	errLost      = errors.New("answer lost on demand")
)

// Service is one AWS service. It speaks the query protocol unless it is a Protocol too.
type Service interface {
	// Name is the service's name in a signature's credential scope.
	Name() string
	// Knows tells whether the action is the service's, for requests that do not say whom
	// they are for.
	Knows(action string) bool
	// Do carries the call out. The response is for Write; one that is an io.Closer is closed
	// when it gets lost on the way.
	Do(ctx context.Context, call Call) (response any, err error)
	// Write sends a response, or an error, in the service's own wire format. An err that
	// is neither *Error nor *sigv4.Error nor one of this package is the service's own
	// fault and stays untold.
	Write(w http.ResponseWriter, r *http.Request, id string, response any, err error)
}

// Protocol is a Service whose requests name their action elsewhere than in a parameter.
type Protocol interface {
	Service
	// Action is what a request asks for, by its first line and headers; empty when the
	// service knows nothing like it.
	Action(r *http.Request) string
	// UnsignedBody tells whether the action's body need not be signed.
	UnsignedBody(action string) bool
}

// Streamer is a Protocol that reads the bodies of its requests itself, as far as it wants to.
type Streamer interface {
	Protocol
	// Payload is what a request's signature has in the place of the body's hash, from its
	// headers, which say the same. It is asked before the signature is verified. Do has to hold
	// the body to it.
	Payload(r *http.Request) (string, error)
}

// Endpoint routes requests to services. The first service also answers what is nobody's.
type Endpoint struct {
	Services []Service
	Keys     sigv4.Keys
	Regions  []string // that a signature may be scoped to
	Now      func() time.Time
	Logger   *zap.Logger
	Faults   *fault.Set // nil: none
	Seen     func(Call) // told of each verified call, if set
}

// ServeHTTP implements http.Handler.
func (e Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := uuid.NewString()
	w.Header().Set("X-Amzn-Requestid", id)
	service, call, err := e.accept(r, id)
	var response any
	if err == nil {
		if e.Seen != nil {
			e.Seen(call)
		}
		response, err = e.carryOut(r.Context(), service, call)
	}
	release(call.Body)
	e.log(call, err)
	if errors.Is(err, errLost) {
		reset(w)
		return
	}
	service.Write(w, r, id, response, err)
}

// carryOut does what the call asks for, as far as the faults let it.
func (e Endpoint) carryOut(ctx context.Context, service Service, call Call) (any, error) {
	lost := false
	var faults []fault.Fault
	if call.Action != "" {
		faults = e.Faults.Strike(call.Action)
	}
	for _, f := range faults {
		switch f.Effect {
		case fault.Throttle:
			return nil, ErrThrottled
		case fault.Deny:
			return nil, ErrDenied
		case fault.Exhaust:
			return nil, ErrExhausted
		case fault.Fail:
			return nil, errFailed
		case fault.Lose:
			lost = true
		case fault.Delay:
			select {
			case <-time.After(f.Wait):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	response, err := service.Do(ctx, call)
	if lost {
		if c, ok := response.(io.Closer); ok {
			_ = c.Close()
		}
		return nil, errLost
	}
	return response, err
}

// reset ends the connection as a crash of the service would.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // ends it too, if more politely
	}
	raw := conn
	if under, ok := conn.(interface{ NetConn() net.Conn }); ok {
		raw = under.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = raw.Close()
}

// accept finds the service and verifies the request. It always returns a service, which
// formats the refusal.
func (e Endpoint) accept(r *http.Request, id string) (Service, Call, error) {
	call := Call{ID: id}
	service, region, err := e.route(r)
	if err != nil {
		return service, call, err
	}
	call.Region = region
	verifier := sigv4.Verifier{Keys: e.Keys, Region: region, Service: service.Name(), Now: e.Now}
	if protocol, ok := service.(Protocol); ok {
		err = call.read(r, protocol, verifier)
		return service, call, err
	}
	if call.Caller, err = verifier.Verify(r); err != nil {
		return service, call, err
	}
	if call.Params, err = parameters(r); err != nil {
		return service, call, err
	}
	call.Action = call.Params.Get("Action")
	if call.Action == "" {
		return service, call, &Error{Status: http.StatusBadRequest, Code: "MissingAction", Message: "The request is missing an action or a required parameter."}
	}
	return service, call, nil
}

// route finds the service and the region that the signature is scoped to, before any of it
// is believed. A region that the lab does not have is for the verifier to refuse.
func (e Endpoint) route(r *http.Request) (Service, string, error) {
	region, name, scoped := scope(r)
	if !scoped {
		// Not signed, so it goes no further; it only says who is to refuse it.
		return e.Services[max(0, slices.IndexFunc(e.Services, func(s Service) bool {
			if p, ok := s.(Protocol); ok {
				return p.Action(r) != ""
			}
			return s.Knows(r.URL.Query().Get("Action"))
		}))], e.Regions[0], nil
	}
	index := slices.IndexFunc(e.Services, func(s Service) bool { return s.Name() == name })
	if index < 0 {
		return e.Services[0], "", &Error{Status: http.StatusNotFound, Code: "InvalidAction", Message: fmt.Sprintf("The lab does not answer for the service %q.", name)}
	}
	if !slices.Contains(e.Regions, region) {
		region = e.Regions[0]
	}
	return e.Services[index], region, nil
}

// parameters are the query's and the form's, each given once.
func parameters(r *http.Request) (url.Values, error) {
	if r.URL.Path != "/" {
		return nil, &Error{Status: http.StatusNotFound, Code: "InvalidAction", Message: "There is nothing at " + r.URL.Path + "."}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return nil, &Error{Status: http.StatusMethodNotAllowed, Code: "UnsupportedProtocol", Message: "The method is neither GET nor POST."}
	}
	if err := r.ParseForm(); err != nil {
		return nil, &Error{Status: http.StatusBadRequest, Code: "MalformedQueryString", Message: "The query string contains a syntax error."}
	}
	for name, values := range r.Form {
		if len(values) > 1 {
			return nil, &Error{Status: http.StatusBadRequest, Code: "InvalidQueryParameter", Message: fmt.Sprintf("The parameter %s is given more than once.", name)}
		}
	}
	return r.Form, nil
}

// scope is the region and service that the signature was made for.
func scope(r *http.Request) (region, service string, ok bool) {
	credential := r.URL.Query().Get("X-Amz-Credential")
	if credential == "" {
		_, rest, ok := strings.Cut(r.Header.Get("Authorization"), "Credential=")
		if !ok {
			return "", "", false
		}
		credential, _, _ = strings.Cut(rest, ",")
	}
	parts := strings.Split(credential, "/")
	if len(parts) != 5 {
		return "", "", false
	}
	return parts[2], parts[3], true
}

func (e Endpoint) log(call Call, err error) {
	fields := []zap.Field{
		zap.String("request", call.ID), zap.String("region", call.Region), zap.String("action", call.Action), zap.String("caller", call.Caller.ARN),
	}
	var told *Error
	var refused *sigv4.Error
	onDemand := slices.ContainsFunc([]error{ErrThrottled, ErrDenied, ErrExhausted, errFailed, errLost}, func(e error) bool { return errors.Is(err, e) })
	switch {
	case err == nil:
		e.Logger.Debug("answered", fields...)
	case errors.As(err, &told) || errors.As(err, &refused) || onDemand:
		e.Logger.Info("refused", append(fields, zap.Error(err))...)
	default:
		e.Logger.Error("failed", append(fields, zap.Error(err))...)
	}
}

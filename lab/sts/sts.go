// Package sts answers GetCallerIdentity on the wire as AWS STS does: who signed this
// request. It is what makes a presigned URL worth something, so it says nothing that the
// signature did not prove.
package sts

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"net/http"
	"strings"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/lab/identity"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// Service is STS. It implements wire.Service.
type Service struct{ Plan vpc.Plan }

// Name implements wire.Service.
func (Service) Name() string { return "sts" }

// Knows implements wire.Service.
func (Service) Knows(action string) bool { return action == "GetCallerIdentity" }

type callerIdentity struct {
	Account string `xml:"Account"`
	ARN     string `xml:"Arn" json:"Arn"`
	UserID  string `xml:"UserId" json:"UserId"`
}

type metadata struct {
	RequestID string `xml:"RequestId" json:"RequestId"`
}

type response struct {
	XMLName  xml.Name       `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse" json:"-"`
	Result   callerIdentity `xml:"GetCallerIdentityResult" json:"GetCallerIdentityResult"`
	Metadata metadata       `xml:"ResponseMetadata" json:"ResponseMetadata"`
}

type failure struct {
	XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse" json:"-"`
	Error     fault    `xml:"Error" json:"Error"`
	RequestID string   `xml:"RequestId" json:"RequestId"`
}

type fault struct {
	Type    string `xml:"Type"`
	Code    string `xml:"Code"`
	Message string `xml:"Message"`
}

// Do implements wire.Service.
func (s Service) Do(_ context.Context, call wire.Call) (any, error) {
	if !s.Knows(call.Action) {
		return nil, &wire.Error{Status: http.StatusBadRequest, Code: "InvalidAction",
			Message: "Could not find operation " + call.Action + " for version 2011-06-15"}
	}
	return response{
		Result:   callerIdentity{Account: s.Plan.Account, ARN: call.Caller.ARN, UserID: s.userID(call.Caller.ARN)},
		Metadata: metadata{RequestID: call.ID},
	}, nil
}

// userID is the unique ID of the principal; a session's is its role's and its own name.
func (s Service) userID(arn string) string {
	_, session, ok := strings.Cut(arn, ":assumed-role/")
	if !ok {
		return identity.UniqueID("AIDA", arn)
	}
	role, name, _ := strings.Cut(session, "/")
	return identity.UniqueID("AROA", s.Plan.IAM("role/"+role)) + ":" + name
}

// Write implements wire.Service: XML, or JSON for a caller that asks for it.
func (s Service) Write(w http.ResponseWriter, r *http.Request, id string, value any, err error) {
	status := http.StatusOK
	if err != nil {
		var f fault
		f, status = explain(err)
		value = failure{Error: f, RequestID: id}
	}
	var body []byte
	contentType := "text/xml"
	if wantsJSON(r) {
		contentType = "application/json"
		if ok, isResponse := value.(response); isResponse {
			value = map[string]any{"GetCallerIdentityResponse": ok}
		}
		body, err = json.Marshal(value)
	} else {
		body, err = xml.Marshal(value)
	}
	if err != nil {
		http.Error(w, "cannot encode the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func wantsJSON(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		kind, _, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(kind), "application/json") {
			return true
		}
	}
	return false
}

// explain turns an error into what STS would send.
func explain(err error) (fault, int) {
	var refused *sigv4.Error
	if errors.As(err, &refused) {
		switch refused.Code {
		case sigv4.CodeIncomplete:
			return fault{"Sender", refused.Code, refused.Message}, http.StatusBadRequest
		case sigv4.CodeExpired:
			// STS has no code of its own for a signature that is too old.
			return fault{"Sender", sigv4.CodeMismatch, refused.Message}, http.StatusForbidden
		case sigv4.CodeTooLarge:
			return fault{"Sender", refused.Code, refused.Message}, http.StatusRequestEntityTooLarge
		}
		return fault{"Sender", refused.Code, refused.Message}, http.StatusForbidden
	}
	var told *wire.Error
	switch {
	case errors.As(err, &told):
		return fault{"Sender", told.Code, told.Message}, told.Status
	case errors.Is(err, wire.ErrThrottled), errors.Is(err, wire.ErrExhausted):
		return fault{"Sender", "Throttling", "Rate exceeded"}, http.StatusBadRequest
	case errors.Is(err, wire.ErrDenied):
		return fault{"Sender", "AccessDenied", "Access denied"}, http.StatusForbidden
	}
	return fault{"Receiver", "InternalFailure", "The request processing has failed because of an unknown error."}, http.StatusInternalServerError
}

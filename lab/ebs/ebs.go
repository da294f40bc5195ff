// Package ebs answers the EBS direct APIs on the wire: snapshots written and read block by
// block, with no volume and no instance. It refuses what they refuse, with the same
// exception and reason.
package ebs

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// Service is the EBS direct APIs. It implements wire.Protocol.
type Service struct {
	Plan    vpc.Plan
	Catalog *catalog.Catalog
}

// Name implements wire.Service.
func (Service) Name() string { return "ebs" }

// Knows implements wire.Service.
func (Service) Knows(string) bool { return false }

// path is what a request's path names. Unset parts are empty.
type path struct{ snapshot, block string }

// route finds the action of a method and path (API reference, 2019-11-02).
func route(method, url string) (action string, p path) {
	parts := strings.Split(strings.Trim(url, "/"), "/")
	if parts[0] != "snapshots" {
		return "", p
	}
	if len(parts) > 1 {
		p.snapshot = parts[1]
	}
	switch {
	case method == http.MethodPost && len(parts) == 1:
		return "StartSnapshot", p
	case method == http.MethodPost && len(parts) == 3 && parts[1] == "completion":
		return "CompleteSnapshot", path{snapshot: parts[2]}
	case method == http.MethodGet && len(parts) == 3 && parts[2] == "blocks":
		return "ListSnapshotBlocks", p
	case method == http.MethodGet && len(parts) == 3 && parts[2] == "changedblocks":
		return "ListChangedBlocks", p
	case len(parts) == 4 && parts[2] == "blocks":
		p.block = parts[3]
		switch method {
		case http.MethodPut:
			return "PutSnapshotBlock", p
		case http.MethodGet:
			return "GetSnapshotBlock", p
		}
	}
	return "", p
}

// Action implements wire.Protocol.
func (Service) Action(r *http.Request) string {
	action, _ := route(r.Method, r.URL.Path)
	return action
}

// UnsignedBody implements wire.Protocol: a block's checksum is signed, which is as good.
func (Service) UnsignedBody(action string) bool { return action == "PutSnapshotBlock" }

// Block tells which block a call is about, for those who watch calls.
func Block(call wire.Call) (snapshot string, index int, ok bool) {
	if call.Action != "PutSnapshotBlock" && call.Action != "GetSnapshotBlock" {
		return "", 0, false
	}
	_, p := route(call.Request.Method, call.Request.URL.Path)
	index, err := strconv.Atoi(p.block)
	return p.snapshot, index, err == nil
}

// exception is an error as the API names it.
func exception(status int, kind, message, reason string) error {
	return &wire.Error{Status: status, Code: kind, Message: message, Reason: reason}
}

func invalid(reason, message string) error {
	return exception(http.StatusBadRequest, "ValidationException", message, reason)
}

// answer is a response: headers, and a body that is JSON unless it is bytes.
type answer struct {
	status  int
	headers map[string]string
	body    any
}

// Do implements wire.Service.
func (s Service) Do(_ context.Context, call wire.Call) (any, error) {
	if call.Action == "" {
		return nil, exception(http.StatusNotFound, "UnknownOperationException", "There is nothing at "+call.Request.URL.Path+".", "")
	}
	if call.ByRole() {
		return nil, exception(http.StatusForbidden, "AccessDeniedException", "User: "+call.Caller.ARN+
			" is not authorized to perform: ebs:"+call.Action+" because no identity-based policy allows the ebs:"+call.Action+" action", "")
	}
	_, at := route(call.Request.Method, call.Request.URL.Path)
	response, err := s.do(call, at)
	return response, explain(err, at.snapshot)
}

func (s Service) do(call wire.Call, at path) (answer, error) {
	switch call.Action {
	case "StartSnapshot":
		return s.start(call)
	case "PutSnapshotBlock":
		return s.put(call, at)
	case "CompleteSnapshot":
		return s.complete(call, at.snapshot)
	case "ListSnapshotBlocks":
		return s.listBlocks(call, at.snapshot)
	case "ListChangedBlocks":
		return s.listChanged(call, at.snapshot)
	default:
		return s.get(call, at)
	}
}

// explain turns the catalog's errors about a snapshot, or the parent of one that is to be
// started, into exceptions. Others stay as they are.
func explain(err error, id string) error {
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return exception(http.StatusNotFound, "ResourceNotFoundException", "The snapshot '"+id+"' does not exist.", "SNAPSHOT_NOT_FOUND")
	case errors.Is(err, catalog.ErrNotPending):
		return invalid("INVALID_SNAPSHOT_ID", "The snapshot is not in the pending state.")
	case errors.Is(err, catalog.ErrNotReady):
		return invalid("INVALID_SNAPSHOT_ID", "The snapshot is not in the completed state.")
	case errors.Is(err, catalog.ErrBlockIndex):
		return invalid("INVALID_BLOCK", "The block index lies outside the volume.")
	case errors.Is(err, catalog.ErrVolumeSize):
		return invalid("INVALID_VOLUME_SIZE", "The volume size is smaller than that of the parent snapshot.")
	case errors.Is(err, catalog.ErrChecksum):
		return invalid("INVALID_PARAMETER_VALUE", "The aggregated checksum does not match that of the written blocks.")
	case errors.Is(err, catalog.ErrTokenReused):
		return exception(http.StatusConflict, "ConflictException", "The request uses the same client token as a previous, but non-identical request.", "")
	case errors.Is(err, catalog.ErrQuota):
		return exception(http.StatusBadRequest, "ConcurrentLimitExceededException", "The limit of pending snapshots is reached.", "")
	}
	var count *catalog.CountError
	if errors.As(err, &count) {
		return invalid("INVALID_PARAMETER_VALUE", "The changed blocks count is wrong: "+count.Error()+".")
	}
	return err
}

// Write implements wire.Service.
func (Service) Write(w http.ResponseWriter, _ *http.Request, _ string, value any, err error) {
	if err != nil {
		e := refusal(err)
		w.Header().Set("X-Amzn-ErrorType", e.Code)
		send(w, e.Status, refusalBody{e.Message, e.Reason})
		return
	}
	response := value.(answer) //nolint:forcetypeassert // Do's
	for name, text := range response.headers {
		w.Header().Set(name, text)
	}
	if data, ok := response.body.([]byte); ok {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.WriteHeader(response.status)
		_, _ = w.Write(data)
		return
	}
	send(w, response.status, response.body)
}

type refusalBody struct {
	Message string
	Reason  string `json:",omitempty"`
}

func send(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, "cannot encode the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// refusal is what the API sends for an error.
func refusal(err error) *wire.Error {
	var told *wire.Error
	var refused *sigv4.Error
	switch {
	case errors.As(err, &told):
		return told
	case errors.Is(err, wire.ErrThrottled):
		return &wire.Error{
			Status: http.StatusBadRequest, Code: "RequestThrottledException", Reason: "ACCOUNT_THROTTLED",
			Message: "The number of API requests has exceeded the maximum allowed API request throttling limit.",
		}
	case errors.Is(err, wire.ErrExhausted):
		return &wire.Error{
			Status: http.StatusPaymentRequired, Code: "ServiceQuotaExceededException", Reason: "DEPENDENCY_SERVICE_QUOTA_EXCEEDED",
			Message: "Your current service quotas do not allow you to perform this action.",
		}
	case errors.Is(err, wire.ErrDenied):
		return &wire.Error{
			Status: http.StatusForbidden, Code: "AccessDeniedException", Reason: "UNAUTHORIZED_ACCOUNT",
			Message: "You do not have sufficient access to perform this action.",
		}
	case errors.As(err, &refused):
		return &wire.Error{Status: http.StatusForbidden, Code: wire.JSONCode(refused), Message: refused.Message}
	}
	return &wire.Error{Status: http.StatusInternalServerError, Code: "InternalServerException", Message: "An internal error has occurred."}
}

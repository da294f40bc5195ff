package eks

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
)

// apiError is an error as it goes over the wire; kind is the header X-Amzn-Errortype, from
// which SDKs make their error types.
type apiError struct {
	status      int
	kind        string
	Message     string `json:"message"`
	ClusterName string `json:"clusterName,omitempty"`
}

func (e *apiError) Error() string { return e.Message }

func invalidParameter(cluster, format string, args ...any) error {
	return &apiError{http.StatusBadRequest, "InvalidParameterException", fmt.Sprintf(format, args...), cluster}
}

func badRequest(cluster, format string, args ...any) error {
	return &apiError{http.StatusBadRequest, "InvalidRequestException", fmt.Sprintf(format, args...), cluster}
}

func notFound(cluster, format string, args ...any) error {
	return &apiError{http.StatusNotFound, "ResourceNotFoundException", fmt.Sprintf(format, args...), cluster}
}

func inUse(cluster, format string, args ...any) error {
	return &apiError{http.StatusConflict, "ResourceInUseException", fmt.Sprintf(format, args...), cluster}
}

func unavailable(format string, args ...any) error {
	return &apiError{http.StatusServiceUnavailable, "ServiceUnavailableException", fmt.Sprintf(format, args...), ""}
}

func tokenReused(cluster string) error {
	return invalidParameter(cluster, "clientRequestToken was used before, with other parameters")
}

func noCluster(name string) error { return notFound(name, "No cluster found for name: %s.", name) }

// signatureKinds are the names that AWS's JSON services give to what its query services
// call otherwise.
var signatureKinds = map[string]string{
	sigv4.CodeMissingToken: "MissingAuthenticationTokenException",
	sigv4.CodeIncomplete:   "IncompleteSignatureException",
	sigv4.CodeUnknownKey:   "UnrecognizedClientException",
	sigv4.CodeMismatch:     "InvalidSignatureException",
	sigv4.CodeExpired:      "InvalidSignatureException",
	sigv4.CodeExpiredToken: "ExpiredTokenException",
}

// signatureError turns a refusal of the verifier into one of this API; other errors stay.
func signatureError(err error) error {
	var refusal *sigv4.Error
	if !errors.As(err, &refusal) {
		return err
	}
	if refusal.Code == sigv4.CodeTooLarge {
		return &apiError{http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", refusal.Message, ""}
	}
	kind, ok := signatureKinds[refusal.Code]
	if !ok {
		kind = "AccessDeniedException"
	}
	return &apiError{http.StatusForbidden, kind, refusal.Message, ""}
}

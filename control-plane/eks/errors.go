package eks

import (
	"fmt"
	"net/http"
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

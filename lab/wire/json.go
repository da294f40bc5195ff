package wire

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
)

// Target is what a request of the protocol JSON 1.1 asks for: its target without the
// service's prefix, such as "AmazonSSM."; empty when it is not such a request.
func Target(r *http.Request, prefix string) string {
	action, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), prefix)
	if !ok || r.Method != http.MethodPost || r.URL.Path != "/" {
		return ""
	}
	return action
}

// JSON answers as services of the protocol JSON 1.1 do. Its fields are what each of them says
// in its own words.
type JSON struct {
	Exhausted Error  // a quota is used up
	Internal  string // the code of a fault of the service's own, which stays untold
}

// Write sends a value, or an error.
func (j JSON) Write(w http.ResponseWriter, value any, err error) {
	status := http.StatusOK
	if err != nil {
		code, message := j.explain(err)
		status = http.StatusBadRequest
		if code == j.Internal {
			status = http.StatusInternalServerError
		}
		value = map[string]string{"__type": code, "message": message}
	}
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, "cannot encode the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// explain turns an error into what the service would send.
func (j JSON) explain(err error) (code, message string) {
	var refused *sigv4.Error
	var told *Error
	switch {
	case errors.As(err, &told):
		return told.Code, told.Message
	case errors.Is(err, ErrThrottled):
		return "ThrottlingException", "Rate exceeded"
	case errors.Is(err, ErrExhausted):
		return j.Exhausted.Code, j.Exhausted.Message
	case errors.Is(err, ErrDenied):
		return "AccessDeniedException", "Access denied"
	case errors.As(err, &refused):
		return JSONCode(refused), refused.Message
	}
	return j.Internal, "An error occurred on the server side."
}

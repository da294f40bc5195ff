package apiserver

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// mostSkew is how far a clock may be off before it is told of: STS takes a signature from up
// to five minutes ahead.
const mostSkew = 4 * time.Minute

// ErrWrongClock means that a token was refused which this machine's clock has dated wrong.
var ErrWrongClock = errors.New("it refuses the token")

// clockError returns an error if the API server, which has just refused a token, has dated
// its answer so far from now that the token must be dated wrong; else, and for an answer
// whose date some proxy has taken away, nil.
func clockError(response *http.Response, now time.Time) error {
	theirs, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return nil //nolint:nilerr // it says nothing of the clock
	}
	switch off := now.Sub(theirs).Round(time.Minute); {
	case off > mostSkew:
		return fmt.Errorf("%w: this machine's clock is %s ahead of the API server's", ErrWrongClock, off)
	case -off > mostSkew:
		return fmt.Errorf("%w: this machine's clock is %s behind the API server's", ErrWrongClock, -off)
	}
	return nil
}

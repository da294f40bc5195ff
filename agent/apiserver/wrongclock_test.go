package apiserver

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestARefusedTokenAndAnAnswerOfAnotherTimeAreTheClocksFault(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for date, want := range map[string]string{
		"Wed, 04 Mar 2026 08:06:07 GMT": "clock is 3h0m0s behind the API server's",
		"Wed, 04 Mar 2026 04:46:07 GMT": "clock is 20m0s ahead of the API server's",
		"Wed, 04 Mar 2026 05:04:00 GMT": "",
		"":                              "",
		"yesterday":                     "",
	} {
		err := clockError(&http.Response{Header: http.Header{"Date": {date}}}, now)
		if err == nil != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", date, err, want)
		}
	}
}

package resource

import (
	"testing"
	"time"
)

func TestDurationsAreThoseOfISO8601UpToTwelveHours(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"PT15M": 15 * time.Minute, "PT1H30M5S": 90*time.Minute + 5*time.Second, "PT0S": 0, "PT43200S": 12 * time.Hour,
		"": -1, "PT": -1, "15M": -1, "P1D": -1, "PT1M1H": -1, "PT12H1S": -1, "PT99999999999999999999S": -1,
	} {
		got, err := Duration(text)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q is %s, %v", text, got, err)
		}
	}
}

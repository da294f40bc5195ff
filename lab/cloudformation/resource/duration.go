package resource

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

var iso8601 = regexp.MustCompile(`^PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?$`)

// Duration reads one of ISO 8601, as PT1H30M, of 12 hours at most: policies take no longer ones.
func Duration(text string) (time.Duration, error) {
	m := iso8601.FindStringSubmatch(text)
	if m == nil || text == "PT" {
		return 0, fmt.Errorf("want a duration such as PT15M, not %q", text)
	}
	var sum time.Duration
	for i, unit := range []time.Duration{time.Hour, time.Minute, time.Second} {
		if m[i+1] != "" {
			n, err := strconv.Atoi(m[i+1])
			if err != nil || n > 12*3600 {
				return 0, fmt.Errorf("the duration %q is above 12 hours", text)
			}
			sum += time.Duration(n) * unit
		}
	}
	if sum > 12*time.Hour {
		return 0, fmt.Errorf("the duration %q is above 12 hours", text)
	}
	return sum, nil
}

package logs

import (
	"regexp"
	"strings"
)

var (
	plainTerm = regexp.MustCompile(`^\w+$`)
	term      = regexp.MustCompile(`^"[^"\\]+"|^\S+`)
)

// terms are those of a filter pattern, which all have to be in a message. Only a pattern of
// plain terms is one: of letters, digits and underscores, or of anything in quotation marks.
func terms(pattern string) ([]string, error) {
	pattern = strings.TrimSpace(pattern)
	for prefix, kind := range map[string]string{"{": "JSON", "[": "fields", "%": "regular expressions"} {
		if strings.HasPrefix(pattern, prefix) {
			return nil, invalid("The lab does not support filter patterns of %s: %s", kind, pattern)
		}
	}
	var all []string
	for rest := pattern; rest != ""; {
		t := term.FindString(rest)
		rest = strings.TrimSpace(rest[len(t):])
		switch {
		case strings.HasPrefix(t, "?"):
			return nil, invalid("The lab does not support optional terms in filter patterns: %s", t)
		case strings.HasPrefix(t, "-"):
			return nil, invalid("The lab does not support excluded terms in filter patterns: %s", t)
		case len(t) > 2 && t[0] == '"' && t[len(t)-1] == '"' && !strings.ContainsAny(t[1:len(t)-1], `"\`):
			all = append(all, t[1:len(t)-1])
		case plainTerm.MatchString(t):
			all = append(all, t)
		default:
			return nil, invalid("Invalid character(s) in term '%s'", t)
		}
	}
	return all, nil
}

func matches(message string, terms []string) bool {
	for _, t := range terms {
		if !strings.Contains(message, t) {
			return false
		}
	}
	return true
}

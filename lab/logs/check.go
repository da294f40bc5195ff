package logs

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// What names consist of, by the API reference.
var (
	groupName       = regexp.MustCompile(`^[\.\-_/#A-Za-z0-9]+$`)
	groupPart       = regexp.MustCompile(`^[\.\-_/#A-Za-z0-9]*$`)
	groupIdentifier = regexp.MustCompile(`^[\w#+=/:,.@-]*$`)
	streamName      = regexp.MustCompile(`^[^:*]*$`)
	tagKey          = regexp.MustCompile(`^([\p{L}\p{Z}\p{N}_.:/=+\-@]+)$`)
	tagValue        = regexp.MustCompile(`^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$`)
	anything        = regexp.MustCompile(``)
)

// maxName is how long names of groups and streams are, in characters.
const maxName = 512

// retentions are the days that a log group may keep its events.
var retentions = []int64{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

func refuse(code, format string, args ...any) error {
	return &wire.Error{Status: http.StatusBadRequest, Code: code, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return refuse("InvalidParameterException", format, args...)
}

// check reads parameters, and keeps what is wrong with the first of them.
type check struct{ err error }

// fail is told of a parameter in CloudWatch's words. A value of nil is one that is not there.
func (c *check) fail(value any, name, constraint string, args ...any) {
	if c.err != nil {
		return
	}
	shown := "null"
	if value != nil {
		shown = fmt.Sprintf("'%v'", value)
	}
	c.err = invalid("1 validation error detected: Value %s at '%s' failed to satisfy constraint: Member must %s", shown, name, fmt.Sprintf(constraint, args...))
}

// required is a name that must be there.
func (c *check) required(name string, value *string, pattern *regexp.Regexp) string {
	if value == nil {
		c.fail(nil, name, "not be null")
	}
	return c.text(name, value, 1, maxName, pattern)
}

// text is a text, or empty when it is not there. Its length is counted in characters.
func (c *check) text(name string, value *string, least, most int, pattern *regexp.Regexp) string {
	if value == nil {
		return ""
	}
	switch n := utf8.RuneCountInString(*value); {
	case n < least:
		c.fail(*value, name, "have length greater than or equal to %d", least)
	case n > most:
		c.fail(*value, name, "have length less than or equal to %d", most)
	case !pattern.MatchString(*value):
		c.fail(*value, name, "satisfy regular expression pattern: %s", strings.TrimSuffix(strings.TrimPrefix(pattern.String(), "^"), "$"))
	}
	return *value
}

// within is a number with limits; otherwise is what it is when it is not there.
func (c *check) within(name string, value *int64, least, most, otherwise int64) int64 {
	switch {
	case value == nil:
		return otherwise
	case *value < least:
		c.fail(*value, name, "have value greater than or equal to %d", least)
	case *value > most:
		c.fail(*value, name, "have value less than or equal to %d", most)
	}
	return *value
}

// oneOf is one of some values, or empty when it is not there.
func (c *check) oneOf(name string, value *string, values ...string) string {
	if value == nil {
		return ""
	}
	if !slices.Contains(values, *value) {
		c.fail(*value, name, "satisfy enum value set: [%s]", strings.Join(values, ", "))
	}
	return *value
}

// retention is how many days events are kept.
func (c *check) retention(name string, value *int64) int {
	switch {
	case value == nil:
		c.fail(nil, name, "not be null")
		return 0
	case !slices.Contains(retentions, *value):
		c.fail(*value, name, "satisfy enum value set: [%s]", strings.Join(strings.Fields(strings.Trim(fmt.Sprint(retentions), "[]")), ", "))
	}
	return int(*value)
}

// newGroup is the name of a group that is to be made.
func (c *check) newGroup(name *string) string {
	n := c.required("logGroupName", name, groupName)
	if c.err == nil && strings.HasPrefix(strings.ToLower(n), "aws/") {
		c.err = invalid("Log groups starting with AWS/ are reserved for AWS.")
	}
	return n
}

// tags are a group's, without those of AWS's own.
func (c *check) tags(tags map[string]string) {
	if tags != nil && (len(tags) < 1 || len(tags) > 50) && c.err == nil {
		c.err = invalid("A log group that is given tags has between 1 and 50 of them.")
	}
	for key, value := range tags {
		c.text("tags", &key, 1, 128, tagKey)
		c.text("tags."+key, &value, 0, 256, tagValue)
		if c.err == nil && strings.HasPrefix(strings.ToLower(key), "aws:") {
			c.err = invalid("Tag keys starting with aws: are reserved for AWS: %s", key)
		}
	}
}

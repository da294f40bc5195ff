package iam

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/query"
)

// Kind is what a policy document is for, which decides the elements that it may have.
type Kind int

// Kinds of policy documents.
const (
	Identity Kind = iota // of a role: what it may do
	Trust                // of a role: who may assume it
	Resource             // of a bucket or a key: who may do what with it
)

var (
	sid    = regexp.MustCompile(`^[0-9A-Za-z]*$`)
	action = regexp.MustCompile(`^(\*|[a-z0-9-]+:[A-Za-z0-9*?]+)$`)
	arn    = regexp.MustCompile(`^(\*|arn:[a-z*-]+:[^:]*:[^:]*:[^:]*:.+)$`)
)

// operators are the condition operators, without IfExists and the set prefixes.
var operators = []string{
	"StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike", "StringNotLike",
	"NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals",
	"DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals",
	"Bool", "BinaryEquals", "IpAddress", "NotIpAddress", "ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike", "Null",
}

func malformed(format string, args ...any) error {
	return query.Refuse("MalformedPolicyDocument", format, args...)
}

// CheckDocument holds a policy document, an object or its JSON, to the grammar of IAM. It does
// not know which actions there are.
func CheckDocument(document any, kind Kind) error {
	if text, ok := document.(string); ok {
		var parsed any
		if err := json.Unmarshal([]byte(text), &parsed); err != nil {
			return malformed("Syntax errors in policy. (%v)", err)
		}
		document = parsed
	}
	object, ok := document.(map[string]any)
	if !ok {
		return malformed("Syntax errors in policy. (it is no object)")
	}
	if err := only(object, "Version", "Id", "Statement"); err != nil {
		return err
	}
	if v, ok := object["Version"]; ok && v != "2012-10-17" && v != "2008-10-17" {
		return malformed("The policy must contain a valid version string (not %v)", v)
	}
	statements, ok := object["Statement"].([]any)
	if single, isObject := object["Statement"].(map[string]any); isObject {
		statements, ok = []any{single}, true
	}
	if !ok || len(statements) == 0 {
		return malformed("Missing required field Statement")
	}
	seen := map[string]bool{}
	for i, v := range statements {
		statement, ok := v.(map[string]any)
		if !ok {
			return malformed("Syntax errors in policy. (statement %d is no object)", i)
		}
		if err := check(statement, kind); err != nil {
			return malformed("statement %d: %v", i, err)
		}
		if name, _ := statement["Sid"].(string); name != "" {
			if seen[name] {
				return malformed("Statement IDs (SID) in a single policy must be unique. (%s)", name)
			}
			seen[name] = true
		}
	}
	return nil
}

func only(object map[string]any, known ...string) error {
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(known, key) {
			return malformed("Syntax errors in policy. (unknown element %s)", key)
		}
	}
	return nil
}

// check holds one statement to the grammar.
func check(s map[string]any, kind Kind) error {
	known := []string{"Sid", "Effect", "Action", "NotAction", "Condition"}
	if kind != Identity {
		known = append(known, "Principal", "NotPrincipal")
	}
	if kind != Trust {
		known = append(known, "Resource", "NotResource")
	}
	if err := only(s, known...); err != nil {
		return err
	}
	if v, ok := s["Sid"]; ok {
		text, isText := v.(string)
		if !isText || kind == Identity && !sid.MatchString(text) {
			return fmt.Errorf("Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*") //nolint:staticcheck // IAM's words
		}
	}
	if v := s["Effect"]; v != "Allow" && v != "Deny" {
		return fmt.Errorf("Invalid effect: %v", s["Effect"]) //nolint:staticcheck // IAM's words
	}
	if err := either(s, "Action", "NotAction", action, "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."); err != nil {
		return err
	}
	if kind != Trust {
		if err := either(s, "Resource", "NotResource", arn, "Resource must be in ARN format or \"*\"."); err != nil {
			return err
		}
	}
	if kind != Identity {
		if err := principal(s); err != nil {
			return err
		}
	}
	return conditions(s["Condition"])
}

// either reads an element that has a negative, of which a statement has one.
func either(s map[string]any, name, not string, form *regexp.Regexp, otherwise string) error {
	v, ok := s[name]
	other, also := s[not]
	switch {
	case ok && also:
		return fmt.Errorf("a statement has %s or %s", name, not)
	case also:
		v = other
	case !ok:
		return fmt.Errorf("Policy statement must contain %ss.", strings.ToLower(name)) //nolint:staticcheck // IAM's words
	}
	values, isList := texts(v)
	if !isList || len(values) == 0 {
		return fmt.Errorf("%s is a string or a list of strings", name)
	}
	for _, value := range values {
		if !form.MatchString(value) {
			return fmt.Errorf("%s (%s)", otherwise, value)
		}
	}
	return nil
}

// texts is a string or a list of strings.
func texts(v any) ([]string, bool) {
	if text, ok := v.(string); ok {
		return []string{text}, true
	}
	list, ok := v.([]any)
	var values []string
	for _, element := range list {
		text, isText := element.(string)
		if !isText {
			return nil, false
		}
		values = append(values, text)
	}
	return values, ok
}

func principal(s map[string]any) error {
	v, ok := s["Principal"]
	if other, also := s["NotPrincipal"]; also {
		v, ok = other, true
	}
	if v == "*" {
		return nil
	}
	object, isObject := v.(map[string]any)
	if !ok || !isObject || len(object) == 0 {
		return fmt.Errorf("a statement has a Principal: \"*\" or an object")
	}
	if err := only(object, "AWS", "Service", "Federated", "CanonicalUser"); err != nil {
		return err
	}
	for kind, v := range object {
		values, isList := texts(v)
		if !isList || len(values) == 0 {
			return fmt.Errorf("the Principal %s is a string or a list of strings", kind)
		}
		for _, value := range values {
			if kind == "Service" && !strings.Contains(value, ".amazonaws.com") {
				return fmt.Errorf("Invalid principal in policy: \"SERVICE\":\"%s\"", value) //nolint:staticcheck // IAM's words
			}
		}
	}
	return nil
}

func conditions(v any) error {
	if v == nil {
		return nil
	}
	object, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("a Condition is an object")
	}
	for operator, keys := range object {
		bare := strings.TrimSuffix(operator, "IfExists")
		if _, rest, ok := strings.Cut(bare, ":"); ok && (strings.HasPrefix(bare, "ForAnyValue:") || strings.HasPrefix(bare, "ForAllValues:")) {
			bare = rest
		}
		if !slices.Contains(operators, bare) {
			return fmt.Errorf("Invalid Condition type : %s.", operator) //nolint:staticcheck // IAM's words
		}
		values, ok := keys.(map[string]any)
		if !ok || len(values) == 0 {
			return fmt.Errorf("condition %s is an object of keys", operator)
		}
	}
	return nil
}
